"""A real server whose executors go wrong as a file says, which may change while it runs.

    python -m loadtests.reliability.faulty_server PLAN --repository DIR --state-dir DIR

serves as `gearshift serve` does. PLAN is JSON as `gearshift.executors.fault_plan.plan_from` reads
it, and is read again when it is another file: no file, no faults. Write it elsewhere and rename it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from unittest.mock import patch

from gearshift.app import server
from gearshift.app.settings import load_settings
from gearshift.cli.running import configure_logs, run
from gearshift.executors.faulty import ToldByFile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--grpc-port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    asked = parser.parse_args()
    settings = load_settings(
        repository=asked.repository,
        state_dir=asked.state_dir,
        grpc_port=asked.grpc_port,
        http_port=asked.http_port,
    )
    configure_logs(settings)

    def announce(grpc: str, http: str) -> None:
        print(f"gearshift is ready: gRPC on {grpc}, metrics on {http}/metrics", flush=True)

    whole = server.make_executors(settings)
    faulty = {name: ToldByFile(executor, asked.plan) for name, executor in whole.items()}
    with patch.object(server, "make_executors", lambda settings: faulty):
        run(lambda: server.serve(settings, lambda *_: None, announce))


if __name__ == "__main__":
    main()
