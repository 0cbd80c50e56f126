"""TLS as it should be spoken now, with certificates that can be exchanged while it is spoken.

After RFC 9325: TLS 1.2 and 1.3, forward secrecy and authenticated encryption only, no compression,
no renegotiation. No session tickets: connections live long here, so that resumption is worth
little, and a resumed session would not be asked for its certificate again.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from cryptography import x509

from gearshift.errors import ConfigurationInvalid

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all sound."""

GRPC, HTTP = ("h2",), ("http/1.1",)
"""What is spoken inside (ALPN)."""


class Tls:
    """The server's side, from files in PEM. With `client_ca` clients are asked for a certificate
    of that authority, and turned away without one if it is `required`."""

    def __init__(
        self, certificate: Path, key: Path, client_ca: Path | None = None, *, required: bool = True
    ) -> None:
        """ConfigurationInvalid if the files cannot be used together."""
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._required = required
        self._contexts: dict[Sequence[str], ssl.SSLContext] = {}
        self.expiry = 0.0
        """When the certificate expires, in seconds of `time.time`."""
        self.reload()

    @property
    def files(self) -> Sequence[Path]:
        """What is read: if one of them changes, `reload`."""
        authority = () if self._client_ca is None else (self._client_ca,)
        return [self._certificate, self._key, *authority]

    def reload(self) -> None:
        """Read the files anew, for every handshake from now on. ConfigurationInvalid if they
        cannot be used, and nothing has changed then."""
        expiry = _expiry(self._certificate)
        self._contexts = {protocols: self._made(protocols) for protocols in (GRPC, HTTP)}
        self.expiry = expiry

    def context(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """For a port on which one of the `protocols` is spoken (GRPC or HTTP). Whoever got it need
        not be told of a `reload`."""
        context = self._made(protocols)

        def newest(
            handshake: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
        ) -> None:
            # Asked in every handshake, also where the client names no server.
            handshake.context = self._contexts[protocols]

        context.sni_callback = newest
        return context

    def _made(self, protocols: Sequence[str]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.set_alpn_protocols(list(protocols))
        try:
            context.load_cert_chain(self._certificate, self._key, _no_passphrase(self._key))
        except OSError as error:
            raise ConfigurationInvalid(
                f"certificate {self._certificate} with key {self._key}: {_why(error)}"
            ) from None
        if self._client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED if self._required else ssl.CERT_OPTIONAL
            try:
                context.load_verify_locations(self._client_ca)
            except OSError as error:
                raise ConfigurationInvalid(
                    f"authority of clients {self._client_ca}: {_why(error)}"
                ) from None
        return context


def _expiry(path: Path) -> float:
    """Of the first certificate in the file, which is the server's own."""
    try:
        until: datetime = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except OSError as error:
        raise ConfigurationInvalid(f"certificate {path}: {error.strerror}") from None
    except ValueError:
        raise ConfigurationInvalid(f"certificate {path}: no certificate in PEM") from None
    return until.timestamp()


def _no_passphrase(key: Path) -> Callable[[], str]:
    def refuse() -> NoReturn:
        # Else OpenSSL would ask at the terminal.
        raise ConfigurationInvalid(f"key {key} has a passphrase; give one without")

    return refuse


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "they do not belong together"
        return f"no PEM that can be used ({error.reason or 'unreadable'})"
    return error.strerror or str(error)
