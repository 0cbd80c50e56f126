"""Paths of the protocol, and the calls that they stand for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf import json_format
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tritonclient.grpc import service_pb2 as pb

from gearshift.errors import http_status_of
from gearshift.http.protocol import NAMES
from gearshift.http.rest.asking import Ask, Asked, Mistake, Told, headers_of
from gearshift.http.rest.bodies import Bodies
from gearshift.http.rest.infer import HEADER_LENGTH, NO_TEXT, read_raw, read_request, write_answer
from gearshift.http.rest.messages import (
    json_of,
    settings_of,
    with_log_settings,
    with_trace_settings,
)

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

NOT_METADATA = frozenset(
    {
        *("accept", "accept-encoding", "authorization", "connection", "content-encoding"),
        *("content-length", "content-type", "cookie", "expect", "host", "keep-alive", "te"),
        *("trailer", "transfer-encoding", "upgrade", "user-agent"),
        *(HEADER_LENGTH.lower(), "gearshift-on-behalf"),
    }
)
"""Headers that say something of this connection or body; all others go along."""

LONGEST_NUMBER = 20
"""Digits."""

REGISTERS = {"System": ("byte_size", "key"), "Cuda": ("byte_size", "device_id", "raw_handle")}
"""What registering a region of shared memory cannot do without."""

Endpoint = Callable[[Request], Awaitable[Response]]


class Rest:
    """Answers over HTTP by asking. `most`: bytes of a body, unpacked."""

    def __init__(self, ask: Ask, most: int) -> None:
        self._ask = ask
        self._bodies = Bodies(most)

    def routes(self) -> list[Route]:
        model = "/v2/models/{model}"
        version = model + "/versions/{version}"
        memory = "/v2/{kind:str}sharedmemory"
        get: dict[str, Endpoint] = {
            "/v2": self.server,
            "/v2/health/live": self.live,
            "/v2/health/ready": self.ready,
            "/v2/models/stats": self.statistics,
            memory + "/status": self.memory_status,
            memory + "/region/{region}/status": self.memory_status,
        }
        post: dict[str, Endpoint] = {
            "/v2/repository/index": self.index,
            "/v2/repository/models/{model}/load": self.load,
            "/v2/repository/models/{model}/unload": self.unload,
            memory + "/region/{region}/register": self.memory_register,
            memory + "/unregister": self.memory_unregister,
            memory + "/region/{region}/unregister": self.memory_unregister,
        }
        for path, endpoint in (
            ("/v2/trace/setting", self.trace),
            (model + "/trace/setting", self.trace),
            ("/v2/logging", self.logging),
        ):
            get[path] = post[path] = endpoint
        for base in (model, version):
            get[base] = self.model
            get[f"{base}/ready"] = self.model_ready
            get[f"{base}/config"] = self.config
            get[f"{base}/stats"] = self.statistics
            post[f"{base}/infer"] = self.infer
        return [
            *(Route(path, self._guarded(each), methods=["GET"]) for path, each in get.items()),
            *(Route(path, self._guarded(each), methods=["POST"]) for path, each in post.items()),
        ]

    # --- what the server and its models are ---------------------------------------------

    async def server(self, request: Request) -> Response:
        return await self._told(request, "ServerMetadata", pb.ServerMetadataRequest())

    async def live(self, request: Request) -> Response:
        return await self._ready(request, "ServerLive", pb.ServerLiveRequest(), "live")

    async def ready(self, request: Request) -> Response:
        return await self._ready(request, "ServerReady", pb.ServerReadyRequest(), "ready")

    async def model(self, request: Request) -> Response:
        asked = pb.ModelMetadataRequest(**_named(request))
        return await self._told(request, "ModelMetadata", asked)

    async def model_ready(self, request: Request) -> Response:
        asked = pb.ModelReadyRequest(**_named(request))
        return await self._ready(request, "ModelReady", asked, "ready")

    async def config(self, request: Request) -> Response:
        asked = pb.ModelConfigRequest(**_named(request))
        return await self._told(request, "ModelConfig", asked, of="config")

    async def statistics(self, request: Request) -> Response:
        asked = pb.ModelStatisticsRequest(**_named(request))
        return await self._told(request, "ModelStatistics", asked)

    # --- the repository ------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        ready = (await self._bodies.object(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise Mistake("ready must be true or false")
        asked = pb.RepositoryIndexRequest(ready=ready)
        return await self._told(request, "RepositoryIndex", asked, of="models")

    async def load(self, request: Request) -> Response:
        asked = pb.RepositoryModelLoadRequest(model_name=request.path_params["model"])
        await self._set(request, asked)
        return await self._told(request, "RepositoryModelLoad", asked)

    async def unload(self, request: Request) -> Response:
        asked = pb.RepositoryModelUnloadRequest(model_name=request.path_params["model"])
        await self._set(request, asked)
        return await self._told(request, "RepositoryModelUnload", asked)

    # --- what is logged and traced -------------------------------------------------------

    async def trace(self, request: Request) -> Response:
        """Asked with GET, set with POST."""
        asked = pb.TraceSettingRequest(model_name=request.path_params.get("model", ""))
        with_trace_settings(asked, await self._bodies.object(request))
        return await self._settings(request, "TraceSetting", asked)

    async def logging(self, request: Request) -> Response:
        """The same."""
        asked = pb.LogSettingsRequest()
        with_log_settings(asked, await self._bodies.object(request))
        return await self._settings(request, "LogSettings", asked)

    async def _settings(self, request: Request, name: str, asked: Any) -> Response:
        told = await self._call(request, name, asked)
        if not isinstance(told, Told):
            return told
        answer = getattr(pb, f"{name}Response").FromString(told.message)
        return JSONResponse(settings_of(answer))

    # --- shared memory -------------------------------------------------------------------

    async def memory_status(self, request: Request) -> Response:
        kind = _kind(request)
        asked = getattr(pb, f"{kind}SharedMemoryStatusRequest")(
            name=request.path_params.get("region", "")
        )
        told = await self._call(request, f"{kind}SharedMemoryStatus", asked)
        if not isinstance(told, Told):
            return told
        found = json_of(getattr(pb, f"{kind}SharedMemoryStatusResponse"), told.message)
        return JSONResponse(list(found.get("regions", {}).values()))

    async def memory_register(self, request: Request) -> Response:
        kind, given = _kind(request), await self._bodies.object(request)
        missing = REGISTERS[kind] - given.keys()
        if missing:
            raise Mistake(
                f"{min(missing)} is missing; a region has {', '.join(sorted(REGISTERS[kind]))}"
            )
        asked = getattr(pb, f"{kind}SharedMemoryRegisterRequest")(
            name=request.path_params["region"]
        )
        try:
            if "raw_handle" in given:
                given = {**given, "raw_handle": given["raw_handle"]["b64"]}
            json_format.ParseDict(dict(given), asked)
        except (json_format.ParseError, KeyError, TypeError) as error:
            raise Mistake(str(error)) from None
        return await self._told(request, f"{kind}SharedMemoryRegister", asked)

    async def memory_unregister(self, request: Request) -> Response:
        kind = _kind(request)
        asked = getattr(pb, f"{kind}SharedMemoryUnregisterRequest")(
            name=request.path_params.get("region", "")
        )
        return await self._told(request, f"{kind}SharedMemoryUnregister", asked)

    # --- inference -----------------------------------------------------------------------

    async def infer(self, request: Request) -> Response:
        named = _named(request)
        length = _length(request)
        body = await self._bodies.read(request)
        if length == 0:
            about = await self._call(request, "ModelMetadata", pb.ModelMetadataRequest(**named))
            if not isinstance(about, Told):
                return about
            described = pb.ModelMetadataResponse.FromString(about.message)
            asked, wanted = read_raw(body, described, named["version"])
        else:
            asked, wanted = read_request(body, length, named["name"], named["version"])
        told = await self._call(request, "ModelInfer", asked)
        if not isinstance(told, Told):
            return told
        content, head = write_answer(pb.ModelInferResponse.FromString(told.message), wanted)
        if head is None:
            return Response(content, media_type="application/json")
        return Response(
            content, media_type="application/octet-stream", headers={HEADER_LENGTH: str(head)}
        )

    # --- asking --------------------------------------------------------------------------

    async def _told(
        self, request: Request, name: str, asked: Any, of: str | None = None
    ) -> Response:
        """The answer as JSON; only one field of it, if `of` names that."""
        told = await self._call(request, name, asked)
        if not isinstance(told, Told):
            return told
        found = json_of(getattr(pb, f"{name}Response"), told.message)
        return JSONResponse(found if of is None else found[of])

    async def _ready(self, request: Request, name: str, asked: Any, of: str) -> Response:
        """200 for yes and 400 for no, as Triton has it, whose answers are empty; the protocol's own
        specification has what KServe's client reads in them."""
        told = await self._call(request, name, asked)
        if not isinstance(told, Told):
            return told
        found = getattr(pb, f"{name}Response").FromString(told.message)
        yes = bool(getattr(found, of))
        return JSONResponse({of: yes}, 200 if yes else 400)

    async def _call(self, request: Request, name: str, asked: Any) -> Told | Response:
        """What is told, or how that failed."""
        told = await _while_there(request, self._ask(_asked(request, name, asked)))
        if told is None:
            raise ClientDisconnect
        if told.code is not grpc.StatusCode.OK:
            return _error(http_status_of(told.code.name), told.text, headers_of(told))
        return told

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        """Mistakes are told as the protocol tells them, and what was held is given back."""

        async def guarded(request: Request) -> Response:
            try:
                with self._bodies.held(request):
                    _check_origin(request)
                    return await endpoint(request)
            except Mistake as mistake:
                return _error(mistake.status, str(mistake), {})
            except UnicodeEncodeError:
                return _error(400, f"the request {NO_TEXT}", {})

        return guarded

    async def _set(self, request: Request, asked: Any) -> None:
        """The parameters of loading and unloading."""
        given = (await self._bodies.object(request)).get("parameters", {})
        if not isinstance(given, dict):
            raise Mistake("parameters must be an object")
        for name, value in given.items():
            if isinstance(value, bool):
                asked.parameters[name].bool_param = value
            elif isinstance(value, int):
                asked.parameters[name].int64_param = value
            elif isinstance(value, str):
                asked.parameters[name].string_param = value
            else:
                raise Mistake(f"parameters.{name} must be a truth value, a number or a text")


def rest_routes(ask: Ask, most: int) -> list[Route]:
    """For the application; `most`: bytes of a body."""
    return Rest(ask, most).routes()


def _check_origin(request: Request) -> None:
    """A page from elsewhere may let a browser send what nobody at it has meant (cross-site request
    forgery), and a server on this machine would believe that it comes from here. Browsers say
    whose page it was."""
    origin = request.headers.get("origin")
    if origin is None or request.method == "GET":
        return
    if _host(origin) != request.headers.get("host", "").lower():
        raise Mistake("a page from elsewhere may not ask for this (header Origin)", 403)


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


async def _while_there(request: Request, asking: Awaitable[Told]) -> Told | None:
    """What is told; None if the caller leaves before that, who is then asked for no more."""
    task = asyncio.ensure_future(asking)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _asked(request: Request, name: str, asked: Any) -> Asked:
    metadata = [
        (key, value)
        for key, value in request.headers.raw
        if (text := key.decode("latin-1")) not in NOT_METADATA and not text.startswith("grpc-")
    ]
    return Asked(
        path=f"/{SERVICE}/{name}",
        message=asked.SerializeToString(),
        peer=request.client.host if request.client is not None else "",
        names=request.scope.get(NAMES, ()),
        # Of two headers, whose would it be? Together they are nobody's.
        authorization=", ".join(request.headers.getlist("authorization")),
        metadata=metadata,
    )


def _named(request: Request) -> dict[str, str]:
    found = request.path_params
    return {"name": found.get("model", ""), "version": found.get("version", "")}


def _length(request: Request) -> int | None:
    """How much of the body is JSON, None where nothing is said."""
    said = request.headers.get(HEADER_LENGTH)
    if said is None:
        return None
    if not (said.isascii() and said.isdigit() and len(said) <= LONGEST_NUMBER):
        raise Mistake(f"{HEADER_LENGTH} must be a whole number, got {said[:50]!r}")
    return int(said)


def _kind(request: Request) -> str:
    """Of shared memory, as the messages are called."""
    kind = {"system": "System", "cuda": "Cuda"}.get(request.path_params["kind"])
    if kind is None:
        raise Mistake("shared memory is of the kinds system and cuda", 404)
    return kind


def _error(status: int, text: str, headers: Mapping[str, str]) -> Response:
    # What is repeated of a request may be no text.
    told = text.encode(errors="replace").decode()
    return JSONResponse({"error": told}, status, headers)
