"""A real gearshift whose runs take as long as a file says (`loadtests.remote.pace`).

python -m loadtests.remote.far_server PACE --repository DIR --state-dir DIR --grpc-port N
"""

from __future__ import annotations

import argparse
import asyncio
import math
from pathlib import Path
from unittest.mock import patch

from loadtests.remote.pace import Paced

from gearshift.app import server
from gearshift.app.settings import load_settings
from gearshift.cli.running import configure_logs, run
from gearshift.core.catalog import Model, Variant
from gearshift.executors.onnx import OnnxExecutor
from gearshift.ports import Tensors, Worker


class Distant(OnnxExecutor):
    """Right answers, after a while."""

    def __init__(self, pace: Path) -> None:
        super().__init__(["CPUExecutionProvider"])
        self._paced = Paced(pace)

    @property
    def runs_here(self) -> bool:
        return False

    async def run(
        self,
        worker: Worker,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float = math.inf,
    ) -> Tensors:
        outputs = await super().run(worker, model, variant, inputs)
        await asyncio.sleep(self._paced.next())
        return outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pace", type=Path)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    asked = parser.parse_args()
    settings = load_settings(
        repository=asked.repository,
        state_dir=asked.state_dir,
        grpc_port=asked.grpc_port,
        http_port=0,
        workers=4,
        log_level="warning",
    )
    configure_logs(settings)

    def announce(grpc: str, http: str) -> None:
        print(f"gearshift is ready: gRPC on {grpc}, metrics on {http}/metrics", flush=True)

    with patch.object(server, "make_executors", lambda settings: {"onnx": Distant(asked.pace)}):
        run(lambda: server.serve(settings, lambda *_: None, announce))


if __name__ == "__main__":
    main()
