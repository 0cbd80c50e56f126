"""What each client may do, over real connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2 as pb

from access_file import AccessPlace
from certified import Certified
from gearshift.access import Guard, Tls
from gearshift.access.tls import GRPC
from gearshift.core.rights import Group
from gearshift.rpc import server as server_module
from gearshift.rpc.groups import GROUPS, group_of
from gearshift.rpc.inside import call
from gearshift.v1 import gearshift_pb2

SERVICES = [
    *pb.DESCRIPTOR.services_by_name.values(),
    *gearshift_pb2.DESCRIPTOR.services_by_name.values(),
    *health_pb2.DESCRIPTOR.services_by_name.values(),
    *reflection_pb2.DESCRIPTOR.services_by_name.values(),
]
METHODS = {
    f"/{service.full_name}/{method.name}": method
    for service in SERVICES
    for method in service.methods
}
OIP = "/inference.GRPCInferenceService"
OURS = "/gearshift.v1.Gearshift"


class Taken:
    """An audit that a test can read."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, ...]] = []
        self.denials: list[tuple[str, str, str]] = []

    def acted(self, client: str, peer: str, action: str, target: str, result: str) -> None:
        self.lines.append((client, peer, action, target, result))

    def denied(self, client: str, peer: str, action: str, error: Exception) -> None:
        self.denials.append((client, action, type(error).__name__))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return AccessPlace(tmp_path_factory.mktemp("access"))


@pytest.fixture
def audit():
    return Taken()


@pytest.fixture
def guarded(make_bench, place, audit):
    return make_bench(access=Guard(place.path), audit=audit)


def ask(address: str, path: str, message=b"", token: str = "", credentials=None):
    """The status and the text, or the message. One message goes out, whatever the method."""
    method = METHODS[path]
    body = message if isinstance(message, bytes) else message.SerializeToString()
    metadata = [("authorization", f"Bearer {token}")] if token else []
    channel = (
        grpc.insecure_channel(address)
        if credentials is None
        else grpc.secure_channel(address, credentials)
    )
    with channel:
        kind = ("stream" if method.client_streaming else "unary") + (
            "_stream" if method.server_streaming else "_unary"
        )
        multi = getattr(channel, kind)(path)
        sent = iter([body]) if method.client_streaming else body
        try:
            told = multi(sent, metadata=metadata, timeout=5)
            if method.server_streaming:
                found = next(told, b"")
                told.cancel()
                return found
            return told
        except grpc.RpcError as error:
            return error.code(), error.details()


def infer_request(model: str = "m") -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    request.raw_input_contents.append(np.zeros((1, 3), np.float32).tobytes())
    return request


def test_every_method_that_is_served_has_its_place_in_the_table(make_bench) -> None:
    assert set(GROUPS) == set(METHODS)
    assert group_of("/unknown/Method") is Group.CONTROL
    open_ = {path for path, group in GROUPS.items() if group is Group.OPEN}
    assert open_ == {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        f"{OIP}/ServerLive",
        f"{OIP}/ServerReady",
        f"{OIP}/ModelReady",
    }
    served = make_bench().server._accepting._methods
    for path in METHODS:
        method = served.find(path)
        assert method is not None, path
        assert method.group is GROUPS[path]


def test_without_proof_only_health_is_told(guarded, audit) -> None:
    refused = {path for path, group in GROUPS.items() if group is not Group.OPEN}
    for path in METHODS:
        told = ask(guarded.address, path)
        denied = isinstance(told, tuple) and told[0] is grpc.StatusCode.UNAUTHENTICATED
        assert denied == (path in refused), (path, told)
    assert {action for _, action, _ in audit.denials} == refused
    assert audit.lines == []


def test_groups_that_were_not_given_are_forbidden(guarded, place, audit) -> None:
    for path, group in GROUPS.items():
        told = ask(guarded.address, path, token=place.desk)
        denied = isinstance(told, tuple) and told[0] is grpc.StatusCode.PERMISSION_DENIED
        assert denied or group is not Group.CONTROL, (path, told)
        told = ask(guarded.address, path, token=place.ops)
        assert not isinstance(told, tuple) or told[0] not in (
            grpc.StatusCode.PERMISSION_DENIED,
            grpc.StatusCode.UNAUTHENTICATED,
        )
    assert {client for client, _, _ in audit.denials} == {"desk"}


def test_a_client_hears_the_same_of_models_that_are_not_its_and_that_are_not_there(
    guarded, place, audit
) -> None:
    for path, message in (
        (f"{OIP}/ModelInfer", lambda name: infer_request(name)),
        (f"{OIP}/ModelMetadata", lambda name: pb.ModelMetadataRequest(name=name)),
        (f"{OIP}/ModelConfig", lambda name: pb.ModelConfigRequest(name=name)),
        (f"{OIP}/ModelStatistics", lambda name: pb.ModelStatisticsRequest(name=name)),
        (f"{OURS}/Explain", lambda name: gearshift_pb2.ExplainRequest(model=name)),
        (f"{OURS}/WatchFrontier", lambda name: gearshift_pb2.WatchFrontierRequest(models=[name])),
        (
            f"{OURS}/Feedback",
            lambda name: gearshift_pb2.FeedbackRequest(
                reports=[gearshift_pb2.Report(model=name, request_id="x", labels=[1])]
            ),
        ),
    ):
        others = ask(guarded.address, path, message("other"), place.desk)
        nobodys = ask(guarded.address, path, message("nobody"), place.desk)
        assert others[0] is nobodys[0] is grpc.StatusCode.PERMISSION_DENIED, path
        assert others[1].replace("other", "nobody") == nobodys[1]
        assert "its models are: m" in others[1]
        assert audit.denials == [("desk", path, "Forbidden")] * 2
        audit.denials.clear()


def test_in_a_stream_each_message_is_asked_for_its_model(guarded, place, audit) -> None:
    path = f"{OIP}/ModelStreamInfer"
    own = ask(guarded.address, path, infer_request(), place.desk)
    response = pb.ModelStreamInferResponse.FromString(own)
    assert response.error_message == ""
    other = ask(guarded.address, path, infer_request("other"), place.desk)
    response = pb.ModelStreamInferResponse.FromString(other)
    assert "may not use model 'other'" in response.error_message
    assert audit.denials == [("desk", path, "Forbidden")]


def test_a_shape_that_another_client_taught_the_connection_lets_nobody_in(guarded, place) -> None:
    with grpc.insecure_channel(guarded.address) as channel:
        infer = channel.unary_unary(f"{OIP}/ModelInfer")
        message = infer_request("other").SerializeToString()

        def asked(token: str) -> bytes:
            return infer(message, metadata=[("authorization", f"Bearer {token}")], timeout=5)

        for _ in range(3):
            asked(place.ops)
            with pytest.raises(grpc.RpcError) as caught:
                asked(place.desk)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_lists_show_what_is_the_clients_only(guarded, place) -> None:
    with triton.InferenceServerClient(guarded.address) as client:
        for token, models in ((place.desk, {"m"}), (place.ops, {"m", "other"})):
            headers = {"authorization": f"Bearer {token}"}
            index = client.get_model_repository_index(headers=headers)
            assert {each.name for each in index.models} == models
            told = client.get_inference_statistics(headers=headers)
            assert {each.name for each in told.model_stats} == models
        found = ask(guarded.address, f"{OIP}/ModelMetadata", pb.ModelMetadataRequest(name="m"))
        assert found[0] is grpc.StatusCode.UNAUTHENTICATED


def test_control_actions_are_taken_down_with_their_end(guarded, place, audit) -> None:
    remove = pb.SystemSharedMemoryUnregisterRequest(name="mine")
    ask(guarded.address, f"{OIP}/SystemSharedMemoryUnregister", remove, place.ops)
    load = pb.RepositoryModelLoadRequest(model_name="model")
    ask(guarded.address, f"{OIP}/RepositoryModelLoad", load, place.ops)
    logs = pb.LogSettingsRequest()
    logs.settings["log_verbose_level"].uint32_param = 1
    logs.settings["log_info"].bool_param = False
    ask(guarded.address, f"{OIP}/LogSettings", logs, place.ops)
    told = [(client, action.rpartition("/")[2], *rest) for client, _, action, *rest in audit.lines]
    assert told == [
        ("ops", "SystemSharedMemoryUnregister", "mine", "OK"),
        ("ops", "RepositoryModelLoad", "model", "UNIMPLEMENTED"),
        ("ops", "LogSettings", "log_info log_verbose_level", "UNIMPLEMENTED"),
    ]
    assert {peer for _, peer, *_ in audit.lines} == {"127.0.0.1"}


def test_without_access_control_actions_are_taken_down_all_the_same(make_bench, audit) -> None:
    bench = make_bench(audit=audit)
    ask(bench.address, f"{OIP}/SystemSharedMemoryUnregister")
    (line,) = audit.lines
    assert (line[0], line[-1]) == ("anonymous", "OK")


def test_one_from_inside_needs_no_proof_and_knows_no_port(guarded) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours:
        guarded.run(guarded.server.adopt_inside(theirs, lambda: None))
        asked = gearshift_pb2.ExplainRequest(model="m").SerializeToString()
        ended = asyncio.run(call(ours, f"{OURS}/Explain", asked, 5.0))
    assert ended.code is grpc.StatusCode.OK
    assert gearshift_pb2.ExplainResponse.FromString(ended.message).model == "m"


def until(true: Callable[[], bool]) -> None:
    waited = threading.Event()
    for _ in range(1_000):
        if true():
            return
        waited.wait(0.01)
    raise AssertionError("it did not come about")


# --- TLS ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    return Certified(tmp_path_factory.mktemp("tls"))


def tls_of(certified: Certified, **options) -> ssl.SSLContext:
    return Tls(certified.certificate, certified.key, **options).context(GRPC)


def test_a_certificate_is_a_clients_name(make_bench, place, certified, audit) -> None:
    bench = make_bench(
        tls=tls_of(certified, client_ca=certified.ca, required=False),
        access=Guard(place.path),
        audit=audit,
    )
    root = certified.ca.read_bytes()
    address = bench.address.replace("127.0.0.1", "localhost")
    chain, key = certified.issue("robot.example")
    robot = grpc.ssl_channel_credentials(root, key.read_bytes(), chain.read_bytes())
    path, message = f"{OIP}/ModelInfer", infer_request("other")
    assert isinstance(ask(address, path, message, credentials=robot), bytes)
    denied = ask(address, f"{OIP}/SystemSharedMemoryUnregister", credentials=robot)
    assert denied[0] is grpc.StatusCode.PERMISSION_DENIED
    assert audit.denials[-1][0] == "robot"
    nobody = grpc.ssl_channel_credentials(root)
    assert ask(address, path, message, credentials=nobody)[0] is grpc.StatusCode.UNAUTHENTICATED
    chain, key = certified.issue("stranger.example")
    stranger = grpc.ssl_channel_credentials(root, key.read_bytes(), chain.read_bytes())
    told = ask(address, path, message, credentials=stranger)
    assert told[0] is grpc.StatusCode.UNAUTHENTICATED
    assert isinstance(ask(address, path, message, place.desk, nobody), tuple)
    assert isinstance(ask(address, path, infer_request(), place.desk, nobody), bytes)


def test_plain_text_and_garbage_on_the_port_of_tls_end_and_leave_nothing(
    make_bench, certified, monkeypatch
) -> None:
    monkeypatch.setattr(server_module, "HANDSHAKE_WITHIN", 0.2)
    bench = make_bench(tls=tls_of(certified))
    port = bench.server.port
    assert ask(bench.address, f"{OIP}/ServerLive")[0] is grpc.StatusCode.UNAVAILABLE
    for sent in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\xff\xff", b"", b"\x00" * 999):
        with socket.create_connection(("127.0.0.1", port), 10) as silent:
            silent.sendall(sent)
            silent.settimeout(10)
            # The end comes by itself, also where nothing is said.
            with suppress(ConnectionError):
                while silent.recv(1_000):
                    pass
    until(lambda: not bench.server._connections)
    root = grpc.ssl_channel_credentials(certified.ca.read_bytes())
    told = ask(f"localhost:{port}", f"{OIP}/ServerLive", credentials=root)
    assert pb.ServerLiveResponse.FromString(told).live


def test_a_connection_that_was_accepted_elsewhere_has_its_handshake_here(
    make_bench, certified
) -> None:
    bench = make_bench()
    context = tls_of(certified)
    gone = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as door:

        def hand_over() -> None:
            accepted, _ = door.accept()
            accepted.setblocking(False)
            bench.run(bench.server.adopt(accepted, gone.set, context))

        handing = threading.Thread(target=hand_over)
        handing.start()
        root = grpc.ssl_channel_credentials(certified.ca.read_bytes())
        address = f"localhost:{door.getsockname()[1]}"
        told = ask(address, f"{OIP}/ServerLive", credentials=root)
        handing.join(10)
    assert pb.ServerLiveResponse.FromString(told).live
    assert gone.wait(10)


def test_a_handshake_that_fails_there_is_an_error_and_leaves_nothing(make_bench, certified):
    bench = make_bench()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        ours.sendall(b"no handshake at all\r\n")
        gone: list[int] = []
        adopted = bench.server.adopt(theirs, lambda: gone.append(1), tls_of(certified))
        with pytest.raises(OSError):  # noqa: PT011 - of some kind
            bench.run(asyncio.wait_for(adopted, 5))
    assert gone == []
    until(lambda: not bench.server._connections)
