#!/bin/sh
# Asks gearshift with grpcurl: sh grpcurl.sh HOST:PORT
# It learns the protocol from the server (reflection). GRPCURL may name the program.
set -eu
address=$1
grpcurl=${GRPCURL:-grpcurl}

"$grpcurl" -plaintext "$address" list
"$grpcurl" -plaintext -d '{}' "$address" grpc.health.v1.Health/Check
"$grpcurl" -plaintext -d '{"name": "fraud"}' "$address" inference.GRPCInferenceService/ModelMetadata

# Without raw bytes, numbers can be written as they are: one payment of 30 columns.
zeros=0,0,0,0,0,0,0,0,0,0
"$grpcurl" -plaintext -max-time 0.9 -d '{
  "model_name": "fraud",
  "inputs": [{
    "name": "features", "datatype": "FP32", "shape": [1, 30],
    "contents": {"fp32_contents": ['$zeros,$zeros,$zeros']}
  }],
  "parameters": {"service_class": {"string_param": "batch"}}
}' "$address" inference.GRPCInferenceService/ModelInfer

# What would such a request get, and why? Nothing runs.
"$grpcurl" -plaintext -d '{"model": "fraud", "latency_budget_ms": 5}' \
  "$address" gearshift.v1.Gearshift/Explain
