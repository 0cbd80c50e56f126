"""Asks a server what a case asks, as a stock gRPC client."""

from __future__ import annotations

import grpc

from conformance.case import Case, Outcome

COMPRESSIONS = {
    "": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}
LARGEST = 2**31 - 1
OPTIONS = [("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST)]
CONNECT_WITHIN = 30.0


class Asking:
    """One connection to a server at `address`."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, OPTIONS)
        grpc.channel_ready_future(self._channel).result(CONNECT_WITHIN)

    def close(self) -> None:
        self._channel.close()

    def ask(self, case: Case) -> Outcome:
        for each in case.before:
            self.ask(each)
        about = {
            "timeout": case.timeout,
            "metadata": case.metadata,
            "compression": COMPRESSIONS[case.compression],
        }
        codec = (lambda message: message.SerializeToString(), case.answer.FromString)
        answers: list[object] = []
        try:
            if case.stream:
                method = self._channel.stream_stream(f"/{case.path}", *codec)
                # One by one: what came before an error counts.
                answers.extend(case.look(each) for each in method(iter(case.requests), **about))
            else:
                unary = self._channel.unary_unary(f"/{case.path}", *codec)
                call = unary.future(case.requests[0], **about)
                if case.leaves is not None:
                    self._leave(call, case.leaves)
                answers.append(case.look(call.result()))
        except grpc.FutureCancelledError:
            return Outcome("CANCELLED")
        except grpc.RpcError as error:
            return Outcome(error.code().name, bool(error.details()), answers)
        return Outcome("OK", False, answers)

    def _leave(self, call: grpc.Future, after: float) -> None:
        try:
            call.result(after)
        except grpc.FutureTimeoutError:
            call.cancel()
