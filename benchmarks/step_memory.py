"""`memory`: peak bytes of every method ÷ those of one plain SGD step, on every problem."""

from collections.abc import Mapping, Sequence

from benchmarks.cases import Case, every_workload
from benchmarks.judging import failed_row, geometric_mean, verdict
from benchmarks.repeating import Repeated, as_comparison, measure_repeatedly
from benchmarks.report import Report, circumstances, refuse_if_nothing
from jdviz.profiling import SGD, Limits, MeasurementError, StepMethod
from jdviz.profiling.results import OWNERS
from jdviz.profiling.turns import number

MEBIBYTE = 2**20
# Of the geometric mean over all workloads, and of the worst one.
MEAN_LIMITS = {"two-pass": 1.3, "fused": 1.6}
WORST_LIMITS = {"two-pass": 1.6}
# `autojac.backward` ÷ the peer's.
OURS_TO_PEER = ("autojac", "torchjd autojac")
PEER_LIMIT = 1.0
_NAMES = {"jacobian": "Jacobian", "gramian": "Gramian"}
COLUMNS = [
    "problem",
    "method",
    "÷ SGD",
    "peak MiB",
    "repeats",
    "in",
    "layer",
    "at",
    *(f"{_NAMES.get(owner, owner)} MiB" for owner in OWNERS),
    "parameters MiB",
    "target",
    "outcome",
]


def measure_step_memory(
    cases: Sequence[Case], methods: Sequence[StepMethod], repeats: int, limits: Limits
) -> Report:
    """Measures the memory of one step by every method, each in fresh processes.

    Args:
        cases: What is measured; one device for all.
        methods: How the step is taken, SGD first.
        repeats: How many processes measure the same; they must agree to the byte.
        limits: What each of them may take.

    Returns:
        For every case and method the peak as a multiple of SGD's and in MiB, where it is and what
        it is made of, and the target; or why there is none.

    Raises:
        MeasurementError: The number of repeats is not valid, or nothing could be measured.
    """
    if repeats < 1:
        raise MeasurementError(f"got {repeats} repeats, expected at least 1; give more.")
    rows: list[list[str]] = []
    failures: list[str] = []
    figures, comparisons = {}, {}
    multiples: dict[str, list[float]] = {method: [] for method in methods}
    for case in cases:
        try:
            specs = case.specs(methods, limits)
        except MeasurementError as error:
            failures.append(str(error))
            rows.append(failed_row(COLUMNS, case.name, "every method", str(error)))
            continue
        found = [measure_repeatedly(spec, repeats, limits) for spec in specs]
        by_method: dict[str, Repeated] = {one.spec.method: one for one in found}
        failures += [one.failure.sentence for one in found if one.failure is not None]
        for method, ratio in _multiples(by_method).items():
            multiples[method].append(ratio)
        rows += _rows(case, by_method)
        figures[case.name] = {method: one.figures() for method, one in by_method.items()}
        comparisons[case.name] = as_comparison(found).to_dict()
    refuse_if_nothing(any(one["measurements"] for one in comparisons.values()), failures)
    judge = every_workload(cases)
    rows += [
        _mean_row(method, values, judge)
        for method, values in multiples.items()
        if method != SGD and len(values) == len(cases) > 1
    ]
    return Report(
        title="Peak memory of one step ÷ plain SGD's, without the parameters, with new gradients",
        columns=COLUMNS,
        rows=rows,
        figures=figures,
        machine=circumstances(cases[0].device, cases[0].threads),
        comparisons=comparisons,
    )


def _multiples(found: Mapping[str, Repeated]) -> dict[str, float]:
    """Peaks ÷ SGD's, of the methods that have both."""
    plain = found[SGD].first
    return {
        method: max(one.peaks_bytes) / plain.peak_bytes
        for method, one in found.items()
        if plain is not None and one.found
    }


def _rows(case: Case, found: Mapping[str, Repeated]) -> list[list[str]]:
    """The lines of one case."""
    rows = []
    multiples = _multiples(found)
    for method, one in found.items():
        first = one.first
        if first is None:
            sentence = "" if one.failure is None else one.failure.sentence
            rows.append(failed_row(COLUMNS, case.name, method, sentence))
            continue
        ratio = multiples.get(method)
        limit = WORST_LIMITS.get(method) if case.has_targets and ratio is not None else None
        rows.append(
            [
                case.name,
                method,
                "–" if ratio is None else number(ratio),
                number(max(one.peaks_bytes) / MEBIBYTE),
                f"differ by {one.spread_bytes:,} bytes" if one.spread_bytes else "agree",
                first.peak_phase,
                first.peak_source.layer,
                first.peak_source.operation,
                *(number(first.peak_split[owner] / MEBIBYTE) for owner in OWNERS),
                number(first.parameter_bytes / MEBIBYTE),
                *verdict(ratio, limit),
            ]
        )
    ours, theirs = (multiples.get(method) for method in OURS_TO_PEER)
    if ours is not None and theirs is not None:
        ratio = ours / theirs
        limit = PEER_LIMIT if case.has_targets else None
        rows.append(_short_row(case.name, " ÷ ".join(OURS_TO_PEER), ratio, limit))
    return rows


def _mean_row(method: str, values: Sequence[float], judge: bool) -> list[str]:
    """The geometric mean over all cases."""
    limit = MEAN_LIMITS.get(method) if judge else None
    return _short_row("geometric mean", method, geometric_mean(values), limit)


def _short_row(name: str, method: str, ratio: float, limit: float | None) -> list[str]:
    """A line that has nothing but a ratio."""
    return [name, method, number(ratio), *[""] * (len(COLUMNS) - 5), *verdict(ratio, limit)]
