"""Everything but inference over HTTP/REST, right and wrong, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from conformance.rest import REGION, REGION_SIZE, Answer, RestCase
from conformance.rest_cases import asked, infer, tensor

SYSTEM, CUDA = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
TRACE, LOGGING = "/v2/trace/setting", "/v2/logging"


def control_cases() -> Iterator[RestCase]:
    yield from _health()
    yield from _about()
    yield from _repository()
    yield from _traces()
    yield from _logs()
    yield from _memory()
    yield from _paths()


def _of(look: Callable[[Any], Any]) -> Callable[[Answer], Any]:
    return lambda answer: look(answer.json())


def _health() -> Iterator[RestCase]:
    for what in ("live", "ready"):
        yield RestCase(f"REST health: {what}", f"/v2/health/{what}")
        yield RestCase(f"REST health: {what}, and its body", f"/v2/health/{what}", look=len_of)
        yield RestCase(f"REST health: {what} by POST", f"/v2/health/{what}", b"")
    for name, version in _models():
        path = f"/v2/models/{name}{version and f'/versions/{version}'}/ready"
        yield RestCase(f"REST model ready: {name} {version or 'no version'}", path)


def len_of(answer: Answer) -> Any:
    return len(answer.body)


def _models() -> Iterator[tuple[str, str]]:
    for version in ("", "1", "9", "abc"):
        yield "sum", version
    yield "nobody", ""


def _about() -> Iterator[RestCase]:
    yield RestCase(
        "REST server metadata",
        "/v2",
        look=_of(
            lambda told: [
                sorted(told),
                sorted(set(told["extensions"]) & {"statistics", "model_repository"}),
            ]
        ),
    )
    for name, version in _models():
        base = f"/v2/models/{name}{version and f'/versions/{version}'}"
        told = f"{name} {version or 'no version'}"
        yield RestCase(f"REST metadata: {told}", base, look=_of(_metadata))
        yield RestCase(f"REST config: {told}", f"{base}/config", look=_of(_config))
        yield RestCase(f"REST stats: {told}", f"{base}/stats", look=_of(_statistics))
    yield RestCase("REST stats: all", "/v2/models/stats", look=_of(_statistics))
    yield RestCase(
        "REST stats: counts after requests",
        "/v2/models/sum/versions/1/stats",
        look=_of(
            lambda told: [
                [each["inference_stats"]["success"]["count"] > 0, each["inference_count"] > 0]
                for each in told["model_stats"]
            ]
        ),
        before=[infer("for the counts", asked(), path="/v2/models/sum/versions/1/infer")],
    )


def _metadata(told: Any) -> Any:
    tensors = [[t["name"], t["datatype"], t["shape"]] for t in (*told["inputs"], *told["outputs"])]
    return [told["name"], sorted(told["versions"]), tensors]


def _config(told: Any) -> Any:
    tensors = [[t["name"], t["data_type"], t["dims"]] for t in (*told["input"], *told["output"])]
    return [told["name"], told["max_batch_size"], tensors]


def _statistics(told: Any) -> Any:
    found = [each for each in told["model_stats"] if each["name"] in ("sum", "two")]
    kinds = {
        kind
        for each in found
        for kind, figures in each["inference_stats"].items()
        if {type(figure) for figure in figures.values()} == {int}
    }
    return [sorted({(each["name"], each["version"]) for each in found}), sorted(kinds)]


def _repository() -> Iterator[RestCase]:
    def listed(answer: Answer) -> Any:
        return sorted(
            [each["name"], each["version"], each["state"]]
            for each in answer.json()
            if each["name"] in ("sum", "two")
        )

    index = "/v2/repository/index"
    yield RestCase("REST index: all", index, b"", listed)
    yield RestCase("REST index: an empty object", index, {}, listed)
    yield RestCase("REST index: ready", index, {"ready": True}, listed)
    yield RestCase("REST index: ready = 1", index, {"ready": 1}, listed)
    yield RestCase("REST index: no JSON", index, b"{", listed)
    yield RestCase("REST index: a list", index, b"[]", listed)
    yield RestCase("REST index: by GET", index, look=listed)
    yield RestCase("REST index: another repository", "/v2/repository/elsewhere/index", b"", listed)
    models = "/v2/repository/models"
    yield RestCase("REST load: known model", f"{models}/two/load", b"")
    yield RestCase("REST load: unknown model", f"{models}/nobody/load", b"")
    yield RestCase("REST load: no JSON", f"{models}/two/load", b"{")
    yield RestCase("REST load: by GET", f"{models}/two/load")
    for name, value in (("config", "{}"), ("config", 1), ("bogus", "1"), ("file:1/x", "eA==")):
        body = {"parameters": {name: value}}
        yield RestCase(f"REST load: {name} = {value!r}", f"{models}/two/load", body)
    yield RestCase("REST unload: unknown model", f"{models}/nobody/unload", b"")
    known = {"parameters": {"unload_dependents": True}}
    yield RestCase("REST unload: with dependents", f"{models}/nobody/unload", known)


def _traces() -> Iterator[RestCase]:
    known = ("trace_level", "trace_rate", "trace_count", "trace_mode")

    def told(answer: Answer) -> Any:
        return {name: type(answer.json().get(name)).__name__ for name in known}

    def rated(answer: Answer) -> Any:
        found = answer.json()
        return [found["trace_level"], found["trace_rate"]]

    def case(name: str, body: Any = None, model: str = "", look: Any = rated) -> RestCase:
        path = f"/v2/models/{model}/trace/setting" if model else TRACE
        return RestCase(f"REST trace: {name}", path, body, look)

    back = {"trace_rate": None}
    yield case("ask", look=told)
    yield case("ask for a model", model="sum", look=told)
    yield case("ask for an unknown model", model="nobody", look=told)
    yield case("rate = 7", {"trace_rate": "7"})
    yield case("a model has what all have", model="sum")
    yield case("rate of a model", {"trace_rate": "5"}, "sum")
    yield case("rate of an unknown model", {"trace_rate": "5"}, "nobody")
    yield case("that of all is the same")
    yield case("that of another model is the same", model="two")
    yield case("rate = 9", {"trace_rate": "9"})
    yield case("a model keeps its own", model="sum")
    yield case("a model without its own follows", model="two")
    yield case("a model has what all have again", back, "sum")
    yield case("level OFF of a model", {"trace_level": ["OFF"]}, "sum")
    yield case("level null of a model", {"trace_level": None}, "sum")
    yield case("rate null", back, look=told)
    yield case("rate = x", {"trace_rate": "x"})
    yield case("rate is a number", {"trace_rate": 7})
    yield case("rate is a list", {"trace_rate": ["7"]})
    yield case("level is a text", {"trace_level": "OFF"})
    yield case("level BOGUS", {"trace_level": ["BOGUS"]})
    yield case("level TIMESTAMPS, nowhere to go", {"trace_level": ["TIMESTAMPS"]})
    yield case("a file", {"trace_file": "/tmp/traces"})
    yield case("unknown setting", {"bogus": "1"}, look=told)
    yield case("an empty object", {}, look=told)
    yield case("an empty body", b"", look=told)
    yield case("no JSON", b"{")


def _logs() -> Iterator[RestCase]:
    def told(answer: Answer) -> Any:
        return {name: value for name, value in answer.json().items() if name != "log_format"}

    def case(name: str, body: Any = None) -> RestCase:
        return RestCase(f"REST logging: {name}", LOGGING, body, told)

    yield case("ask")
    yield case("info off", {"log_info": False})
    yield case("info on", {"log_info": True})
    yield case("verbose 1", {"log_verbose_level": 1})
    yield case("verbose 0", {"log_verbose_level": 0})
    yield case("format ISO8601", {"log_format": "ISO8601"})
    yield case("format bogus", {"log_format": "bogus"})
    yield case("a file", {"log_file": "/tmp/log"})
    yield case("info = 3", {"log_info": 3})
    yield case("info = null", {"log_info": None})
    yield case("verbose = -1", {"log_verbose_level": -1})
    yield case("unknown setting", {"bogus": True})
    yield case("no JSON", b"{")


def _memory() -> Iterator[RestCase]:
    def regions(answer: Answer) -> Any:
        return [[each["name"], each["key"], each["byte_size"]] for each in answer.json()]

    def system(name: str, path: str, body: Any = None, look: Any = lambda _: None) -> RestCase:
        return RestCase(f"REST system memory: {name}", f"{SYSTEM}{path}", body, look)

    here = {"key": f"/{REGION}", "offset": 0, "byte_size": REGION_SIZE}
    yield system("status of all", "/status", look=regions)
    yield system("status of an unknown one", "/region/nobody/status")
    yield system("register", "/region/r/register", here)
    yield system("register again", "/region/r/register", here)
    yield system("status of all, of one", "/status", look=regions)
    yield system("status of one", "/region/r/status", look=regions)
    yield system("register by GET", "/region/r/register")
    yield from _from_memory()
    yield system("unregister", "/region/r/unregister", b"")
    yield system("unregister an unknown one", "/region/nobody/unregister", b"")
    yield infer("from a region that is gone", asked(_placed(12)))
    yield system("no such object", "/region/s/register", {**here, "key": "/nothing-here"})
    yield system("larger than the object", "/region/s/register", {**here, "byte_size": 2**40})
    yield system("an offset beyond it", "/region/s/register", {**here, "offset": 2**40})
    yield system("a size below 0", "/region/s/register", {**here, "byte_size": -1})
    yield system("no key", "/region/s/register", {"byte_size": 8})
    yield system("no size", "/region/s/register", {"key": f"/{REGION}"})
    yield system("a key that is a number", "/region/s/register", {**here, "key": 1})
    yield system("no JSON", "/region/s/register", b"{")
    yield system("an empty body", "/region/s/register", b"")
    yield system("unregister all", "/unregister", b"")
    yield system("status of none", "/status", look=regions)
    yield RestCase("REST CUDA memory: status", f"{CUDA}/status", look=regions)
    yield RestCase("REST CUDA memory: status of an unknown one", f"{CUDA}/region/nobody/status")
    yield RestCase("REST CUDA memory: unregister all", f"{CUDA}/unregister", b"")
    handle = {"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": 8}
    yield RestCase("REST CUDA memory: register", f"{CUDA}/region/c/register", handle)


def _placed(size: int, offset: int = 0, region: str = "r") -> dict[str, Any]:
    about = {"shared_memory_region": region, "shared_memory_byte_size": size}
    return tensor(
        data=None, parameters=about | ({"shared_memory_offset": offset} if offset else {})
    )


def _from_memory() -> Iterator[RestCase]:
    yield infer("from shared memory", asked(_placed(12)))
    there = {
        "name": "y",
        "parameters": {
            "shared_memory_region": "r",
            "shared_memory_byte_size": 12,
            "shared_memory_offset": 16,
        },
    }
    yield infer("into shared memory", asked(_placed(12), outputs=[there]), "FP32")
    yield infer("what was put there", asked(_placed(12, 16)), "FP32")
    yield infer("beyond the region", asked(_placed(12, REGION_SIZE - 8)))
    yield infer("a region that is not registered", asked(_placed(12, region="nobody")))
    yield infer("fewer bytes of a region than the shape", asked(_placed(8)))
    yield infer("data beside a region", asked(_placed(12) | {"data": [1, 2, 3]}))


def _paths() -> Iterator[RestCase]:
    for method, path in (
        *(("GET", "/v2/"), ("GET", "/v2/bogus"), ("GET", "/v3"), ("POST", "/v2")),
        *(("GET", "/v2/models/sum/infer"), ("PUT", "/v2/models/sum/infer")),
        *(("DELETE", "/v2/models/sum"), ("POST", "/v2/models/sum"), ("GET", "/v2/models")),
        *(("POST", "/v2/models/sum/config"), ("POST", "/v2/models/sum/bogus")),
        *(
            ("POST", "/v2/models/stats"),
            ("HEAD", "/v2/health/live"),
            ("GET", "/v2/models/"),
            ("GET", "/v2/models/%ff"),
        ),
        *(("PUT", "/v2/logging"), ("GET", "/v2/bogussharedmemory/status")),
        *(("GET", "/v2/models/sum/versions/1/trace/setting"), ("OPTIONS", "/v2")),
        *(("POST", "/v2/models/sum/generate"), ("POST", "/v2/models/sum/generate_stream")),
    ):
        body = b"" if method in ("POST", "PUT") else None
        yield RestCase(f"REST {method} {path}", path, body, method=method)
