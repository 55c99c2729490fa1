"""Measures of series over the steps of runs: smoothing, spread over seeds, change in percent."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jdviz.conflict import Array

#: Fewer seeds than this say nothing about spread, and give no ranking.
ENOUGH_SEEDS = 3


@dataclass(frozen=True, eq=False)
class SeedsBand:
    """One quantity over several seeds, on the steps that all of them have.

    Attributes:
        steps: Steps that every seed has, ascending, shape [k].
        median: Median over the seeds, shape [k]; NaN where a seed has no value.
        low: First quartile, shape [k]; NaN everywhere if there are too few seeds.
        high: Third quartile, likewise.
        seeds: How many there are.
        enough: Whether they are enough for a spread and for a ranking.
    """

    steps: NDArray[np.int64]
    median: Array
    low: Array
    high: Array
    seeds: int
    enough: bool


@dataclass(frozen=True, eq=False)
class DeltaPercent:
    """How much better values are than a baseline.

    Attributes:
        per_task: Percent for each task, positive where it is better, shape [T]; NaN where the
            baseline is zero or a number is missing.
        mean: Their mean, in percent; NaN if one of them is missing.
    """

    per_task: Array
    mean: float


def smooth(values: ArrayLike, weight: float) -> Array:
    """Exponential moving average without the bias of its start.

    Args:
        values: Series, shape [k] or [k, columns].
        weight: Of what came before, from 0 (nothing is smoothed) to below 1.

    Returns:
        The same shape. A value that is not finite is left out of the average and is NaN there.

    Raises:
        ValueError: If the weight is out of range, or the series has more than two dimensions.

    Source: Kingma and Ba, Adam, arXiv 1412.6980, section 3, for the correction of the start.
    """
    if not 0.0 <= weight < 1.0:
        raise ValueError(f"got smoothing weight {weight}, expected 0 or more and below 1.")
    series = np.array(values, dtype=np.float64)
    if series.ndim not in (1, 2):
        raise ValueError(f"got a series of shape {series.shape}, expected [k] or [k, columns].")
    columns = series[:, None] if series.ndim == 1 else series
    average, seen = np.zeros(columns.shape[1]), np.zeros(columns.shape[1])
    result = np.full(columns.shape, np.nan)
    for place, row in enumerate(columns):
        known = np.isfinite(row)
        average[known] = weight * average[known] + (1 - weight) * row[known]
        seen[known] = weight * seen[known] + (1 - weight)
        result[place, known] = average[known] / seen[known]
    return result.reshape(series.shape)


def seeds_band(runs: Sequence[tuple[ArrayLike, ArrayLike]]) -> SeedsBand:
    """Median and quartiles over runs that differ in their seed alone.

    Args:
        runs: Steps, shape [k], ascending, and values, shape [k], of each seed; k may differ.

    Returns:
        What they have in common. A seed that diverged counts: where it has no value, the band has
        none, instead of one over the seeds that went well.

    Raises:
        ValueError: If steps and values of a run do not fit.
    """
    series: list[tuple[NDArray[np.int64], Array]] = []
    for steps, values in runs:
        moments, numbers = np.asarray(steps, dtype=np.int64), np.array(values, dtype=np.float64)
        if moments.ndim != 1 or moments.shape != numbers.shape:
            raise ValueError(
                f"got steps of shape {moments.shape} and values of shape {numbers.shape}, "
                "expected [k] for both."
            )
        series.append((moments, np.where(np.isfinite(numbers), numbers, np.nan)))
    enough = len(series) >= ENOUGH_SEEDS
    nothing = np.zeros(0)
    if not series:
        return SeedsBand(np.zeros(0, np.int64), nothing, nothing, nothing, 0, enough)
    common = reduce(np.intersect1d, [moments for moments, _ in series])
    table = np.stack([values[np.searchsorted(moments, common)] for moments, values in series])
    # NaN in one of them makes all three NaN, which is meant.
    low, median, high = np.percentile(table, [25, 50, 75], axis=0)
    if not enough:
        low = high = np.full(len(common), np.nan)
    return SeedsBand(common, median, low, high, len(series), enough)


def delta_percent(
    values: ArrayLike, baseline: ArrayLike, *, lower_is_better: bool = True
) -> DeltaPercent:
    """Δ%: how much better than a baseline each task is, and on average.

    Args:
        values: One number for each task, shape [T], such as its last loss.
        baseline: The same of the baseline, shape [T].
        lower_is_better: True for losses, False for accuracies.

    Raises:
        ValueError: If the shapes do not fit.

    Source: Δp of LibMTL (arXiv 2203.14338, section 3), from Maninis et al., arXiv 1904.08918,
        equation 4: the mean of (-1)^l (Mₜ - Bₜ) / Bₜ, here by |Bₜ|, so that a negative baseline
        does not turn the sign.
    """
    ours, theirs = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if ours.ndim != 1 or ours.shape != theirs.shape:
        raise ValueError(
            f"got values of shape {ours.shape} and a baseline of shape {theirs.shape}, "
            "expected one number for each task in both."
        )
    gain = theirs - ours if lower_is_better else ours - theirs
    usable = np.isfinite(gain) & (theirs != 0)
    per_task = np.full(ours.shape, np.nan)
    per_task[usable] = 100 * gain[usable] / np.abs(theirs[usable])
    return DeltaPercent(per_task, float(per_task.mean()) if per_task.size else float("nan"))
