"""Who is who: tokens, JSON Web Tokens, certificates; what each may do; what was done.

Behind `ports.Access` and `ports.Audit`. Nothing here knows of gRPC or HTTP.
"""

from gearshift.access.audit import AuditLog
from gearshift.access.certificates import names_of
from gearshift.access.guard import Guard
from gearshift.access.metrics import AccessMetrics
from gearshift.access.tls import Tls
from gearshift.access.tokens import digest_of, new_token
from gearshift.access.watching import Watched

__all__ = [
    "AccessMetrics",
    "AuditLog",
    "Guard",
    "Tls",
    "Watched",
    "digest_of",
    "names_of",
    "new_token",
]
