"""The methods of `inference.GRPCInferenceService` that say what is in the repository, load and
unload."""

from __future__ import annotations

from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from gearshift import __version__
from gearshift.engine import Engine
from gearshift.errors import InvalidInput
from gearshift.ports import Repository
from gearshift.rpc import describe
from gearshift.rpc.permitted import models_for
from gearshift.rpc.status import abort, expected

LONGEST_NAME = 200
"""Characters of a model's name that a message repeats."""


class RepositoryMethods:
    """The part of the servicer; `_repository` is None where nothing can be loaded."""

    _engine: Engine
    _repository: Repository | None

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        await _only_one(request, context)
        unserved = {}
        if self._repository is not None and not request.ready:
            unserved = dict(await self._repository.unserved())
        catalog, rights = self._engine.catalog, context.rights
        hidden = [name for name in unserved if name in catalog.models or not rights.sees(name)]
        for name in hidden:
            del unserved[name]
        models = models_for(rights, catalog)
        return describe.index(
            models, self._engine.ready, request.ready, unserved, self._engine.not_resident
        )

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answered once the model is served as it is on disk now."""
        await _only_one(request, context)
        repository = await self._open(context, "RepositoryModelLoad")
        try:
            _check_name(request.model_name)
            for name in request.parameters:
                raise InvalidInput(_no_override(name))
            context.rights.need_model(request.model_name)
            await repository.load(request.model_name, context.rights.client)
        except Exception as error:
            await abort(context, expected(error, model=request.model_name[:LONGEST_NAME]))
            raise
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answered once no new request of the model is taken; those that were are answered. One
        that is not served is unloaded already, which is no error (as with Triton)."""
        await _only_one(request, context)
        repository = await self._open(context, "RepositoryModelUnload")
        try:
            _check_name(request.model_name)
            for name in request.parameters:
                # Models do not depend on each other here.
                if name != "unload_dependents":
                    raise InvalidInput(
                        f"unknown parameter {name[:LONGEST_NAME]!r} of RepositoryModelUnload; there"
                        " is unload_dependents"
                    )
            context.rights.need_model(request.model_name)
            await repository.unload(request.model_name, context.rights.client)
        except Exception as error:
            await abort(context, expected(error, model=request.model_name[:LONGEST_NAME]))
            raise
        return pb.RepositoryModelUnloadResponse()

    async def _open(self, context: Any, method: str) -> Repository:
        if self._repository is None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"gearshift {__version__} does not serve {method} here",
            )
        repository: Any = self._repository
        return repository  # type: ignore[no-any-return]


async def _only_one(request: Any, context: Any) -> None:
    if request.repository_name:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "repository_name is not served: there is one repository; leave it empty",
        )


def _check_name(name: str) -> None:
    if not name:
        raise InvalidInput("model_name is empty; name the folder of a model")


def _no_override(name: str) -> str:
    """Why a parameter of a load is refused."""
    if name == "config":
        return (
            "the parameter 'config' is not served: a model is what its folder says, so that a"
            " restart serves the same; change its model.toml and load it again"
        )
    if name.startswith("file:"):
        return (
            f"the parameter {name[:LONGEST_NAME]!r} is not served: artifacts come from the"
            " repository only; put the file there and load the model again"
        )
    return f"unknown parameter {name[:LONGEST_NAME]!r} of RepositoryModelLoad; there are none"
