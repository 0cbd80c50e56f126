"""What a remote server is shown, and what it must show: a CA, a client certificate, a token, each
from a file that may change while the server runs."""

from __future__ import annotations

from contextlib import closing

import grpc
import pytest
import trustme

from gearshift.errors import ExecutorUnavailable
from gearshift.executors.remote.credentials import LARGEST_TOKEN, token
from gearshift.executors.remote.intent import Remote
from remote_server import ROWS, SUMS, WORKERS, RemoteServer
from waiting import until_so


@pytest.fixture
def authority():
    return trustme.CA()


def served(authority: trustme.CA, clients: trustme.CA | None = None, port: int = 0) -> RemoteServer:
    """Over TLS; `clients` signs the certificates that callers must show."""
    certificate = authority.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    key = certificate.private_key_pem.bytes()
    return RemoteServer(
        credentials=grpc.ssl_server_credentials(
            [(key, chain)],
            None if clients is None else clients.cert_pem.bytes(),
            require_client_auth=clients is not None,
        ),
        port=port,
    )


async def test_tls_and_a_token_that_may_change(executor, authority, tmp_path, far):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    shown = tmp_path / "token"
    shown.write_text("first\n")
    more = f'tls = true\nca_file = "{tmp_path}/ca.pem"\ntoken_file = "{shown}"\n'
    with closing(served(authority)) as server:
        model, variant = far(server, more=more)
        executor.load(model, variant)
        await executor.run(WORKERS[0], model, variant, ROWS)
        shown.write_text("second\n")
        await executor.run(WORKERS[0], model, variant, ROWS)
    assert [each["authorization"] for each in server.metadata] == ["Bearer first", "Bearer second"]


def test_a_server_that_somebody_else_signed_is_not_spoken_to(executor, authority, tmp_path, far):
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    with closing(served(authority)) as server:
        more = f'tls = true\nca_file = "{tmp_path}/ca.pem"\n'
        with pytest.raises(ValueError, match=r"UNAVAILABLE: .*CERTIFICATE_VERIFY_FAILED"):
            executor.load(*far(server, more=more))
    assert not server.asked


def certified(clients: trustme.CA, folder) -> None:
    """A certificate of ours and its key."""
    mine = clients.issue_cert("gearshift@example.org")
    mine.private_key_pem.write_to_path(folder / "key.pem")
    mine.cert_chain_pems[0].write_to_path(folder / "mine.pem")


async def test_a_client_certificate_that_may_change(executor, authority, tmp_path, far):
    clients = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certified(clients, tmp_path)
    files = ("ca_file", "ca.pem"), ("certificate_file", "mine.pem"), ("key_file", "key.pem")
    with closing(served(authority, clients)) as server:
        without = f'tls = true\nca_file = "{tmp_path}/ca.pem"\n'
        with pytest.raises(ValueError, match="UNAVAILABLE"):
            executor.load(*far(server, more=without))
        more = "tls = true\n" + "".join(f'{n} = "{tmp_path}/{file}"\n' for n, file in files)
        model, variant = far(server, more=more)
        executor.load(model, variant)
        assert (await executor.run(WORKERS[0], model, variant, ROWS))["y"].tolist() == SUMS

        # From here on both sides trust others only, and nobody has told the executor.
        port = server.port
    others = trustme.CA(), trustme.CA()
    others[0].cert_pem.write_to_path(tmp_path / "ca.pem")
    certified(others[1], tmp_path)
    with closing(served(*others, port=port)) as server:

        async def runs() -> bool:
            try:
                await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
            except ExecutorUnavailable:
                return False
            return True

        await until_so(runs)


async def test_a_token_that_is_gone_for_a_while(executor, authority, tmp_path, far):
    returned: list[int] = []
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    shown = tmp_path / "token"
    shown.write_text("first")
    more = f'tls = true\nca_file = "{tmp_path}/ca.pem"\ntoken_file = "{shown}"\n'
    with closing(served(authority)) as server:
        model, variant = far(server, more=more)
        executor.load(model, variant)
        executor.on_return(lambda: returned.append(1))
        shown.unlink()
        with pytest.raises(Exception, match="token_file: .* cannot be read: No such file") as told:
            await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
        assert "first" not in str(told.value)

        async def gone() -> bool:
            try:
                await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
            except ExecutorUnavailable:
                return True
            except RuntimeError:
                return False
            raise AssertionError("it ran")

        await until_so(gone)
        shown.write_text("second")

        async def back() -> bool:
            return bool(returned)

        await until_so(back)
        assert (await executor.run(WORKERS[0], model, variant, ROWS, 5.0))["y"].tolist() == SUMS


@pytest.mark.parametrize("text", ["", "\n", "a b", "a\nb", "ä", "x" * (LARGEST_TOKEN + 1)])
def test_what_is_no_token_is_not_sent(tmp_path, text):
    path = tmp_path / "token"
    path.write_text(text)
    remote = Remote(servers=["a:1"], tls=True, token_file=str(path))
    with pytest.raises(ValueError, match=f"token_file: {path} holds no token") as told:
        token(remote)
    assert text == "" or repr(text) not in str(told.value)
