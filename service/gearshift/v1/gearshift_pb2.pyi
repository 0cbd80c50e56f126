from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainRequest(_message.Message):
    __slots__ = ("model", "latency_budget_ms", "min_accuracy", "service_class", "variant", "rows")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LATENCY_BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    MIN_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    model: str
    latency_budget_ms: float
    min_accuracy: float
    service_class: str
    variant: str
    rows: int
    def __init__(self, model: _Optional[str] = ..., latency_budget_ms: _Optional[float] = ..., min_accuracy: _Optional[float] = ..., service_class: _Optional[str] = ..., variant: _Optional[str] = ..., rows: _Optional[int] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("model", "service_class", "budget_ms", "floor", "chosen", "reason", "refused_status", "refused_message", "candidates")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REFUSED_STATUS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    model: str
    service_class: str
    budget_ms: float
    floor: float
    chosen: str
    reason: str
    refused_status: str
    refused_message: str
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    def __init__(self, model: _Optional[str] = ..., service_class: _Optional[str] = ..., budget_ms: _Optional[float] = ..., floor: _Optional[float] = ..., chosen: _Optional[str] = ..., reason: _Optional[str] = ..., refused_status: _Optional[str] = ..., refused_message: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("name", "version", "accuracy", "accuracy_source", "wait_ms", "p50_ms", "p99_ms", "verdict", "why")
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERDICT_UNSPECIFIED: _ClassVar[Candidate.Verdict]
        VERDICT_CHOSEN: _ClassVar[Candidate.Verdict]
        VERDICT_NOT_PINNED: _ClassVar[Candidate.Verdict]
        VERDICT_BELOW_FLOOR: _ClassVar[Candidate.Verdict]
        VERDICT_TOO_MANY_ROWS: _ClassVar[Candidate.Verdict]
        VERDICT_TOO_SLOW: _ClassVar[Candidate.Verdict]
        VERDICT_BUSY: _ClassVar[Candidate.Verdict]
        VERDICT_TOO_DEAR: _ClassVar[Candidate.Verdict]
        VERDICT_BETTER_CHOSEN: _ClassVar[Candidate.Verdict]
        VERDICT_CANARY: _ClassVar[Candidate.Verdict]
        VERDICT_WITHDRAWN: _ClassVar[Candidate.Verdict]
        VERDICT_BROKEN: _ClassVar[Candidate.Verdict]
        VERDICT_NOT_RESIDENT: _ClassVar[Candidate.Verdict]
    VERDICT_UNSPECIFIED: Candidate.Verdict
    VERDICT_CHOSEN: Candidate.Verdict
    VERDICT_NOT_PINNED: Candidate.Verdict
    VERDICT_BELOW_FLOOR: Candidate.Verdict
    VERDICT_TOO_MANY_ROWS: Candidate.Verdict
    VERDICT_TOO_SLOW: Candidate.Verdict
    VERDICT_BUSY: Candidate.Verdict
    VERDICT_TOO_DEAR: Candidate.Verdict
    VERDICT_BETTER_CHOSEN: Candidate.Verdict
    VERDICT_CANARY: Candidate.Verdict
    VERDICT_WITHDRAWN: Candidate.Verdict
    VERDICT_BROKEN: Candidate.Verdict
    VERDICT_NOT_RESIDENT: Candidate.Verdict
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_SOURCE_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    P50_MS_FIELD_NUMBER: _ClassVar[int]
    P99_MS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    accuracy: float
    accuracy_source: str
    wait_ms: float
    p50_ms: float
    p99_ms: float
    verdict: Candidate.Verdict
    why: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., accuracy: _Optional[float] = ..., accuracy_source: _Optional[str] = ..., wait_ms: _Optional[float] = ..., p50_ms: _Optional[float] = ..., p99_ms: _Optional[float] = ..., verdict: _Optional[_Union[Candidate.Verdict, str]] = ..., why: _Optional[str] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("model", "request_id", "labels", "weight")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    model: str
    request_id: str
    labels: _containers.RepeatedScalarFieldContainer[int]
    weight: float
    def __init__(self, model: _Optional[str] = ..., request_id: _Optional[str] = ..., labels: _Optional[_Iterable[int]] = ..., weight: _Optional[float] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("request_id", "outcome", "message")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[Result.Outcome]
        OUTCOME_COUNTED: _ClassVar[Result.Outcome]
        OUTCOME_DUPLICATE: _ClassVar[Result.Outcome]
        OUTCOME_CONFLICT: _ClassVar[Result.Outcome]
        OUTCOME_UNKNOWN_ID: _ClassVar[Result.Outcome]
        OUTCOME_AMBIGUOUS: _ClassVar[Result.Outcome]
        OUTCOME_INVALID: _ClassVar[Result.Outcome]
    OUTCOME_UNSPECIFIED: Result.Outcome
    OUTCOME_COUNTED: Result.Outcome
    OUTCOME_DUPLICATE: Result.Outcome
    OUTCOME_CONFLICT: Result.Outcome
    OUTCOME_UNKNOWN_ID: Result.Outcome
    OUTCOME_AMBIGUOUS: Result.Outcome
    OUTCOME_INVALID: Result.Outcome
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    outcome: Result.Outcome
    message: str
    def __init__(self, request_id: _Optional[str] = ..., outcome: _Optional[_Union[Result.Outcome, str]] = ..., message: _Optional[str] = ...) -> None: ...

class FeedbackRequest(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[Report]
    def __init__(self, reports: _Optional[_Iterable[_Union[Report, _Mapping]]] = ...) -> None: ...

class FeedbackResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Result]
    def __init__(self, results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ...) -> None: ...

class StreamFeedbackRequest(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[Report]
    def __init__(self, reports: _Optional[_Iterable[_Union[Report, _Mapping]]] = ...) -> None: ...

class StreamFeedbackResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Result]
    def __init__(self, results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ...) -> None: ...

class WatchFrontierRequest(_message.Message):
    __slots__ = ("models", "interval_ms")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedScalarFieldContainer[str]
    interval_ms: int
    def __init__(self, models: _Optional[_Iterable[str]] = ..., interval_ms: _Optional[int] = ...) -> None: ...

class WatchFrontierResponse(_message.Message):
    __slots__ = ("time", "window_seconds", "models")
    TIME_FIELD_NUMBER: _ClassVar[int]
    WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    time: float
    window_seconds: float
    models: _containers.RepeatedCompositeFieldContainer[ModelFrontier]
    def __init__(self, time: _Optional[float] = ..., window_seconds: _Optional[float] = ..., models: _Optional[_Iterable[_Union[ModelFrontier, _Mapping]]] = ...) -> None: ...

class ModelFrontier(_message.Message):
    __slots__ = ("name", "metric", "variants", "classes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    name: str
    metric: str
    variants: _containers.RepeatedCompositeFieldContainer[VariantPoint]
    classes: _containers.RepeatedCompositeFieldContainer[ClassState]
    def __init__(self, name: _Optional[str] = ..., metric: _Optional[str] = ..., variants: _Optional[_Iterable[_Union[VariantPoint, _Mapping]]] = ..., classes: _Optional[_Iterable[_Union[ClassState, _Mapping]]] = ...) -> None: ...

class VariantPoint(_message.Message):
    __slots__ = ("name", "version", "accuracy", "declared_accuracy", "live_accuracy", "live_low", "live_high", "labels", "p50_ms", "p99_ms", "rate", "share", "artifact_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    DECLARED_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    LIVE_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    LIVE_LOW_FIELD_NUMBER: _ClassVar[int]
    LIVE_HIGH_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    P50_MS_FIELD_NUMBER: _ClassVar[int]
    P99_MS_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    accuracy: float
    declared_accuracy: float
    live_accuracy: float
    live_low: float
    live_high: float
    labels: int
    p50_ms: float
    p99_ms: float
    rate: float
    share: float
    artifact_bytes: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., accuracy: _Optional[float] = ..., declared_accuracy: _Optional[float] = ..., live_accuracy: _Optional[float] = ..., live_low: _Optional[float] = ..., live_high: _Optional[float] = ..., labels: _Optional[int] = ..., p50_ms: _Optional[float] = ..., p99_ms: _Optional[float] = ..., rate: _Optional[float] = ..., share: _Optional[float] = ..., artifact_bytes: _Optional[int] = ...) -> None: ...

class ClassState(_message.Message):
    __slots__ = ("name", "attainment", "goodput", "served_accuracy", "accuracy_deficit", "waiting")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ATTAINMENT_FIELD_NUMBER: _ClassVar[int]
    GOODPUT_FIELD_NUMBER: _ClassVar[int]
    SERVED_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_DEFICIT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    name: str
    attainment: float
    goodput: float
    served_accuracy: float
    accuracy_deficit: float
    waiting: int
    def __init__(self, name: _Optional[str] = ..., attainment: _Optional[float] = ..., goodput: _Optional[float] = ..., served_accuracy: _Optional[float] = ..., accuracy_deficit: _Optional[float] = ..., waiting: _Optional[int] = ...) -> None: ...
