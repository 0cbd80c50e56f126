"""TLS and access control whose files go wrong, and callers who are not let in."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
from loadtests.reliability.callers import Kind, message
from loadtests.reliability.faults.clients import told
from loadtests.reliability.faults.fault import Act, Fault, Group
from loadtests.reliability.faults.scene import CHANNEL, Scene
from tritonclient.grpc import service_pb2_grpc

from access_file import AccessPlace
from certified import Certified, Issuer

STAYS = "cannot be read anew and stays as it was"
ANEW = "was read anew"
CALLS = 100
DENIED = "gearshift_denied_total"


class AccessScene(Scene):
    """Speaks TLS on the gRPC port, and knows its callers by an access file."""

    def prepare(self) -> tuple[str, ...]:
        self.certified = Certified(self.folder / "tls")
        self.issuer = Issuer(self.folder)
        self.issuer.publish()
        self.access = AccessPlace(self.folder / "access", jwks=self.issuer.jwks)
        self.metadata = (("authorization", f"Bearer {self.access.ops}"),)
        return (
            *("--tls-certificate", str(self.certified.certificate)),
            *("--tls-key", str(self.certified.key), "--set", "http_tls=false"),
            *("--access", str(self.access.path)),
            *("--set", f"audit_log={self.folder / 'audit.jsonl'}"),
        )

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(self._name, self._trusting(), CHANNEL)

    @property
    def _name(self) -> str:
        return self.grpc.replace("127.0.0.1", "localhost")

    def _trusting(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.certified.ca.read_bytes())

    def asked(self, authorization: str, times: int, plain: bool = False) -> Counter[str]:
        """How so many calls with these credentials end."""
        found: Counter[str] = Counter()
        shown = [("authorization", authorization)] if authorization else []
        channel = (
            grpc.insecure_channel(self._name, CHANNEL)
            if plain
            else grpc.secure_channel(self._name, self._trusting(), CHANNEL)
        )
        with channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for _ in range(times):
                try:
                    stub.ModelInfer(message(Kind(1), 1.0, 1.0), timeout=10, metadata=shown)
                    found["OK"] += 1
                except grpc.RpcError as error:
                    found[error.code().name] += 1
        return found


def secured(act: Callable[[AccessScene], str]) -> Act:
    def checked(scene: Scene) -> str:
        assert isinstance(scene, AccessScene)
        return act(scene)

    return checked


def replaced(
    name: str, file: Callable[[AccessScene], Path], spoil: Callable[[AccessScene, Path], object]
) -> Fault:
    """A file is replaced by one that cannot be used, which is told and changes nothing."""

    def strike(scene: AccessScene) -> str:
        since = scene.log.stat().st_size
        path = file(scene)
        shutil.copy(path, scene.folder / "aside")
        spoil(scene, path)
        return scene.said(STAYS, since)

    def mend(scene: AccessScene) -> str:
        since = scene.log.stat().st_size
        path = file(scene)
        (scene.folder / "aside").rename(path)
        time.sleep(0.01)
        path.touch()
        return scene.said(ANEW, since)

    return Fault(name=name, strike=secured(strike), mend=secured(mend), seconds=1.0)


def shown(name: str, header: Callable[[AccessScene], str], only: str) -> Fault:
    """Calls with credentials that must not be believed."""

    def strike(scene: AccessScene) -> str:
        found = scene.asked(header(scene), CALLS)
        if set(found) != {only}:
            raise RuntimeError(f"{dict(found)} instead of {only}")
        return told(found)

    return Fault(name=f"{CALLS} calls with {name}", strike=secured(strike), counted=DENIED)


def plain(scene: AccessScene) -> str:
    found = scene.asked(f"Bearer {scene.access.ops}", 20, plain=True)
    if "OK" in found:
        raise RuntimeError(f"{dict(found)}: some were let in")
    return told(found)


def other_key(scene: AccessScene, path: Path) -> None:
    shutil.copy(scene.certified.issue("another.example")[1], path)


FAULTS = (
    replaced(
        "the certificate is replaced by noise",
        lambda scene: scene.certified.certificate,
        lambda scene, path: path.write_text("-----BEGIN CERTIFICATE-----\nnoise\n"),
    ),
    replaced("the key is replaced by another's", lambda scene: scene.certified.key, other_key),
    replaced(
        "the access file is broken",
        lambda scene: scene.access.path,
        lambda scene, path: path.write_text("[[clients]]\nname = 3\n"),
    ),
    replaced(
        "the access file is removed",
        lambda scene: scene.access.path,
        lambda scene, path: path.unlink(),
    ),
    shown("no credentials", lambda scene: "", "UNAUTHENTICATED"),
    shown("a token that nobody has", lambda scene: "Bearer nobody", "UNAUTHENTICATED"),
    shown(
        "a JSON Web Token that has expired",
        lambda scene: f"Bearer {scene.issuer.sign(exp=time.time() - 60)}",
        "UNAUTHENTICATED",
    ),
    shown(
        "a token whose client may not use the model",
        lambda scene: f"Bearer {scene.access.desk}",
        "PERMISSION_DENIED",
    ),
    Fault(name="20 calls in plain text to a port that speaks TLS", strike=secured(plain)),
)

GROUPS = (Group("access", AccessScene, FAULTS),)
