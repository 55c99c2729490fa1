"""What each aggregation method makes of one small Jacobian, for comparison side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from engines.aggregation import METHODS
from jdviz.conflict import ROUNDING, hurt_mask, without_rounding

RANDOM_DRAWS = 48


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method does with a Jacobian J of shape [m, n].

    A method that draws random numbers is run several times; the other fields describe the mean of
    its draws, which is what many steps with it amount to.

    Attributes:
        method: The method's name.
        draws: Directions A(J), shape [s, n]; s is 1 unless the method is random.
        direction: Their mean, shape [n].
        weights: Mean weights, shape [m].
        inner: J·A(J), shape [m]: how fast each objective falls, negative for one that is hurt, 0
            for what is only rounding.
        norm: Length of `direction`.
        angle_to_mean_deg: Angle to the mean gradient in degrees, NaN if either is zero.
    """

    method: str
    draws: NDArray[np.float64]
    direction: NDArray[np.float64]
    weights: NDArray[np.float64]
    inner: NDArray[np.float64]
    norm: float
    angle_to_mean_deg: float

    @property
    def hurt(self) -> NDArray[np.bool_]:
        """Which objectives get worse, shape [m]."""
        return hurt_mask(self.inner)


def rows_from_polar(angles_deg: Sequence[float], lengths: Sequence[float]) -> NDArray[np.float64]:
    """Gradients in the plane from their angles and lengths.

    Args:
        angles_deg: Angle of each gradient from the x axis, degrees, shape [m].
        lengths: Length of each, shape [m]; 0 gives a zero gradient.

    Returns:
        The Jacobian, shape [m, 2]. Multiples of 90° are exact.
    """
    rows = np.empty((len(angles_deg), 2))
    for row, angle, length in zip(rows, angles_deg, lengths, strict=True):
        quarter, rest = divmod(angle, 90.0)
        # cos(90°) in floating point is 6e-17, which would make opposed gradients not quite so.
        x, y = (1.0, 0.0) if rest == 0 else _unit(rest)
        for _ in range(int(quarter) % 4):
            x, y = -y, x
        row[:] = length * x, length * y
    return rows + 0.0  # no negative zeros


def _unit(angle_deg: float) -> tuple[float, float]:
    return math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))


def compare(jacobian: NDArray[np.float64], methods: Sequence[str], seed: int) -> list[Outcome]:
    """Run several methods on one Jacobian.

    Args:
        jacobian: One gradient a row, shape [m, n].
        methods: Keys of `engines.aggregation.METHODS`.
        seed: Seeds the random ones; torch's own random state is left alone.

    Returns:
        One outcome for each method, in the given order.

    Raises:
        KeyError: If a method is unknown.
        EngineError: If a method cannot handle the Jacobian.
    """
    return [_outcome(jacobian, name, seed) for name in methods]


def _outcome(jacobian: NDArray[np.float64], name: str, seed: int) -> Outcome:
    record = METHODS[name]
    matrix = torch.tensor(jacobian, dtype=torch.float64)
    gramian = matrix @ matrix.T
    if record.random:
        weighting = record.make_weighting(generator=torch.Generator().manual_seed(seed))
    else:
        weighting = record.make_weighting()
    count = RANDOM_DRAWS if record.random else 1
    weights = np.stack([weighting(gramian).numpy() for _ in range(count)])
    lengths = np.linalg.norm(jacobian, axis=1)
    draws = weights @ jacobian
    # A sum of gradients that cancels is zero, and not a direction of length 1e-16.
    draws[np.linalg.norm(draws, axis=1) <= ROUNDING * (np.abs(weights) @ lengths)] = 0.0
    direction, mean = draws.mean(0), jacobian.mean(0)
    norm, mean_norm = float(np.linalg.norm(direction)), float(np.linalg.norm(mean))
    angle = math.nan
    if norm > 0 and mean_norm > 0:
        cosine = float(direction @ mean) / (norm * mean_norm)
        angle = math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
    inner = without_rounding(jacobian @ direction, jacobian @ jacobian.T, weights.mean(0))
    return Outcome(name, draws, direction, weights.mean(0), inner, norm, angle)
