"""Runs that are repeats of each other: their settings are equal but for the seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jdviz.runs.comparison import Result, common_end, final, mismatch
from jdviz.runs.describing import SEED, labels, seed_of, without_seed
from jdviz.runs.rows import Run

Array = NDArray[np.float64]

#: Fewer repeats than this say nothing about which of two methods is better.
LEAST_SEEDS = 3


@dataclass(frozen=True, eq=False)
class Group:
    """Runs whose settings are equal but for the seed.

    Attributes:
        label: What sets it apart from the other groups.
        results: The newest run of every seed, ascending by seed.
        seeds: The seed of each; "run 1", "run 2" … where none was recorded.
        left_out: Older runs of seeds that are there already.
    """

    label: str
    results: tuple[Result, ...]
    seeds: tuple[str, ...]
    left_out: int = 0


@dataclass(frozen=True)
class Summary:
    """Final mean losses of a group.

    Attributes:
        median: Their median.
        low: The lowest.
        high: The highest.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Paired:
    """Differences of final mean losses between two groups, seed by seed.

    Attributes:
        seeds: The seeds that both groups have.
        step: The step at which they are compared.
        differences: Mean loss less that of the baseline, shape [k].
        median: Median of the differences.
        low: The lowest.
        high: The highest.
        lower: For how many seeds the loss is below the baseline's.
    """

    seeds: tuple[str, ...]
    step: int
    differences: Array
    median: float
    low: float
    high: float
    lower: int


def repeats(results: Sequence[Result]) -> tuple[Group, ...]:
    """Runs grouped by their settings without the seed.

    Args:
        results: The runs.

    Returns:
        The groups in the order of their first runs.
    """
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(without_seed(result.run), []).append(result)
    members = list(found.values())
    # One run stands for its group; its own name would be that of one seed.
    unnamed = [_unnamed(group) for group in members]
    groups = []
    for label, group in zip(labels(unnamed, ignoring=(SEED,)), members, strict=True):
        newest: dict[str, Result] = {}
        for result in sorted(group, key=lambda one: one.run.created_s):
            newest[seed_of(result.run) or f"run {len(newest) + 1}"] = result
        seeds = sorted(newest, key=_by_number)
        groups.append(
            Group(
                label,
                tuple(newest[seed] for seed in seeds),
                tuple(seeds),
                left_out=len(group) - len(newest),
            )
        )
    return tuple(groups)


def summary(group: Group, until: int) -> Summary:
    """Median and spread of a group's final mean losses.

    Args:
        group: Repeats.
        until: The last step that counts.

    Returns:
        The numbers; NaN where no run has a loss.
    """
    losses = np.array([final(result, until).mean_loss for result in group.results])
    return Summary(*_spread(losses))


def _spread(values: Array) -> tuple[float, float, float]:
    """Median, least and greatest of the numbers that are there."""
    there = values[np.isfinite(values)]
    if not there.size:
        return math.nan, math.nan, math.nan
    return float(np.median(there)), float(there.min()), float(there.max())


def paired(group: Group, baseline: Group) -> Paired:
    """Compare two groups seed by seed, which takes out what the seed alone decides.

    Args:
        group: Repeats of one configuration.
        baseline: Repeats of another.

    Returns:
        The differences over the seeds that both have, at the last step that all of those runs have
        reached; none where the losses cannot be compared.
    """
    other = dict(zip(baseline.seeds, baseline.results, strict=True))
    pairs = [
        (seed, result, other[seed])
        for seed, result in zip(group.seeds, group.results, strict=True)
        # Where no seed was recorded, first with first would be no pair.
        if seed in other and seed_of(result.run) and not mismatch(result, other[seed])
    ]
    until = common_end([result for _, *both in pairs for result in both])
    differences = np.array(
        [final(one, until).mean_loss - final(two, until).mean_loss for _, one, two in pairs]
    )
    return Paired(
        tuple(seed for seed, *_ in pairs),
        until,
        differences,
        *_spread(differences),
        lower=int((differences < 0).sum()),
    )


def _unnamed(group: Sequence[Result]) -> Run:
    """The first run of a group, with the name that all of them share or none."""
    names = {result.run.name for result in group}
    run = group[0].run
    kept = names.pop() if len(names) == 1 else ""
    return replace(run, name=kept)


def _by_number(seed: str) -> tuple[float, str]:
    """Seeds in the order of numbers, others behind them."""
    digits = seed.removeprefix("run ")
    return (float(digits), seed) if digits.isdigit() else (math.inf, seed)
