"""preStop: SECONDS [ADMIN]. The image has no shell and no `sleep`.

The server goes on serving until no balancer knows the pod any more. Where TLS ends at Envoy, whose
admin address is given then, its clients are told to connect elsewhere first.
"""

import contextlib
import sys
import time
import urllib.request

for admin in sys.argv[2:]:
    with contextlib.suppress(OSError):
        fail = urllib.request.Request(f"http://{admin}/healthcheck/fail", method="POST")
        urllib.request.urlopen(fail, timeout=2).close()
time.sleep(float(sys.argv[1]))
