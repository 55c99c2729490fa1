"""What every figure asks of its arrays: the right shape, and no value that cannot be drawn."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def drawable(values: ArrayLike) -> Array:
    """The values as float64, with NaN, which plotly leaves out, for all that is not finite."""
    array = np.array(values, dtype=np.float64)
    array[~np.isfinite(array)] = np.nan
    return array


def check_names(names: Sequence[str], m: int) -> list[str]:
    """One distinct name for each of m objectives.

    Raises:
        ValueError: If there are more or fewer names, or two are the same.
    """
    if len(names) != m or len(set(names)) != m:
        raise ValueError(
            f"got {len(names)} names ({len(set(names))} distinct), expected one for each of the "
            f"{m} objectives; number the objectives that share a name."
        )
    return list(names)


def check_square(matrix: ArrayLike) -> Array:
    """A square matrix ready to be drawn.

    Raises:
        ValueError: If it is not square.
    """
    array = drawable(matrix)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"got a matrix of shape {array.shape}, expected a square one [m, m].")
    return array


def small(values: ArrayLike) -> NDArray[np.float32]:
    """The values in the precision of the screen, which halves what a live figure sends."""
    with np.errstate(over="ignore"):
        array = np.asarray(values, dtype=np.float64).astype(np.float32)
    array[~np.isfinite(array)] = np.nan
    return array


def largest(values: ArrayLike) -> float:
    """The largest absolute value that can be drawn; 0 if there is none."""
    array = np.abs(drawable(values))
    return float(np.nanmax(array)) if np.isfinite(array).any() else 0.0


def nice_limit(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 4, 5, 7.5, 10 times a power of ten; 1 for zero.

    Axes that move in such steps stay still while the values on them change from tick to tick.

    Examples:
        >>> nice_limit(0.42), nice_limit(6.0), nice_limit(1.0), nice_limit(0.0)
        (0.5, 7.5, 1.0, 1.0)
    """
    if not np.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    steps = np.array([1, 1.5, 2, 3, 4, 5, 7.5, 10])
    # A value that is a step up to rounding is that step.
    fitting = steps[steps * power >= value * (1 - 1e-12)]
    return float(fitting[0] * power) if fitting.size else float(10 * power)


def nice_ticks(low: float, high: float, limit: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`, at most about `limit`.

    Examples:
        >>> nice_ticks(-3.0, 6.0, 6)
        [-2.0, 0.0, 2.0, 4.0, 6.0]
    """
    wanted = max(high - low, 1e-9) / limit
    power = 10.0 ** np.floor(np.log10(wanted))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted * 0.999)
    places = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1)
    # Rounding away what the multiplication left, so that 0.3 reads as 0.3; and no minus zero.
    return [float(f"{place * step:.6g}") + 0.0 for place in places]


def log_ticks(low: float, high: float) -> list[float]:
    """Places for ticks from `low` to `high` on a logarithmic axis.

    Returns:
        1, 2 and 5 times the powers of ten; over more than three of them, the powers alone.

    Examples:
        >>> log_ticks(0.4, 12.0), log_ticks(2.0, 90_000.0)
        ([0.5, 1.0, 2.0, 5.0, 10.0], [10.0, 100.0, 1000.0, 10000.0])
    """
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    factors = (1, 2, 5) if high / low <= 1000 else (1,)
    ticks = [float(f"{factor}e{power}") for power in powers for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]


def tick_places(m: int, limit: int = 16) -> list[int]:
    """At most about `limit` of m places, evenly spread from the first, to carry a tick label."""
    if m <= limit:
        return list(range(m))
    step = next(step for step in (2, 4, 5, 8, 10, 16, 20, 25, 32, 50, m) if m / step <= limit)
    return list(range(0, m, step))


def axis_marks(labels: list[str], groups: Sequence[str] | None) -> tuple[list[int], list[str]]:
    """Places on an axis of objectives that carry a tick, and their texts.

    Args:
        labels: Name of every objective, length m.
        groups: Group of every objective, length m, equal ones side by side, or None.

    Returns:
        Some objectives and their names; with groups, the middle of each and its name.

    Raises:
        ValueError: If there is not one group for each objective.
    """
    if groups is None:
        places = tick_places(len(labels))
        return places, [labels[place] for place in places]
    if len(groups) != len(labels):
        raise ValueError(f"got {len(groups)} groups, expected one for each of {len(labels)} names.")
    places, marks, start = [], [], 0
    for group, members in groupby(groups):
        size = len(list(members))
        places.append(start + (size - 1) // 2)
        marks.append(group)
        start += size
    return places, marks
