"""What is compared of several runs: their series on one axis, final losses, baselines.

A loss is compared at the last step that all the runs have reached, as the mean over the last tenth
of the points until there, because the loss of a single batch is noisy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jdviz.histories import delta_percent
from jdviz.runs.describing import METHOD, seed_of, shown
from jdviz.runs.rows import SENT_BYTES, Run, Series

Array = NDArray[np.float64]

#: Share of the points, counted from the end, whose mean is the final loss.
FINAL_SHARE = 0.1
BASELINE_METHOD = "Mean"
#: Settings that decide what the losses mean; runs that differ in one cannot be compared by them.
_TASK = ("problem", "conflict")

MEAN_LOSS = "mean loss"
CONFLICT_RATE = "conflict rate"
LEAST_COSINE = "smallest cosine"
EXCHANGED = "exchanged between ranks"
_LOSS_OF, _WEIGHT_OF, _RECORDED = "loss of ", "weight of ", "recorded: "
#: By quantity: what the values are, their unit, and where they are in a series.
_PLAIN: Mapping[str, tuple[str, str, Callable[[Series], Array]]] = {
    MEAN_LOSS: (MEAN_LOSS, "", lambda series: row_means(series.losses)),
    CONFLICT_RATE: ("share of pairs in conflict", "", lambda series: series.conflict_rate),
    LEAST_COSINE: ("smallest cosine of a pair", "", lambda series: series.least_cosine),
    "length of the update": ("length of the update", "", lambda series: series.direction_norm),
    "time of a step": ("time of a step", "ms", lambda series: 1e3 * series.elapsed_s),
    "memory": ("peak of memory", "MiB", lambda series: series.peak_bytes / 2**20),
    EXCHANGED: ("exchanged between ranks", "MiB", lambda series: sent_bytes(series) / 2**20),
}


@dataclass(frozen=True, eq=False)
class Result:
    """A run with its history.

    Attributes:
        run: What is known of it.
        series: Its history.
        names: Names of its objectives where they are the same at every step, length m; empty where
            each is a sample of the batch.
    """

    run: Run
    series: Series
    names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Final:
    """Where the losses of a run stand at a step.

    Attributes:
        step: The last step that counts.
        points: How many points the means are taken over.
        losses: Mean of every objective's loss, shape [m].
        mean_loss: Mean over the objectives.
    """

    step: int
    points: int
    losses: Array
    mean_loss: float


@dataclass(frozen=True, eq=False)
class Delta:
    """The final losses of a run in percent of a baseline's; above zero is better.

    Attributes:
        name: What the run is called.
        result: The run.
        baseline: What it is compared with.
        step: The step at which they are compared.
        tasks: What was compared: every task, or the mean loss alone.
        per_task: Δ% of each, shape [T]; NaN where the loss of the baseline is zero.
        mean: Their mean.
    """

    name: str
    result: Result
    baseline: Result
    step: int
    tasks: tuple[str, ...]
    per_task: Array
    mean: float

    @property
    def relative(self) -> Array:
        """The losses as multiples of the baseline's, shape [T]."""
        return 1 - self.per_task / 100


def row_means(values: Array) -> Array:
    """Mean of every row over the numbers that are there; NaN for a row without any.

    Args:
        values: Shape [k, m].

    Returns:
        Means, shape [k].
    """
    there = ~np.isnan(values)
    count = there.sum(axis=1)
    total = np.where(there, values, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore"):
        # Not a number where there is nothing to take the mean of.
        means: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def sent_bytes(series: Series) -> Array:
    """Bytes that the ranks of a run sent to each other in every step, shape [k]; NaN for none."""
    return series.scalars.get(SENT_BYTES, np.full(len(series.steps), np.nan))


def usual_sent_bytes(series: Series) -> tuple[float, int]:
    """Bytes that the ranks of a run sent to each other in a step.

    Args:
        series: The run's history.

    Returns:
        Their median, NaN if there are none, and over how many steps it is taken.
    """
    found = sent_bytes(series)
    found = found[np.isfinite(found)]
    return (float(np.median(found)) if found.size else np.nan), found.size


def quantities(results: Sequence[Result]) -> tuple[str, ...]:
    """What of several runs can be drawn over their steps.

    Args:
        results: The runs.

    Returns:
        The mean loss first, then what at least one of them has.
    """
    names = dict.fromkeys(name for result in results for name in result.names)
    recorded = dict.fromkeys(name for result in results for name in result.series.scalars)
    # It is there under a name that people read.
    recorded.pop(SENT_BYTES, None)
    wanted = [
        *(_LOSS_OF + name for name in names),
        *(name for name in _PLAIN if name != MEAN_LOSS),
        *(_WEIGHT_OF + name for name in names),
        *(_RECORDED + name for name in recorded),
    ]
    kept = [
        quantity
        for quantity in wanted
        if any(np.isfinite(values_of(result, quantity)).any() for result in results)
    ]
    return (MEAN_LOSS, *kept)


def quantity_and_unit(quantity: str) -> tuple[str, str]:
    """What the values of one of `quantities` are, and their unit, empty where they have none."""
    plain = _PLAIN.get(quantity)
    return (quantity.removeprefix(_RECORDED), "") if plain is None else plain[:2]


def values_of(result: Result, quantity: str) -> Array:
    """One quantity of a run over its steps.

    Args:
        result: The run.
        quantity: One of `quantities`.

    Returns:
        Its values, shape [k]; NaN where a step, or the run, has none.
    """
    series = result.series
    if quantity in _PLAIN:
        return _PLAIN[quantity][2](series)
    for prefix, values in ((_LOSS_OF, series.losses), (_WEIGHT_OF, series.weights)):
        name = quantity.removeprefix(prefix)
        if name != quantity and name in result.names:
            return values[:, result.names.index(name)]
    missing = np.full(len(series.steps), np.nan)
    return series.scalars.get(quantity.removeprefix(_RECORDED), missing)


def difference(result: Result, baseline: Result, quantity: str) -> Array:
    """A quantity of a run less that of a baseline at the same steps.

    Args:
        result: The run.
        baseline: The run to compare with.
        quantity: One of `quantities`.

    Returns:
        Differences, shape [k]. Between two recorded steps of the baseline its value is taken from
        the straight line between them; NaN at steps beyond them.
    """
    values = values_of(baseline, quantity)
    there = np.isfinite(values)
    if not there.any():
        return np.full(len(result.series.steps), np.nan)
    reference = np.interp(
        result.series.steps,
        baseline.series.steps[there],
        values[there],
        left=np.nan,
        right=np.nan,
    )
    return values_of(result, quantity) - reference


def common_end(results: Sequence[Result]) -> int:
    """The last step that all runs have reached; -1 where one has none."""
    ends = [result.series.steps for result in results]
    return min((int(steps[-1]) if len(steps) else -1 for steps in ends), default=-1)


def final(result: Result, until: int) -> Final:
    """Where the losses of a run stand.

    Args:
        result: The run.
        until: The last step that counts.

    Returns:
        Means over the last tenth of the points until there, at least one; NaN without any.
    """
    series = result.series
    end = int(np.searchsorted(series.steps, until, side="right"))
    points = min(end, max(1, round(end * FINAL_SHARE)))
    losses = series.losses[end - points : end]
    mean = row_means(row_means(losses)[None, :])
    return Final(until, points, row_means(losses.T), float(mean[0]))


def default_baseline(result: Result, others: Sequence[Result]) -> Result | None:
    """The run of plain averaging that a run is best compared with.

    Args:
        result: The run.
        others: The runs to choose from.

    Returns:
        Among the runs of the Mean aggregator with the same problem and seed, the one with the most
        settings in common, the first of several; None if there is none.
    """
    fitting = [
        other
        for other in others
        if other.run.config.get(METHOD) == BASELINE_METHOD
        and seed_of(other.run) == seed_of(result.run)
        and not mismatch(result, other)
    ]
    config = result.run.config
    return max(
        fitting,
        key=lambda other: sum(
            config.get(name) == value for name, value in other.run.config.items()
        ),
        default=None,
    )


def mismatch(result: Result, baseline: Result) -> str:
    """Why the losses of two runs cannot be compared.

    Args:
        result: A run.
        baseline: The run to compare it with.

    Returns:
        The reason as the end of a sentence; empty if they can be compared.
    """
    for name in _TASK:
        own, other = result.run.config.get(name), baseline.run.config.get(name)
        if own != other:
            return f"its {name} is {shown(own)}, that of the baseline {shown(other)}"
    if bool(result.names) != bool(baseline.names):
        kinds = ("tasks", "samples") if result.names else ("samples", "tasks")
        return f"its objectives are {kinds[0]}, those of the baseline {kinds[1]}"
    own_m, other_m = len(result.names), len(baseline.names)
    if own_m != other_m:
        return f"it has {own_m} objectives, the baseline {other_m}"
    if result.names != baseline.names:
        return (
            f"its objectives are {', '.join(result.names)}, those of the baseline "
            f"{', '.join(baseline.names)}"
        )
    return ""


def deltas(
    pairs: Sequence[tuple[Result, Result | None]], names: Sequence[str]
) -> tuple[list[Delta], list[str]]:
    """The final losses of several runs against their baselines, as far as they can be compared.

    Args:
        pairs: Every run with its baseline, or None where it has none. A run that is its own
            baseline is left out.
        names: What every run is called.

    Returns:
        What can be shown beside each other, and a sentence for every run that cannot.
    """
    found: list[Delta] = []
    refused = []
    for (result, baseline), name in zip(pairs, names, strict=True):
        if result is baseline:
            continue
        reason = "there is no baseline for it" if baseline is None else mismatch(result, baseline)
        if baseline is None or reason:
            refused.append(f"{name} is not compared: {reason}.")
            continue
        delta = _delta(result, baseline, name)
        if delta.step < 0:
            refused.append(f"{name} is not compared: it has no step yet, or its baseline has none.")
        elif found and delta.tasks != found[0].tasks:
            refused.append(
                f"{name} is not shown: its objectives are not those of {found[0].name}, and a "
                "mean over both would say nothing."
            )
        else:
            found.append(delta)
    return found, refused


def _delta(result: Result, baseline: Result, name: str) -> Delta:
    until = common_end([result, baseline])
    own, other = final(result, until), final(baseline, until)
    if result.names:
        tasks, values = result.names, delta_percent(own.losses, other.losses)
    else:
        tasks, values = (MEAN_LOSS,), delta_percent([own.mean_loss], [other.mean_loss])
    return Delta(name, result, baseline, until, tasks, values.per_task, values.mean)
