"""The way in, put together: TLS, who is who, the audit log."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from gearshift.access import AccessMetrics, AuditLog, Guard, Tls, Watched
from gearshift.access.tls import GRPC, HTTP
from gearshift.app.access_settings import only_this_machine
from gearshift.app.settings import Settings
from gearshift.app.watching import SIGHUP, WATCH
from gearshift.core.rights import ANONYMOUS
from gearshift.errors import ConfigurationInvalid

LOOK_EVERY = 2.0
"""Seconds between two looks whether files have changed."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """`guard` is None where all may do all; `grpc` and `http` where no TLS is spoken there.
    `hosts` are the names by which the HTTP port may be called, None for any."""

    guard: Guard | None
    audit: AuditLog
    watched: tuple[Watched, ...]
    metrics: AccessMetrics
    grpc: ssl.SSLContext | None
    http: ssl.SSLContext | None
    hosts: Collection[str] | None

    def reload(self) -> None:
        """Read all files now, as for SIGHUP. What cannot be used is logged and changes nothing.
        Blocks."""
        for each in self.watched:
            each.reload()

    def look(self) -> None:
        """Read what has changed. Blocks."""
        for each in self.watched:
            each.look()

    def acted_alone(self, who: str, what: str, result: str) -> None:
        """Take down what was done though nobody called; calls take down themselves."""
        if who in (SIGHUP, WATCH):
            self.audit.acted(ANONYMOUS, "", who, what, result)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look every few seconds; close everything in the end."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            if self.guard is not None:
                self.guard.close()
            self.audit.close()

    async def _watch(self) -> None:
        while self.watched:
            await asyncio.sleep(LOOK_EVERY)
            # On a thread: a folder on the network may take its time.
            await asyncio.to_thread(self.look)


def check_exposure(settings: Settings) -> None:
    """ConfigurationInvalid where other machines could call without TLS and nobody said that they
    may, or where the settings of access do not fit together."""
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise ConfigurationInvalid(
            "tls_certificate and tls_key go together: give both, or neither for no TLS"
        )
    if settings.tls_client_ca is not None and settings.tls_certificate is None:
        raise ConfigurationInvalid(
            "tls_client_ca asks clients for certificates, which needs TLS: give tls_certificate and"
            " tls_key as well"
        )
    if settings.insecure:
        return
    secure = settings.tls_certificate is not None
    _check(settings.host, secure, "gRPC", "host")
    http_secure = secure and settings.http_tls
    _check(
        settings.listens_http, http_secure, "HTTP", "http_host" if settings.http_host else "host"
    )


def _check(host: str, secure: bool, protocol: str, setting: str) -> None:
    if secure or only_this_machine(host):
        return
    raise ConfigurationInvalid(
        f"{protocol} on {host} would be open to other machines without TLS. Give --tls-certificate"
        f" and --tls-key (docs/security.md); or let only this machine call ({setting} = 127.0.0.1);"
        f" or say --insecure (GEARSHIFT_INSECURE=true) where the network itself keeps others out,"
        f" as behind a proxy that ends TLS"
    )


def make_entrance(settings: Settings) -> Entrance:
    """ConfigurationInvalid for settings or files that cannot be used."""
    check_exposure(settings)
    audit = AuditLog(settings.audit_log)

    def told(what: str, result: str) -> None:
        audit.acted(ANONYMOUS, "", "reload", what, result)

    watched: list[Watched] = []
    tls: Tls | None = None
    if settings.tls_certificate is not None and settings.tls_key is not None:
        tls = Tls(
            settings.tls_certificate,
            settings.tls_key,
            settings.tls_client_ca,
            required=settings.tls_client_required,
        )
        watched.append(Watched("certificate", tls, told))
    guard: Guard | None = None
    if settings.access is not None:
        guard = Guard(settings.access)
        watched.append(Watched("access file", guard, told))
    # With access control a page from elsewhere has no credentials to read anything with.
    guarded_by_names = guard is None and only_this_machine(settings.listens_http)
    return Entrance(
        guard,
        audit,
        tuple(watched),
        AccessMetrics(audit, tls),
        None if tls is None else tls.context(GRPC),
        None if tls is None or not settings.http_tls else tls.context(HTTP),
        settings.http_hosts if guarded_by_names else None,
    )
