"""What is generated and kept must be what the .proto says."""

from __future__ import annotations

from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parents[2]


def test_the_generated_code_is_that_of_the_proto(tmp_path: Path) -> None:
    proto = ROOT / "protos/gearshift/v1/gearshift.proto"
    out = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    assert protoc.main(["", f"-I{ROOT / 'protos'}", *out, str(proto)]) == 0
    made = sorted((tmp_path / "gearshift" / "v1").iterdir())
    assert len(made) == 3
    for file in made:
        kept = ROOT / "service/gearshift/v1" / file.name
        assert kept.read_text() == file.read_text(), f"{file.name}: run `make protos`"
