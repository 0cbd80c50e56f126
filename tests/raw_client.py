"""A client that sends what it is told to, and a request for the bench's model."""

from __future__ import annotations

import asyncio

import h2.config
import h2.connection
import h2.events
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from gearshift.rpc import wire

PATH = "/inference.GRPCInferenceService/ModelInfer"


def request(value: float = 2.0) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="m", id="1")
    made.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    made.raw_input_contents.append(np.full(3, value, np.float32).tobytes())
    return made


def value_of(answer: pb.ModelInferResponse) -> float:
    return float(np.frombuffer(answer.raw_output_contents[0], np.float32)[0])


class Raw:
    """A client that sends what it is told to."""

    def __init__(self, bench, path: str = PATH, extra=()) -> None:
        self.bench = bench
        self.path = path
        self.extra = extra
        self.client = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True, header_encoding="utf-8", validate_outbound_headers=False
            )
        )

    async def ask(self, *pieces: bytes, ended=True, content="application/grpc") -> dict[str, str]:
        """The last headers of the answer."""
        host, port = self.bench.address.split(":")
        reader, writer = await asyncio.open_connection(host, port)
        self.client.initiate_connection()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", self.path),
            (":authority", "x"),
            ("content-type", content),
            *self.extra,
        ]
        self.client.send_headers(1, headers)
        for index, piece in enumerate(pieces):
            self.client.send_data(1, piece, end_stream=ended and index == len(pieces) - 1)
        writer.write(self.client.data_to_send())
        last: dict[str, str] = {}
        kinds = (h2.events.ResponseReceived, h2.events.TrailersReceived)
        async with asyncio.timeout(10):
            while True:
                for event in self.client.receive_data(await reader.read(65_536)):
                    if isinstance(event, kinds):
                        last = dict(event.headers)
                    if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                        writer.close()
                        return last
                writer.write(self.client.data_to_send())


async def in_its_loop(bench, work) -> None:
    """Run the plain function `work` where the server runs."""

    async def run() -> None:
        work()

    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), bench.loop))


MESSAGE = request().SerializeToString()
FRAMED = wire.framed(MESSAGE)
