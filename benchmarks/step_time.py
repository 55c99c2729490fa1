"""`time`: every method ÷ one plain SGD step, on every workload."""

from collections.abc import Sequence

from benchmarks.cases import Case
from benchmarks.report import Report, circumstances
from benchmarks.steps import SGD
from benchmarks.timing import Timed, time_case
from benchmarks.turns import geometric_mean, judged, number
from jdviz.problems.workloads import WORKLOADS

# Of the geometric mean over all workloads, and of the worst one.
MEAN_LIMITS = {"fused": 1.4, "two-pass": 1.9}
WORST_LIMITS = {"fused": 1.8}
# `autojac.backward` ÷ the peer's.
OURS_TO_PEER = ("autojac", "torchjd autojac")
PEER_LIMIT, PEER_LIMIT_CONVOLUTIONAL = 1.0, 0.3
CONVOLUTIONAL = frozenset({"cifar_cnn", "resnet18_in", "alexnet"})
# The closed form is about steps that contract use by use.
BOUNDED = frozenset({"fused", "two-pass"})

COLUMNS = [
    "workload",
    "method",
    "÷ SGD",
    "quartiles",
    "bound",
    "ms",
    "extra ms",
    "predicted ms",
    "gradient error",
    "target",
    "outcome",
]


def measure_step_time(cases: Sequence[Case], methods: Sequence[str], rounds: int | None) -> Report:
    """Time one step by every method, in turn and with uniform weights.

    Args:
        cases: What is measured; one device for all.
        methods: Some of `benchmarks.steps.METHODS`, SGD first.
        rounds: How often each is timed; None for as many as fit in ten seconds.

    Returns:
        For every case and method the median of the ratios to SGD with quartiles, the closed-form
        bound, milliseconds beside what the engine predicts, and the target.

    Raises:
        MeasurementError: A case or the number of rounds is not valid, a plain step failed, or
            the engine refuses the model.
    """
    found = [time_case(case, methods, rounds) for case in cases]
    rows = [row for one in found for row in _rows(one, methods)]
    rows += [row for method in methods if (row := _mean_row(found, method)) is not None]
    return Report(
        title="Time of one step ÷ plain SGD's, median of ratios taken in turn; uniform weights",
        columns=COLUMNS,
        rows=rows,
        figures={one.case.name: one.figures() for one in found},
        machine=circumstances(cases[0].device),
        notes=[note for one in found for note in one.notes()],
    )


def _rows(timed: Timed, methods: Sequence[str]) -> list[list[str]]:
    """The lines of one case."""
    rows = []
    bound = timed.bound
    for method in methods:
        ratio = timed.ratio(method)
        if ratio is None:
            rows.append([timed.case.name, method, "failed", *[""] * (len(COLUMNS) - 3)])
            continue
        ms, sgd_ms = timed.median_ms(method), timed.median_ms(SGD)
        plain = method == SGD
        limit = WORST_LIMITS.get(method)
        rows.append(
            [
                timed.case.name,
                method,
                "1" if plain else number(ratio.median),
                "" if plain else ratio.range,
                number(bound.ratio) if method in BOUNDED else "",
                number(ms),
                "" if plain else number(ms - sgd_ms),
                number(bound.predicted_ms) if method in BOUNDED else "",
                "" if plain else f"{timed.errors[method]:.0e}",
                "" if limit is None else f"≤ {limit:g}",
                "" if limit is None else judged(ratio.median, limit),
            ]
        )
    peer = timed.ratio(*OURS_TO_PEER)
    if peer is not None:
        kind = timed.case.workload in CONVOLUTIONAL
        limit = PEER_LIMIT_CONVOLUTIONAL if kind else PEER_LIMIT
        rows.append(
            [
                timed.case.name,
                " ÷ ".join(OURS_TO_PEER),
                number(peer.median),
                peer.range,
                *[""] * 5,
                f"≤ {limit:g}",
                judged(peer.median, limit),
            ]
        )
    return rows


def _mean_row(found: Sequence[Timed], method: str) -> list[str] | None:
    """The geometric mean of a method; None for SGD, for one case and where the method failed."""
    medians = [ratio.median for one in found if (ratio := one.ratio(method)) is not None]
    if method == SGD or len(found) < 2 or len(medians) < len(found):
        return None
    mean, limit = geometric_mean(medians), MEAN_LIMITS.get(method)
    bound = geometric_mean([one.bound.ratio for one in found])
    # The target is about these five; a mean of others says nothing about it.
    if {one.case.name for one in found} != set(WORKLOADS):
        limit = None
    return [
        "geometric mean",
        method,
        number(mean),
        "",
        number(bound) if method in BOUNDED else "",
        *[""] * 4,
        "" if limit is None else f"≤ {limit:g}",
        "" if limit is None else judged(mean, limit),
    ]
