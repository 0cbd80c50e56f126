#!/bin/sh
# Asks gearshift with grpcurl: sh grpcurl.sh HOST:PORT
# It learns the protocol from the server (reflection). GRPCURL may name the program. TLS where
# GEARSHIFT_TLS_CA names the file of its authority, with the token in GEARSHIFT_TOKEN.
set -eu
address=$1
grpcurl=${GRPCURL:-grpcurl}
if [ -n "${GEARSHIFT_TLS_CA:-}" ]; then set -- -cacert "$GEARSHIFT_TLS_CA"; else set -- -plaintext; fi
if [ -n "${GEARSHIFT_TOKEN:-}" ]; then
  # Taken from the environment by grpcurl itself: others on this machine can read command lines.
  export GEARSHIFT_TOKEN
  set -- "$@" -expand-headers -H 'authorization: Bearer ${GEARSHIFT_TOKEN}'
fi

"$grpcurl" "$@" "$address" list
"$grpcurl" "$@" -d '{}' "$address" grpc.health.v1.Health/Check
"$grpcurl" "$@" -d '{"name": "fraud"}' "$address" inference.GRPCInferenceService/ModelMetadata

# Without raw bytes, numbers can be written as they are: one payment of 30 columns.
zeros=0,0,0,0,0,0,0,0,0,0
"$grpcurl" "$@" -max-time 0.9 -d '{
  "model_name": "fraud",
  "inputs": [{
    "name": "features", "datatype": "FP32", "shape": [1, 30],
    "contents": {"fp32_contents": ['$zeros,$zeros,$zeros']}
  }],
  "parameters": {"service_class": {"string_param": "batch"}}
}' "$address" inference.GRPCInferenceService/ModelInfer

# What would such a request get, and why? Nothing runs.
"$grpcurl" "$@" -d '{"model": "fraud", "latency_budget_ms": 5}' \
  "$address" gearshift.v1.Gearshift/Explain
