"""Parts of PromQL that several panels share. What is recorded is read as recorded."""

from __future__ import annotations

CLASS = 'model=~"$model", service_class=~"$service_class"'
MODEL = 'model=~"$model"'
POD = 'instance=~"$instance"'
ANSWERED = 'outcome=~"served|late"'
UNATTAINED = 'outcome=~"late|shed|expired|failed"'

RATE = "$__rate_interval"
RANGE = "$__range"

BY_CLASS = "{{model}} / {{service_class}}"
BY_VARIANT = "{{model}} / {{variant}}"


def recorded(name: str, of: str = CLASS) -> str:
    """A series of deploy/chart/files/rules/recording.yml."""
    return f"{name}{{{of}}}"


def rate(series: str, of: str, by: str = "", window: str = RATE) -> str:
    """What was counted a second, summed `by` labels."""
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({series}{{{of}}}[{window}]))"


def share(part: str, whole: str) -> str:
    """A part of a whole; nothing where there is no whole."""
    return f"{part} / ({whole} > 0)"


def quantile(q: float, histogram: str, of: str, by: str, window: str = RATE) -> str:
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', of, f'{by}, le', window)})"


def answers(by: str = "", window: str = RATE, of: str = CLASS) -> str:
    """Answers a second."""
    return rate("gearshift_requests_total", f"{of}, {ANSWERED}", by, window)


def busy(by: str = "", window: str = RATE, of: str = MODEL) -> str:
    """Worker seconds a second, on whatever device."""
    return rate("gearshift_variant_busy_seconds_total", of, by, window)


def worker_money(by: str = "", window: str = RATE, of: str = MODEL) -> str:
    """What workers cost a second, each device at its price."""
    summed = f"sum by ({by})" if by else "sum"
    series = "gearshift_variant_busy_seconds_total"
    cpu = f'rate({series}{{{of}, device!="gpu"}}[{window}]) * $cpu_hour'
    gpu = f'rate({series}{{{of}, device="gpu"}}[{window}]) * $gpu_hour'
    return f"{summed} ({cpu} or {gpu}) / 3600"


def cpu_seconds(by: str = "", window: str = RATE, of: str = POD) -> str:
    """CPU seconds a second of gearshift's processes: other exporters have the same series."""
    summed = f"sum by ({by})" if by else "sum"
    counted = f"rate(process_cpu_seconds_total{{{of}}}[{window}])"
    return f"{summed} ({counted} and on (job, instance) gearshift_build_info)"


def money(window: str = RATE, of: str = POD) -> str:
    """What everything costs a second: all CPU time of the processes, and GPU workers."""
    cpu = f"rate(process_cpu_seconds_total{{{of}}}[{window}])"
    gpu = f'rate(gearshift_variant_busy_seconds_total{{{of}, device="gpu"}}[{window}])'
    return (
        f"sum (({cpu} and on (job, instance) gearshift_build_info) * $cpu_hour"
        f" or {gpu} * $gpu_hour) / 3600"
    )


def mean_accuracy(by: str) -> str:
    """Of the answers in time, over several classes: each weighs by how many it has."""
    goodput = recorded("service_class:gearshift_goodput:rate5m")
    accuracy = recorded("service_class:gearshift_served_accuracy:mean5m")
    return share(f"sum by ({by}) ({accuracy} * {goodput})", f"sum by ({by}) ({goodput})")


def on_the_best(window: str = RATE) -> str:
    """Worker seconds a second that the same rows would have taken on the most accurate variant of
    their model: by what a row has cost there, or its latency of one row where it did not run."""
    rows = rate("gearshift_batch_size_sum", MODEL, "model, variant", window)
    cost = (
        f"{share(busy('model, variant', window), rows)}"
        f" or max by (model, variant)"
        f' (gearshift_variant_latency_seconds{{{MODEL}, quantile="0.5", batch="1"}})'
    )
    best = (
        "topk by (model) (1, max by (model, variant)"
        f' (gearshift_variant_accuracy{{{MODEL}, source!="live"}}))'
    )
    return (
        f"{rate('gearshift_batch_size_sum', MODEL, 'model', window)}"
        f" * on (model) max by (model) (({cost}) and on (model, variant) {best})"
    )
