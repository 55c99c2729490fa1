"""`growth`: memory and time of every method as the batch, or the model, grows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.cases import Case, look_up
from benchmarks.judging import judged
from benchmarks.repeating import Repeated, measure_repeatedly
from benchmarks.report import Report, circumstances, refuse_if_nothing
from benchmarks.timing import Timed, time_case
from jdviz.problems.base import parameter_count
from jdviz.profiling import SGD, Limits, MeasurementError, MeasureSpec, StepMethod
from jdviz.profiling.estimate import predicted_bytes
from jdviz.profiling.structure import structure_of
from jdviz.profiling.turns import number

PROBLEMS_GROWN = ("cifar_cnn", "mlp")
BATCHES = (8, 32, 64, 128, 256)
# The largest models of some problems need more memory than a small machine has.
FEW_SIZES = 5
MEBIBYTE = 2**20
# The fused step's targets: a multiple of SGD, or one of the closed form and a constant.
RATIO_LIMITS = {"cifar_cnn": 1.5}
BOUND_FACTORS = {"mlp": 1.25}
BOUND_CONSTANT_MS = 0.15
WORKSPACE_BYTES = 16 * MEBIBYTE
WORKSPACE_SHARE = 0.25
BATCH, WIDTH, PARAMETERS = "batch size", "width", "parameters"
COLUMNS = [
    "case",
    "method",
    "÷ SGD",
    "quartiles",
    "bound",
    "ms",
    "limit ms",
    "time outcome",
    "memory ÷ SGD",
    "peak MiB",
    "predicted MiB",
    "workspace MiB",
    "limit MiB",
    "memory outcome",
]


@dataclass(frozen=True)
class Point:
    """One size at which every method is measured.

    Attributes:
        case: What is measured.
        axis: What grows: `BATCH`, `WIDTH` or `PARAMETERS`.
        x: How much of it there is.
    """

    case: Case
    axis: str
    x: int


def grown(
    cases: Sequence[Case], batches: Sequence[int], sizes: Sequence[str] | None, limits: Limits
) -> tuple[list[Point], list[str]]:
    """The settings that are measured.

    Args:
        cases: One for each problem, at its own size and batch.
        batches: Numbers of samples.
        sizes: Names of model sizes, at the own batch of each problem that has them; None for the
            smallest five of a problem that has several.
        limits: What a child may take that looks at a problem.

    Returns:
        One point for each, and a sentence for each problem that is not there at all of them.

    Raises:
        MeasurementError: No problem can be built, or none has one of the sizes.
    """
    points: list[Point] = []
    notes: list[str] = []
    met: set[str] = set()
    for case in cases:
        try:
            known = look_up(case.problem, limits)
        except MeasurementError as error:
            notes.append(str(error))
            continue
        if known.resizable:
            points += [Point(replace(case, batch_size=m), BATCH, m) for m in batches]
        else:
            points.append(Point(case, BATCH, known.default_batch))
            notes.append(
                f"{case.problem} comes with a batch of {known.default_batch:,} and takes no other; "
                "give its factory an argument batch_size to see it grow."
            )
        several = known.sizes[:FEW_SIZES] if len(known.sizes) > 1 else ()
        wanted = several if sizes is None else [size for size in sizes if size in known.sizes]
        points += [_resized(replace(case, size=size)) for size in wanted]
        met |= set(wanted)
    refuse_if_nothing(bool(points), notes)
    unknown = [size for size in sizes or () if size not in met]
    if unknown:
        raise MeasurementError(
            f"got --sizes {unknown[0]}, expected a model size of one of the "
            "problems; choose another."
        )
    return points, notes


def _resized(case: Case) -> Point:
    """A point at another model size: its width where it is a number, else its parameters."""
    if case.size is not None and case.size.isdecimal():
        return Point(case, WIDTH, int(case.size))
    _, built = replace(case, batch_size=1).build()
    return Point(case, PARAMETERS, parameter_count(built.model))


@dataclass(frozen=True)
class Found:
    """What was found at one size.

    Attributes:
        point: Which.
        peaks: Memory by method; empty where none was asked for.
        predicted: Predicted peaks in bytes, by method.
        timed: Durations; None where there are none.
        refusal: Why nothing, no durations or no predictions are there; "" otherwise.
    """

    point: Point
    peaks: dict[str, Repeated]
    predicted: dict[str, int]
    timed: Timed | None
    refusal: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found."""
        return self.timed is None and not any(one.found for one in self.peaks.values())

    def failures(self) -> list[str]:
        """Why there is not more, one sentence each."""
        told = [one.failure.sentence for one in self.peaks.values() if one.failure is not None]
        if self.timed is not None:
            told += [
                f"{method}: {why.rstrip('.: ')}."
                for method, why in self.timed.times.failures.items()
            ]
        return [*told, *filter(None, [self.refusal])]

    def notes(self) -> list[str]:
        """What a reader has to know of it."""
        failed = [f"{self.point.case.name}: {sentence}" for sentence in self.failures()]
        return [*failed, *([] if self.timed is None else self.timed.notes())]

    def figures(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        return {
            "problem": self.point.case.problem,
            "axis": self.point.axis,
            "x": self.point.x,
            **({} if self.timed is None else self.timed.figures()),
            "limit_ms": None if self.timed is None else limit_ms(self.timed),
            "peaks": {
                method: {**one.figures(), "predicted_bytes": self.predicted.get(method)}
                for method, one in self.peaks.items()
            },
        }


def measure_growth(
    points: Sequence[Point],
    methods: Sequence[StepMethod],
    rounds: int | None,
    limits: Limits,
    *,
    memory: bool,
) -> Report:
    """Times every method in turn, and measures its memory, at every size.

    Args:
        points: From `grown`, at least one.
        methods: How the step is taken, SGD first.
        rounds: How often each is timed; None for as many as fit in ten seconds.
        limits: What a child may take.
        memory: Whether to measure the peaks too, which takes some seconds for each.

    Returns:
        One line for each case and method: ratios to SGD, milliseconds, closed form, limit, peak,
        prediction, workspace (the peak beyond SGD's) and its limit.

    Raises:
        MeasurementError: Nothing could be measured.
    """
    found = [_measure_point(point, methods, rounds, limits, memory=memory) for point in points]
    failures = [sentence for one in found for sentence in one.failures()]
    refuse_if_nothing(not all(one.is_empty for one in found), failures)
    first = points[0].case
    return Report(
        title="One step as the batch or the model grows, ÷ plain SGD's; workspace is the peak "
        "beyond SGD's",
        columns=COLUMNS,
        rows=[
            [one.point.case.name, method, *_time(one.timed, method), *_memory(one, method)]
            for one in found
            for method in methods
        ],
        figures={
            one.point.case.name: {**one.figures(), "memory_limit_bytes": limits.memory_bytes}
            for one in found
        },
        machine=circumstances(first.device, first.threads),
        notes=[note for one in found for note in one.notes()],
    )


def _measure_point(
    point: Point,
    methods: Sequence[StepMethod],
    rounds: int | None,
    limits: Limits,
    *,
    memory: bool,
) -> Found:
    """Measures at one size; a method without a peak is not timed."""
    case = point.case
    try:
        specs = case.specs(methods, limits)
    except MeasurementError as error:
        return Found(point, {}, {}, None, str(error))
    peaks: dict[str, Repeated] = {}
    predicted: dict[str, int] = {}
    unpredicted = ""
    if memory:
        peaks = {spec.method: measure_repeatedly(spec, 1, limits) for spec in specs}
        predicted, unpredicted = _predictions(specs)
    timed = [method for method in methods if not memory or peaks[method].found]
    if SGD not in timed:
        return Found(point, peaks, predicted, None, unpredicted)
    try:
        found = time_case(case, timed, rounds, limits)
        return Found(point, peaks, predicted, found, unpredicted)
    except MeasurementError as error:
        return Found(point, peaks, predicted, None, str(error))


def _predictions(specs: Sequence[MeasureSpec]) -> tuple[dict[str, int], str]:
    """Predicted peaks in bytes, of the methods that have some, and why none has, if none does."""
    try:
        structure = structure_of(specs[0].problem, specs[0].size)
    except MeasurementError as error:
        return {}, f"no prediction: {error}"
    found = {
        spec.method: predicted_bytes(structure, spec.method, spec.batch_size) for spec in specs
    }
    return {method: size for method, size in found.items() if size is not None}, ""


def limit_ms(timed: Timed) -> float | None:
    """How long the fused step may take.

    Args:
        timed: What was found on a case.

    Returns:
        Milliseconds; None if the problem has no target.
    """
    sgd_ms = timed.median_ms(SGD)
    name = timed.case.problem
    if name in RATIO_LIMITS:
        return RATIO_LIMITS[name] * sgd_ms
    if name in BOUND_FACTORS and timed.bound is not None:
        return BOUND_FACTORS[name] * timed.bound.ratio * sgd_ms + BOUND_CONSTANT_MS
    return None


def workspace_limit_bytes(sgd_peak_bytes: int) -> float:
    """How much the fused step may need beyond SGD.

    Args:
        sgd_peak_bytes: Peak of the plain step.

    Returns:
        Bytes, of all blocks together.
    """
    return max(WORKSPACE_BYTES, WORKSPACE_SHARE * sgd_peak_bytes)


def _time(timed: Timed | None, method: str) -> list[str]:
    """Six cells."""
    ratio = None if timed is None else timed.ratio(method)
    if timed is None or ratio is None:
        return ["failed", *[""] * 5]
    if method == SGD:
        return ["1", "", "", number(timed.median_ms(SGD)), "", ""]
    limit = limit_ms(timed) if method == "fused" else None
    # Of the ratio and not of its own median, so that a slow minute counts for both.
    ms = ratio.median * timed.median_ms(SGD)
    bounded = timed.bound if method in ("fused", "two-pass") else None
    return [
        number(ratio.median),
        ratio.range,
        "" if bounded is None else number(bounded.ratio),
        number(ms),
        "" if limit is None else number(limit),
        "" if limit is None else judged(ms, limit),
    ]


def _memory(found: Found, method: str) -> list[str]:
    """Six cells."""
    own, plain = found.peaks.get(method), found.peaks.get(SGD)
    if own is None:
        return [""] * 6
    predicted = found.predicted.get(method)
    guess = "" if predicted is None else number(predicted / MEBIBYTE)
    if own.first is None:
        return ["failed", "", guess, "", "", ""]
    peak = own.first.peak_bytes
    base = None if plain is None or plain.first is None else plain.first.peak_bytes
    if base is None or method == SGD:
        return ["–" if base is None else "1", number(peak / MEBIBYTE), guess, "", "", ""]
    limit = workspace_limit_bytes(base) if method == "fused" else None
    return [
        number(peak / base),
        number(peak / MEBIBYTE),
        guess,
        number((peak - base) / MEBIBYTE),
        "" if limit is None else number(limit / MEBIBYTE),
        "" if limit is None else judged(peak - base, limit),
    ]
