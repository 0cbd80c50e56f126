"""ModelStatistics of several processes: added up field by field, and asked for by stock clients."""

from __future__ import annotations

import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from gearshift.rpc import statistics


def stats(
    model: str, version: str, factor: int, batches: tuple[int, ...] = ()
) -> pb.ModelStatistics:
    """Every figure another one, all of them times `factor`."""
    names = iter(range(1, 100))

    def tally() -> pb.StatisticDuration:
        number = next(names)
        return pb.StatisticDuration(count=number * factor, ns=1000 * number * factor)

    return pb.ModelStatistics(
        name=model,
        version=version,
        last_inference=10 * factor,
        inference_count=7 * factor,
        execution_count=3 * factor,
        inference_stats=pb.InferStatistics(**{stage: tally() for stage in statistics.STAGES}),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=size,
                compute_input=tally(),
                compute_infer=tally(),
                compute_output=tally(),
            )
            for size in batches
        ],
    )


def packed(*told: pb.ModelStatistics) -> bytes:
    return pb.ModelStatisticsResponse(model_stats=told).SerializeToString()


def test_every_figure_is_added_up() -> None:
    parts = [packed(stats("m", "1", factor, (1, 4))) for factor in (1, 2)]
    expected = stats("m", "1", 3, (1, 4))
    expected.last_inference = 20
    assert statistics.by_version(statistics.summed(parts)) == {("m", "1"): expected}
    # So that a field that is new in the protocol is not forgotten.
    known = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output"}
    caches = {"cache_hit", "cache_miss"}
    assert set(pb.InferStatistics.DESCRIPTOR.fields_by_name) == known | caches


def test_what_only_one_has_counted_is_kept() -> None:
    one = packed(stats("m", "1", 1, (4,)), stats("m", "2", 5))
    two = packed(stats("m", "1", 1, (2,)), stats("other", "1", 7))
    told = statistics.by_version(statistics.summed([b"", one, two]))
    assert told["m", "2"] == stats("m", "2", 5)
    assert told["other", "1"] == stats("other", "1", 7)
    assert [batch.batch_size for batch in told["m", "1"].batch_stats] == [2, 4]
    assert statistics.summed([]) == b""


def test_a_client_is_told_what_all_have_counted(make_bench) -> None:
    async def everyone() -> bytes:
        elsewhere = packed(stats("m", "1", 1), stats("m", "2", 2), stats("gone", "1", 3))
        return statistics.summed([elsewhere, statistics.of_process(bench.engine)])

    bench = make_bench(everyone=everyone)
    with triton.InferenceServerClient(bench.address) as client:
        told = client.get_inference_statistics().model_stats
        figures = {(s.name, s.version): s.inference_count for s in told}
        # Of what this process does not serve nothing is said.
        assert figures == {("m", "1"): 7, ("m", "2"): 14, ("other", "1"): 0, ("other", "2"): 0}
        (one,) = client.get_inference_statistics("m", "2").model_stats
        assert one.inference_stats.success.count == 2


def test_a_sum_that_is_not_told_in_time_is_unavailable(make_bench) -> None:
    async def everyone() -> bytes:
        raise TimeoutError

    bench = make_bench(everyone=everyone)
    with triton.InferenceServerClient(bench.address) as client:
        with pytest.raises(InferenceServerException, match="did not tell") as caught:
            client.get_inference_statistics("m")
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
