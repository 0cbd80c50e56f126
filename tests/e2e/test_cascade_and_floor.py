"""A cascade in a model whose critical class has a floor between its two variants, on a real
server: however busy it is and whatever the cascade claims, nobody with that floor is answered by
the lesser variant."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from cascade_place import CASCADE, CLAIMED, FIRST, THEN, tumor_with_cascade
from serving import ROOT, start, stop


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("cascade")
    tumor_with_cascade(root / "model_repo")
    running = start("--repository", str(root / "model_repo"), "--state-dir", str(root / "state"))
    yield running
    assert stop(running) == 0


@pytest.fixture(scope="module")
def rows():
    with np.load(ROOT / "model_repo" / "tumor" / "samples.npz", allow_pickle=False) as file:
        return file["inputs"]


async def ask(client, rows, **parameters):
    """Who answered, through a cascade or not; or the status of the refusal, and its words."""
    tensor = triton.InferInput("features", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    try:
        response = await client.infer("tumor", [tensor], parameters=parameters, client_timeout=30)
    except InferenceServerException as error:
        return str(error.status()).removeprefix("StatusCode."), error.message()
    told = response.get_response().parameters
    through = told["accuracy"].double_param == CLAIMED
    return told["variant"].string_param, through


async def test_who_accepts_both_variants_gets_the_cascade(server, rows):
    async with triton.InferenceServerClient(server.grpc) as client:
        answers = [
            await ask(client, rows[i : i + 1], service_class="preview", latency_budget_ms=50)
            for i in range(10)
        ]
    # Now and then a machine is too slow for the second: then it is the first, not as a cascade.
    assert (THEN, True) in answers
    assert {variant for variant, _ in answers} <= {FIRST, THEN}


@pytest.mark.parametrize(
    "parameters", [{"service_class": "critical"}, {"service_class": "preview", "min_accuracy": 1.0}]
)
async def test_pinned_the_cascade_is_refused_where_the_floor_is_above_its_first(
    server, rows, parameters
):
    async with triton.InferenceServerClient(server.grpc) as client:
        status, words = await ask(client, rows[:1], variant=CASCADE, **parameters)
    assert status == "FAILED_PRECONDITION"
    assert "may answer by a variant below the floor" in words


async def test_under_load_nobody_with_the_floor_is_answered_by_the_lesser(server, rows):
    random = np.random.default_rng(0)
    asked = Counter()
    answers: dict[str, Counter] = {"critical": Counter(), "preview": Counter()}

    async def caller(client, service_class, count, **parameters):
        for _ in range(count):
            size = int(random.integers(1, 9))
            begin = int(random.integers(0, len(rows) - size))
            asked[service_class] += 1
            found = await ask(
                client, rows[begin : begin + size], service_class=service_class, **parameters
            )
            answers[service_class][found[0]] += 1

    async with triton.InferenceServerClient(server.grpc) as client:
        await asyncio.gather(
            *(caller(client, "critical", 25, latency_budget_ms=20 + 10 * n) for n in range(12)),
            *(caller(client, "preview", 25) for _ in range(12)),
            *(caller(client, "critical", 25, variant=CASCADE) for _ in range(2)),
        )
    refusals = {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION"}
    assert answers["critical"].keys() - refusals == {THEN}
    assert answers["critical"]["FAILED_PRECONDITION"] >= 50
    # It was a temptation: others were answered through the cascade meanwhile.
    assert sum(server.samples("gearshift_cascade_answers_total", model="tumor").values()) > 0
    served = server.samples(
        "gearshift_requests_total", model="tumor", service_class="critical", outcome="served"
    )
    assert {variant for (variant,), count in served.items() if count} == {THEN}
