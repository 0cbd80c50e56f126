"""One request to the first model of a server: ADDRESS [CERTIFICATE-AUTHORITY [NAME]].

Stock tritonclient: asks what is served and what its inputs look like, sends zeros, prints who
answered. With an authority it speaks TLS; NAME is what the certificate must bear. It shows the
token in GEARSHIFT_TOKEN, if there is one.
"""

import os
import pathlib
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import triton_to_np_dtype

address, *tls = sys.argv[1:]
options = {}
if tls:
    authority = pathlib.Path(tls[0])
    options = {"ssl": True, "root_certificates": str(authority) if authority.exists() else None}
    options["channel_args"] = [("grpc.ssl_target_name_override", name) for name in tls[1:]]
client = triton.InferenceServerClient(address, **options)
token = os.environ.get("GEARSHIFT_TOKEN", "").strip()
shown = {"headers": {"authorization": f"Bearer {token}"} if token else None, "client_timeout": 30}
model = client.get_model_repository_index(**shown).models[0].name
inputs = []
for each in client.get_model_metadata(model, **shown).inputs:
    # -1 is what may vary: the rows of a batch.
    shape = [size if size > 0 else 1 for size in each.shape]
    tensor = triton.InferInput(each.name, shape, each.datatype)
    kind = triton_to_np_dtype(each.datatype)
    tensor.set_data_from_numpy(
        np.full(shape, b"", kind) if kind is np.object_ else np.zeros(shape, kind)
    )
    inputs.append(tensor)
answer = client.infer(model, inputs, **shown).get_response()
said = answer.parameters
print(
    f"{model} answered: variant {said['variant'].string_param},"
    f" accuracy {said['accuracy'].double_param:.4f}, because {said['reason'].string_param}"
)
