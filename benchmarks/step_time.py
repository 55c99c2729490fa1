"""`time`: every method ÷ one plain SGD step, on every problem."""

from collections.abc import Sequence

from benchmarks.cases import Case, every_workload
from benchmarks.judging import failed_row, geometric_mean, verdict
from benchmarks.report import Report, circumstances, refuse_if_nothing
from benchmarks.timing import Timed, time_case
from jdviz.profiling import SGD, Comparison, Limits, MeasurementError, StepMethod
from jdviz.profiling.turns import number

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
    "problem",
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


def measure_step_time(
    cases: Sequence[Case], methods: Sequence[StepMethod], rounds: int | None, limits: Limits
) -> Report:
    """Times one step by every method, in turn and in a child process.

    Args:
        cases: What is measured; one device for all.
        methods: How the step is taken, SGD first.
        rounds: How often each is timed; None for as many as fit in ten seconds.
        limits: What a child may take.

    Returns:
        For every case and method the median of the ratios to SGD with quartiles, the closed-form
        bound, milliseconds beside what the engine predicts, and the target; or why there is none.

    Raises:
        MeasurementError: Nothing could be measured.
    """
    found: list[Timed] = []
    rows: list[list[str]] = []
    failures: list[str] = []
    for case in cases:
        try:
            timed = time_case(case, methods, rounds, limits)
        except MeasurementError as error:
            failures.append(str(error))
            rows.append(failed_row(COLUMNS, case.name, "every method", str(error)))
            continue
        found.append(timed)
        rows += _rows(timed, methods)
    refuse_if_nothing(bool(found), failures)
    if len(found) == len(cases):
        rows += [row for method in methods if (row := _mean_row(found, method)) is not None]
    return Report(
        title="Time of one step ÷ plain SGD's, median of ratios taken in turn",
        columns=COLUMNS,
        rows=rows,
        figures={one.case.name: one.figures() for one in found},
        machine=circumstances(cases[0].device, cases[0].threads),
        notes=[note for one in found for note in one.notes()],
        comparisons={one.case.name: Comparison([], one.times).to_dict() for one in found},
    )


def _rows(timed: Timed, methods: Sequence[str]) -> list[list[str]]:
    """The lines of one case."""
    rows = []
    case, bound = timed.case, timed.bound
    for method in methods:
        ratio = timed.ratio(method)
        if ratio is None:
            why = timed.times.failures.get(method, "")
            rows.append(failed_row(COLUMNS, case.name, method, f"{method}: {why.rstrip('.: ')}."))
            continue
        ms, sgd_ms = timed.median_ms(method), timed.median_ms(SGD)
        plain = method == SGD
        bounded = bound if method in BOUNDED else None
        error = None if plain else timed.times.errors.get(method)
        rows.append(
            [
                case.name,
                method,
                "1" if plain else number(ratio.median),
                "" if plain else ratio.range,
                "" if bounded is None else number(bounded.ratio),
                number(ms),
                "" if plain else number(ms - sgd_ms),
                "" if bounded is None else number(bounded.predicted_ms),
                "" if error is None else f"{error:.0e}",
                *verdict(ratio.median, WORST_LIMITS.get(method) if case.has_targets else None),
            ]
        )
    peer = timed.ratio(*OURS_TO_PEER)
    if peer is not None:
        kind = case.problem in CONVOLUTIONAL
        limit = PEER_LIMIT_CONVOLUTIONAL if kind else PEER_LIMIT
        rows.append(
            [
                case.name,
                " ÷ ".join(OURS_TO_PEER),
                number(peer.median),
                peer.range,
                *[""] * 5,
                *verdict(peer.median, limit if case.has_targets else None),
            ]
        )
    return rows


def _mean_row(found: Sequence[Timed], method: str) -> list[str] | None:
    """The geometric mean of a method; None for SGD, for one case and where the method failed."""
    medians = [ratio.median for one in found if (ratio := one.ratio(method)) is not None]
    if method == SGD or len(found) < 2 or len(medians) < len(found):
        return None
    mean = geometric_mean(medians)
    bounds = [one.bound.ratio for one in found if one.bound is not None]
    bounded = method in BOUNDED and len(bounds) == len(found)
    limit = MEAN_LIMITS.get(method) if every_workload([one.case for one in found]) else None
    return [
        "geometric mean",
        method,
        number(mean),
        "",
        number(geometric_mean(bounds)) if bounded else "",
        *[""] * 4,
        *verdict(mean, limit),
    ]
