"""The Envoy of deploy/envoy/envoy.yaml, made to ask the names of a fleet on this machine."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from loadtests.fleet.names import NAME
from loadtests.peers.peer import ROOT
from loadtests.peers.processes import free_port

CONFIGURATION = ROOT / "deploy" / "envoy" / "envoy.yaml"
PROGRAM = ROOT / "build" / "deploy-venv" / "bin" / "envoy"
READY_WITHIN = 30.0


def configured(grpc_port: int, admin_port: int, replica_port: int, names_port: int) -> Any:
    """The file as it is, but for its ports, its addresses and whom it asks for names."""
    told = yaml.safe_load(CONFIGURATION.read_text())
    told["admin"]["address"]["socket_address"]["port_value"] = admin_port
    (listener,) = told["static_resources"]["listeners"]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": grpc_port}
    (cluster,) = told["static_resources"]["clusters"]
    (locality,) = cluster["load_assignment"]["endpoints"]
    (endpoint,) = locality["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    assert address["address"] == NAME
    address["port_value"] = replica_port
    kind = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
    cluster["cluster_type"]["typed_config"]["typed_dns_resolver_config"] = {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": f"type.googleapis.com/{kind}",
            "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": names_port}}],
            "dns_resolver_options": {"no_default_search_domain": True},
        },
    }
    return told


class Envoy:
    """One that runs; `address` is for callers."""

    def __init__(self, address: str, admin: str) -> None:
        self.address = address
        self._admin = admin

    async def counters(self) -> Mapping[str, int]:
        """What it has counted of its cluster, by name, as in `upstream_rq_retry`."""
        page = await self._page("/stats?format=json&filter=^cluster.gearshift\\.")
        return {
            stat["name"].removeprefix("cluster.gearshift."): stat["value"]
            for stat in json.loads(page)["stats"]
            if "value" in stat
        }

    async def until_healthy(self, count: int) -> None:
        """TimeoutError if it does not see that many healthy replicas soon."""
        async with asyncio.timeout(READY_WITHIN):
            while True:
                try:
                    if (await self.counters()).get("membership_healthy") == count:
                        return
                except OSError:
                    pass
                await asyncio.sleep(0.1)

    async def _page(self, path: str) -> str:
        def read() -> str:
            with urllib.request.urlopen(f"http://{self._admin}{path}", timeout=5) as page:
                return str(page.read().decode())

        return await asyncio.to_thread(read)


@asynccontextmanager
async def proxying(folder: Path, replica_port: int, names_port: int) -> AsyncIterator[Envoy]:
    """An Envoy until the block ends; its log is in the folder."""
    grpc_port, admin_port = free_port(), free_port()
    told = configured(grpc_port, admin_port, replica_port, names_port)
    file = folder / "envoy.yaml"
    file.write_text(yaml.safe_dump(told, sort_keys=False))
    with (folder / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(str(PROGRAM), "--config-path", str(file), "--concurrency", "1"),
            *("--log-level", "warning", "--use-dynamic-base-id"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Envoy(f"127.0.0.1:{grpc_port}", f"127.0.0.1:{admin_port}")
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
