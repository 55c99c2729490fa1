"""The largest batch that a budget allows, found by trying, to check a prediction."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple, Protocol

from jdviz.profiling.estimate import MOST_SAMPLES
from jdviz.profiling.measure import TIMEOUT_S, Limits, measure
from jdviz.profiling.results import Measurement
from jdviz.profiling.spec import MeasurementError, MeasureSpec, StepMethod

MOST_PROBES = 12
# Where nothing is predicted, tries begin here.
_FIRST_BATCH = 16
# How far each try beside the prediction goes from the one before; the last is repeated.
_FACTORS = (1.1, 1.25, 1.5, 2.0, 4.0)
# The verified batch may be this part of itself too small.
_NEAR = 50
# A child may take more than the budget, so that a batch that is a little too large is measured and
# not only ended; what the profiler needs comes on top.
_LIMIT_FACTOR = 2
_LIMIT_BYTES = 512 * 2**20


class Probe(NamedTuple):
    """One batch that was tried.

    Attributes:
        batch_size: Samples.
        total_bytes: Parameters, batch and the step's peak, as measured; None where there is none.
        fits: Whether that is within the budget.
        sentence: Why there is no measurement; "" where there is one.
    """

    batch_size: int
    total_bytes: int | None
    fits: bool
    sentence: str


class Measure(Protocol):
    """Measures a specification, as `jdviz.profiling.measure` does."""

    def __call__(self, spec: MeasureSpec, limits: Limits) -> Measurement:
        """See `jdviz.profiling.measure`."""
        ...


@dataclass(frozen=True)
class Fit:
    """The largest batch of one method that a budget allows.

    Attributes:
        method: Which step.
        budget_bytes: For parameters, batch and the step.
        predicted_batch: What was predicted, None where nothing was.
        verified_batch: The largest batch that was measured to fit; 0 where none was, None where
            none was tried.
        fails_at: The smallest batch that was found not to fit; None where none was.
        probes: What was tried, in that order.
        note: What else there is to say, "" where there is nothing.
    """

    method: StepMethod
    budget_bytes: int
    predicted_batch: int | None
    verified_batch: int | None
    fails_at: int | None
    probes: list[Probe] = field(default_factory=list)
    note: str = ""

    @classmethod
    def unverified(
        cls, method: StepMethod, budget_bytes: int, predicted_batch: int | None
    ) -> "Fit":
        """A prediction that nothing was measured of."""
        return cls(method, budget_bytes, predicted_batch, None, None)

    def error(self) -> float | None:
        """How far the prediction is off: 0.1 where it is a tenth too large.

        Returns:
            Predicted over verified batch, minus 1; None where one of the two is missing. Two zeros
            agree.
        """
        if self.predicted_batch is None or self.verified_batch is None:
            return None
        if self.verified_batch == 0:
            return 0.0 if self.predicted_batch == 0 else None
        return self.predicted_batch / self.verified_batch - 1

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Fit":
        """Builds a fit from what `to_dict` gave, also after a way through JSON.

        Raises:
            MeasurementError: An entry is missing or unknown.
        """
        names = {one.name for one in fields(cls)}
        if set(values) != names:
            raise MeasurementError(
                f"The fit has the entries {', '.join(values)}; "
                f"it must have {', '.join(sorted(names))}."
            )
        return cls(**{**values, "probes": [Probe(*probe) for probe in values["probes"]]})


def verify_fit(
    problem: str,
    size: str,
    method: StepMethod,
    budget_bytes: int,
    predicted: int | None,
    *,
    aggregator: str = "Mean",
    threads: int = 1,
    only_batch: int | None = None,
    measure: Measure = measure,
    on_probe: Callable[[Probe], None] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Fit:
    """Finds the largest batch that fits, by measuring around a prediction.

    Tries begin at the prediction, go up or down from there by growing factors until one fits and
    one does not. Then they go where the budget lies on the line between the two, and every third
    time to the middle, until what is between is a fiftieth of the batch.

    Args:
        problem: Name of a subject.
        size: Name of its model size.
        method: Which step.
        budget_bytes: For parameters, batch and the step.
        predicted: The largest batch as predicted, None where nothing is.
        aggregator: One of `measurable_methods`.
        threads: Threads that torch may use.
        only_batch: The one batch size that can be built, None where others can.
        measure: Measures a step in a process of its own.
        on_probe: Told of every try; what it raises ends them.
        timeout_s: Seconds that one try may take; what takes longer counts as not fitting.

    Returns:
        What was found, after at most `MOST_PROBES` tries.

    Raises:
        MeasurementError: A try failed for another reason than memory or time.
    """
    limits = Limits(_LIMIT_FACTOR * budget_bytes + _LIMIT_BYTES, timeout_s)
    probes: list[Probe] = []
    late = False

    def fits(batch_size: int) -> bool:
        nonlocal late
        spec = MeasureSpec(problem, size, batch_size, method, aggregator, threads=threads)
        try:
            found = measure(spec, limits)
        except MeasurementError as error:
            if error.kind not in ("memory", "time"):
                raise
            late = late or error.kind == "time"
            probes.append(Probe(batch_size, None, False, str(error)))
        else:
            total = found.parameter_bytes + found.batch_bytes + found.peak_bytes
            probes.append(Probe(batch_size, total, total <= budget_bytes, ""))
        if on_probe is not None:
            on_probe(probes[-1])
        return probes[-1].fits

    if only_batch is not None:
        low, high = (only_batch, None) if fits(only_batch) else (0, only_batch)
        note = f"Comes with a batch of {only_batch:,} and takes no other."
        return Fit(method, budget_bytes, predicted, low, high, probes, note)
    low, high = _bracket(fits, _FIRST_BATCH if predicted is None else max(1, predicted), probes)
    turn = 0
    while high is not None and high - low > max(1, low // _NEAR) and len(probes) < MOST_PROBES:
        middle = _between(low, high, probes, budget_bytes) if turn % 3 < 2 else (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
        turn += 1
    return Fit(method, budget_bytes, predicted, low, high, probes, _note(low, high, late))


def _bracket(
    fits: Callable[[int], bool], start: int, probes: list[Probe]
) -> tuple[int, int | None]:
    """The batch sizes nearest to the start of which one fits and one does not.

    Args:
        fits: Tries a batch size.
        start: Where to begin.
        probes: What was tried.

    Returns:
        The largest that fits, 0 where none does, and the smallest that does not, None where all
        do.
    """
    low, high = 0, None
    batch_size = min(start, MOST_SAMPLES)
    factors = iter(_FACTORS)
    factor = _FACTORS[-1]
    while len(probes) < MOST_PROBES:
        if fits(batch_size):
            low = batch_size
        else:
            high = batch_size
        factor = next(factors, factor)
        if high is None and low < MOST_SAMPLES:
            batch_size = min(MOST_SAMPLES, max(low + 1, int(low * factor)))
        elif low == 0 and high is not None and high > 1:
            batch_size = max(1, min(high - 1, int(high / factor)))
        else:
            break
    return low, high


def _between(low: int, high: int, probes: list[Probe], budget_bytes: int) -> int:
    """Where the budget lies on the line between two tries, else in the middle."""
    totals = {probe.batch_size: probe.total_bytes for probe in probes}
    least, most = totals.get(low), totals.get(high)
    if least is None or most is None or most <= least:
        return (low + high) // 2
    guess = low + (high - low) * (budget_bytes - least) // (most - least)
    margin = max(1, low // _NEAR)
    return min(max(guess, low + margin), high - 1)


def _note(low: int, high: int | None, late: bool) -> str:
    """What else there is to say."""
    said = []
    if high is None:
        said.append("No batch was found that does not fit.")
    elif high - low > max(1, low // _NEAR):
        said.append(
            f"Stopped after {MOST_PROBES} tries; the limit is between {low:,} and {high:,}."
        )
    if late:
        said.append("A batch that took too long counts as one that does not fit.")
    return " ".join(said)
