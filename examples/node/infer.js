// Asks gearshift from Node.js: npm ci && node infer.js TARGET
// TARGET is HOST:PORT, or dns:///NAME:PORT for all addresses of a headless Service.
// The protocol comes from the server itself (reflection): no .proto file is needed.
'use strict';

const fs = require('node:fs');

const grpc = require('@grpc/grpc-js');
const { GrpcReflection } = require('grpc-js-reflection-client');

const OPTIONS = {
  'grpc.service_config': JSON.stringify({
    loadBalancingConfig: [{ round_robin: {} }],
    methodConfig: [{
      name: [{ service: 'inference.GRPCInferenceService' }],
      retryPolicy: {
        maxAttempts: 3,
        initialBackoff: '0.02s',
        maxBackoff: '0.5s',
        backoffMultiplier: 2,
        retryableStatusCodes: ['UNAVAILABLE', 'RESOURCE_EXHAUSTED'],
      },
    }],
  }),
  'grpc.keepalive_time_ms': 30000,
  'grpc.keepalive_timeout_ms': 5000,
  'grpc.keepalive_permit_without_calls': 1,
};

// TLS where GEARSHIFT_TLS_CA names the file of its authority, and the token in GEARSHIFT_TOKEN with
// each call.
function credentials() {
  const { GEARSHIFT_TLS_CA: authority, GEARSHIFT_TOKEN: token } = process.env;
  if (!authority) return grpc.credentials.createInsecure();
  const secure = grpc.credentials.createSsl(fs.readFileSync(authority));
  if (!token) return secure;
  const shown = new grpc.Metadata();
  shown.set('authorization', `Bearer ${token}`);
  const each = grpc.credentials.createFromMetadataGenerator((_, done) => done(null, shown));
  return grpc.credentials.combineChannelCredentials(secure, each);
}

async function clientOf(target) {
  const secure = credentials();
  const reflection = new GrpcReflection(target, secure);
  const descriptor = await reflection.getDescriptorBySymbol('inference.GRPCInferenceService');
  const loaded = descriptor.getPackageObject({ keepCase: true, longs: Number });
  return new loaded.inference.GRPCInferenceService(target, secure, OPTIONS);
}

// As reflection describes it, a map is what it is on the wire: a list of keys and values.
const toMap = (object) => Object.entries(object).map(([key, value]) => ({ key, value }));
const fromMap = (list) => Object.fromEntries(list.map(({ key, value }) => [key, value]));

function infer(client, floor) {
  const request = {
    model_name: 'fraud',
    inputs: [{ name: 'features', datatype: 'FP32', shape: [1, 30] }],
    raw_input_contents: [Buffer.from(new Float32Array(30).buffer)],
    parameters: toMap({
      service_class: { string_param: 'batch' },
      min_accuracy: { double_param: floor },
    }),
  };
  // The deadline is the budget, for all tries together.
  const deadline = new Date(Date.now() + 900);
  return new Promise((resolve, reject) => {
    client.ModelInfer(request, { deadline }, (error, answer) => {
      if (error) reject(error);
      else resolve(answer);
    });
  });
}

async function main(target) {
  const client = await clientOf(target);
  for (const floor of [0, 2]) {
    try {
      const answer = await infer(client, floor);
      const bytes = answer.raw_output_contents[0];
      const told = fromMap(answer.parameters);
      console.log(
        `${bytes.readFloatLE(0)} by ${told.variant.string_param}`
        + ` (accuracy ${told.accuracy.double_param.toFixed(3)}, ${told.reason.string_param})`,
      );
    } catch (error) {
      // FAILED_PRECONDITION: asking again helps nobody, the text names what would work.
      console.log(`${grpc.status[error.code]}: ${error.details}`);
    }
  }
  client.close();
}

main(process.argv[2]).then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
