"""The methods of `inference.GRPCInferenceService` that tell and set what is logged and traced."""

from __future__ import annotations

from typing import Any

from tritonclient.grpc import service_pb2 as pb

from gearshift.core.observability import LogValue
from gearshift.engine import Engine
from gearshift.errors import InvalidInput, ModelNotFound, NotServed
from gearshift.ports import Observing
from gearshift.rpc.permitted import model_for
from gearshift.rpc.status import abort, expected


class ObservingMethods:
    """The part of the servicer; `_observing` is None where neither can be set."""

    _engine: Engine
    _observing: Observing | None

    async def TraceSetting(self, request: Any, context: Any) -> Any:  # noqa: N802
        """What is traced, of a model or of all that have no settings of their own, once that
        holds."""
        changes = {name: list(given.value) for name, given in request.settings.items()}
        try:
            if request.model_name:
                _check_model(self._engine, request.model_name, context)
            elif changes:
                context.rights.need_every_model()
            told = await _open(self._observing).traces(changes, request.model_name)
        except Exception as error:
            await abort(context, expected(error))
            raise
        answer = pb.TraceSettingResponse()
        for name, values in told.items():
            answer.settings[name].value.extend(values)
        return answer

    async def LogSettings(self, request: Any, context: Any) -> Any:  # noqa: N802
        """What is logged, once that holds."""
        changes = {name: _value(given) for name, given in request.settings.items()}
        try:
            if changes:
                context.rights.need_every_model()
            told = await _open(self._observing).logs(changes)
        except Exception as error:
            await abort(context, expected(error))
            raise
        answer = pb.LogSettingsResponse()
        for name, value in told.items():
            setattr(answer.settings[name], _field(value), value)
        return answer


def _open(observing: Observing | None) -> Observing:
    if observing is None:
        raise NotServed("what is logged and traced is set where this server is started")
    return observing


def _check_model(engine: Engine, name: str, context: Any) -> None:
    """Triton answers an unknown one with INVALID_ARGUMENT here, and stock clients know it so."""
    try:
        model_for(context.rights, engine.catalog, name)
    except ModelNotFound as error:
        raise InvalidInput(str(error)) from None


def _value(given: Any) -> LogValue | None:
    choice = given.WhichOneof("parameter_choice")
    value: LogValue | None = None if choice is None else getattr(given, choice)
    return value


def _field(value: LogValue) -> str:
    if isinstance(value, bool):
        return "bool_param"
    return "uint32_param" if isinstance(value, int) else "string_param"
