"""An access file with one client of each kind."""

from __future__ import annotations

from pathlib import Path

from certified import AUDIENCE, ISSUER
from gearshift.access import digest_of, new_token


class AccessPlace:
    """The file, and the tokens in it: `ops` may everything, `desk` no control, and of the models
    only `m`."""

    def __init__(self, folder: Path, *, jwks: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "access.toml"
        self.ops, self.desk = new_token(), new_token()
        text = f"""
[[clients]]
name = "ops"
tokens_sha256 = ["{digest_of(self.ops)}"]
may = ["infer", "feedback", "observe", "control"]
models = ["*"]

[[clients]]
name = "desk"
tokens_sha256 = ["{digest_of(self.desk)}"]
may = ["infer", "feedback", "observe"]
models = ["m"]

[[clients]]
name = "robot"
certificates = ["spiffe://example/robot", "robot.example"]
may = ["infer", "observe"]
models = ["*"]
"""
        if jwks is not None:
            text += f"""
[[clients]]
name = "batch"
subjects = ["batch"]
may = ["infer"]
models = ["*"]

[jwt]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
algorithms = ["RS256"]
jwks_file = "{jwks}"
leeway_seconds = 5
"""
        self.path.write_text(text)
