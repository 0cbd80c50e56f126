"""The gears of one model: what each promises, what it does, and who gets it."""

from __future__ import annotations

from deploy.dashboards.frame import row
from deploy.dashboards.panels import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    Column,
    Query,
    Scale,
    dots,
    lines,
    rows,
    timeline,
)
from deploy.dashboards.queries import MODEL, RANGE, RATE
from grafana_foundation_sdk.models import dashboard

from deploy.dashboards import frame, queries

ACCURACY = Scale("none", 4)
COUNT = Scale("none", 0, least=0)
SECONDS = Scale("s", 4, least=0)
SHARE = Scale("percentunit", 1, least=0)

VARIANT = {"variant": "Variant"}
CASCADE = {"cascade": "Cascade"}

CARD = f'max by (variant) (gearshift_variant_accuracy{{{MODEL}, source!="live"}})'
LIVE = f'max by (variant) (gearshift_variant_accuracy{{{MODEL}, source="live"}})'
USED = f"max by (variant) (gearshift_variant_accuracy_used{{{MODEL}}}) or {CARD}"
ANSWERS = queries.answers("variant", RANGE, MODEL)
OF_ALL = f"{ANSWERS} / on () group_left () (sum ({ANSWERS}) > 0)"


def _latency(quantile: str, batch: str = "1") -> str:
    of = f'{MODEL}, quantile="{quantile}", batch="{batch}"'
    return f"max by (variant) (gearshift_variant_latency_seconds{{{of}}})"


def _bound(which: str, series: str = "gearshift_variant_accuracy_interval") -> str:
    return f'max by (variant) ({series}{{{MODEL}, bound="{which}"}})'


def _level(series: str, by: str = "variant") -> str:
    return f"max by ({by}) ({series}{{{MODEL}}})"


def _frontier() -> tuple[frame.Row, ...]:
    standing = (
        f'max by (variant) (1 * (gearshift_variant_standing{{{MODEL}, standing="serving"}} == 1)'
        f' or 2 * (gearshift_variant_standing{{{MODEL}, standing="canary"}} == 1)'
        f' or 3 * (gearshift_variant_standing{{{MODEL}, standing="withdrawn"}} == 1))'
    )
    words = {
        "1": ("serving", GREEN),
        "2": ("canary", BLUE),
        "3": ("withdrawn", RED),
    }
    return row(
        "The frontier",
        12,
        (
            12,
            dots(
                "Accuracy against latency",
                "A dot for each variant, as large as its share of the answers: upper left is best."
                " Latency is the learned p99 of one row; accuracy the one that routing goes by:"
                " the card's, as labels correct it.",
                VARIANT,
                Column("p99 of one row", _latency("0.99"), Scale("s", 4)),
                Column("Accuracy", USED, ACCURACY),
                Column("Share of the answers", OF_ALL, SHARE),
                logarithmic=True,
            ),
        ),
        (
            12,
            lines(
                "Share of the answers",
                "Who answered, cascades included under the variant that gave the answer.",
                Scale("percentunit", 0),
                Query(queries.answers("variant", RATE, MODEL), "{{variant}}"),
                stacked=True,
                share=True,
            ),
        ),
    ), row(
        "Variant by variant",
        9,
        (
            24,
            rows(
                "Each variant",
                "Card: as measured offline. Live: from labels, with both ends of its 95 %"
                " interval. Used: what routing goes by. Fallen: certainly below its card.",
                VARIANT,
                [
                    Column("Card", CARD, ACCURACY),
                    Column("Live", LIVE, ACCURACY),
                    Column("Live, low", _bound("low"), ACCURACY),
                    Column("Live, high", _bound("high"), ACCURACY),
                    Column("Labels", _level("gearshift_feedback_labels"), COUNT),
                    Column("Used", USED, ACCURACY),
                    Column(
                        "Fallen",
                        _level("gearshift_variant_fallen"),
                        Scale("none", words={"0": ("no", GREEN), "1": ("yes", RED)}),
                    ),
                    Column("Standing", standing, Scale("none", words=words)),
                    Column("p50", _latency("0.5"), Scale("s", 2)),
                    Column("p99", _latency("0.99"), Scale("s", 2)),
                    Column("Share", OF_ALL, SHARE),
                    Column("Answers a second", ANSWERS, Scale("reqps", 1)),
                    Column(
                        "Artifact", _level("gearshift_variant_artifact_bytes"), Scale("bytes", 1)
                    ),
                ],
                sort="Card",
            ),
        ),
    )


def _accuracy() -> frame.Row:
    agreed = queries.share(
        queries.rate("gearshift_shadow_total", f'{MODEL}, agreed="true"', "variant", RANGE),
        queries.rate("gearshift_shadow_total", MODEL, "variant", RANGE),
    )
    return row(
        "Accuracy while it runs",
        9,
        (
            12,
            lines(
                "Live accuracy beside the card",
                "From labels, with both ends of the 95 % interval. A card below the interval or"
                " above it was measured on other inputs than these.",
                ACCURACY,
                Query(LIVE, "{{variant}}, live"),
                Query(_bound("low"), "{{variant}}, low"),
                Query(_bound("high"), "{{variant}}, high"),
                Query(f"{CARD} and on (variant) {LIVE}", "{{variant}}, card"),
            ),
        ),
        (
            6,
            lines(
                "Labels",
                "Labelled rows behind each live accuracy: with few of them its interval is wide.",
                COUNT,
                Query(_level("gearshift_feedback_labels"), "{{variant}}"),
            ),
        ),
        (
            6,
            lines(
                "Reports of what was true",
                "By what became of them. Unknown: the answer was never recorded, or too long ago.",
                Scale("reqps", 2),
                Query(queries.rate("gearshift_feedback_total", MODEL, "outcome"), "{{outcome}}"),
                stacked=True,
            ),
        ),
        (
            12,
            lines(
                "Agreement with the best variant, in shadow runs",
                "Of the rows that were run again on the most accurate variant in spare time: how"
                " often it said the same. Needs no labels; a sudden fall is news.",
                SHARE,
                Query(agreed.replace(RANGE, RATE), "{{variant}}"),
            ),
        ),
        (
            12,
            rows(
                "Accuracy from shadow runs",
                "What the agreement means for accuracy, corrected by labels for the best variant's"
                " own mistakes, with its 95 % interval.",
                VARIANT,
                [
                    Column("Agreement", agreed, SHARE),
                    Column("Accuracy", _level("gearshift_shadow_accuracy"), ACCURACY),
                    Column("Low", _bound("low", "gearshift_shadow_accuracy_interval"), ACCURACY),
                    Column("High", _bound("high", "gearshift_shadow_accuracy_interval"), ACCURACY),
                    Column("Card", CARD, ACCURACY),
                ],
                sort="Agreement",
            ),
        ),
    )


def _trials() -> tuple[frame.Row, ...]:
    went_on = queries.share(
        queries.rate("gearshift_cascade_answers_total", f'{MODEL}, stage="then"', "cascade", RANGE),
        queries.rate("gearshift_cascade_answers_total", MODEL, "cascade", RANGE),
    )
    return row(
        "Canaries and cascades",
        9,
        (
            12,
            timeline(
                "Canaries, and what was withdrawn",
                "A canary answers a small share until labels promote or withdraw it.",
                Scale(
                    "none",
                    words={
                        "1": ("serving", GREEN),
                        "2": ("canary", BLUE),
                        "3": ("withdrawn", RED),
                    },
                ),
                Query(
                    f'gearshift_variant_standing{{{MODEL}, standing="serving"}} == 1'
                    f' or 2 * (gearshift_variant_standing{{{MODEL}, standing="canary"}} == 1)'
                    f' or 3 * (gearshift_variant_standing{{{MODEL}, standing="withdrawn"}} == 1)',
                    "{{variant}}",
                ),
            ),
        ),
        (
            12,
            lines(
                "Answers of cascades",
                "By whom: the first variant where it was sure, the second (then), or the first for"
                " want of time (fallback).",
                Scale("reqps", 1),
                Query(
                    queries.rate("gearshift_cascade_answers_total", MODEL, "cascade, stage"),
                    "{{cascade}}, {{stage}}",
                ),
                stacked=True,
            ),
        ),
    ), row(
        "Cascade by cascade",
        5,
        (
            24,
            rows(
                "Each cascade",
                "Accuracy as measured and live, and the share that went on to the second variant,"
                " expected and seen: more than expected costs time, and means harder inputs.",
                CASCADE,
                [
                    Column("Measured", _level("gearshift_cascade_accuracy", "cascade"), ACCURACY),
                    Column("Live", _level("gearshift_cascade_accuracy_live", "cascade"), ACCURACY),
                    Column("Labels", _level("gearshift_cascade_feedback_labels", "cascade"), COUNT),
                    Column("Used", _level("gearshift_cascade_accuracy_used", "cascade"), ACCURACY),
                    Column(
                        "Expected to go on",
                        _level("gearshift_cascade_expected_share", "cascade"),
                        SHARE,
                    ),
                    Column("Went on", went_on, SHARE),
                    Column(
                        "Answers a second",
                        queries.rate("gearshift_cascade_answers_total", MODEL, "cascade", RANGE),
                        Scale("reqps", 1),
                    ),
                ],
                sort="Measured",
            ),
        ),
    )


def _latencies() -> frame.Row:
    of_all = queries.rate("gearshift_runs_total", f'{MODEL}, ended!="failed"', "variant")
    beyond = queries.rate("gearshift_runs_total", f'{MODEL}, ended="beyond_p99"', "variant")
    within = queries.rate("gearshift_runs_total", f'{MODEL}, ended="within_p50"', "variant")
    compute = "gearshift_compute_duration_seconds"
    return row(
        "Predicted and observed latency",
        9,
        (
            12,
            lines(
                "Compute time: observed, and predicted of one row",
                "p99 of the batches as they ran, beside the p99 that is predicted of a single row:"
                " batches make the difference.",
                SECONDS,
                Query(queries.quantile(0.99, compute, MODEL, "variant"), "{{variant}}, observed"),
                Query(_latency("0.99"), "{{variant}}, one row"),
            ),
        ),
        (
            6,
            lines(
                "Within the predicted p50",
                "Half of the runs is right. Far more: predictions are too careful, and better"
                " variants are left out; far less: they are too bold.",
                Scale("percentunit", 0, ((0.2, GREEN),), base=ORANGE, least=0, most=1),
                Query(queries.share(within, of_all), "{{variant}}"),
            ),
        ),
        (
            6,
            lines(
                "Beyond the predicted p99",
                "One run in a hundred is right; an alert from 20 % on.",
                Scale("percentunit", 1, ((0.05, YELLOW), (0.2, RED)), least=0),
                Query(queries.share(beyond, of_all), "{{variant}}"),
            ),
        ),
        (
            12,
            lines(
                "Rows in a batch",
                "Mean by variant: larger ones cost less a row and take longer.",
                Scale("none", 1, least=0),
                Query(
                    queries.share(
                        queries.rate("gearshift_batch_size_sum", MODEL, "variant"),
                        queries.rate("gearshift_batch_size_count", MODEL, "variant"),
                    ),
                    "{{variant}}",
                ),
            ),
        ),
        (
            12,
            lines(
                "Worker time",
                "Workers that each variant keeps busy, by device.",
                Scale("none", 2, least=0),
                Query(queries.busy("variant, device"), "{{variant}} on {{device}}"),
                stacked=True,
            ),
        ),
    )


def made() -> dashboard.Dashboard:
    return frame.composed(
        uid="gearshift-variants",
        title="gearshift: variants",
        description="The gears of one model: promise, performance, traffic.",
        rows=[*_frontier(), _accuracy(), *_trials(), _latencies()],
        variables=[frame.model(several=False)],
        since="now-6h",
    )
