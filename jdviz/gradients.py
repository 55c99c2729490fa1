"""Gradients as rows: from angles and lengths, from their inner products, and back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jdviz.conflict import ROUNDING
from jdviz.spectrum import leading_plane

#: A negative eigenvalue of a Gramian up to this share of the largest is rounding: single precision
#: leaves about 1e-7, and a sum over many parameters some more.
NEGATIVE = 1e-4


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


def rows_from_spherical(
    angles_deg: Sequence[float], rises_deg: Sequence[float], lengths: Sequence[float]
) -> NDArray[np.float64]:
    """Gradients in space from two angles and a length each.

    Args:
        angles_deg: Angle of each gradient's shadow in the plane from the x axis, degrees, shape
            [m].
        rises_deg: Angle of each above that plane, degrees, shape [m].
        lengths: Length of each, shape [m].

    Returns:
        The Jacobian, shape [m, 3]. Multiples of 90° are exact.
    """
    flat = rows_from_polar(angles_deg, [1.0] * len(angles_deg))
    raised = rows_from_polar(rises_deg, lengths)
    return np.column_stack([flat * raised[:, :1], raised[:, 1]]) + 0.0


def gramian_from_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Gramian G = J Jᵀ of gradients, with zeros where two are orthogonal up to rounding.

    Args:
        rows: Gradients, shape [m, n].

    Returns:
        Shape [m, m].
    """
    G = rows @ rows.T
    lengths = np.sqrt(np.diag(G))
    return np.where(np.abs(G) <= ROUNDING * np.outer(lengths, lengths), 0.0, G)


def rows_from_gramian(G: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors with given inner products: the gradients of a Gramian up to a rotation.

    With G = Q Λ Qᵀ the rows of Q Λ^½ have the inner products G. Eigenvalues descend, so the first
    two columns are the gradients in the plane that shows most of them.

    Args:
        G: Gramian, shape [m, m].

    Returns:
        Rows, shape [m, r] with r at least 2. The first two columns and their signs are those of
        `jdviz.spectrum.leading_plane`.

    Raises:
        ValueError: If G is not square, not finite, not symmetric, or has an eigenvalue so far below
            zero that no gradients have these inner products.
    """
    if G.ndim != 2 or G.shape[0] != G.shape[1] or not np.isfinite(G).all():
        raise ValueError(
            f"got a matrix of shape {G.shape}, expected a square one of finite numbers; choose "
            "another step."
        )
    if np.abs(G - G.T).max(initial=0.0) > NEGATIVE * np.abs(G).max(initial=0.0):
        raise ValueError(
            "got a matrix that is not symmetric, expected a Gramian; choose another matrix."
        )
    values, vectors = np.linalg.eigh((G + G.T) / 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    if values.size and values[-1] < -NEGATIVE * max(float(values[0]), 0.0):
        raise ValueError(
            f"got a matrix whose smallest eigenvalue is {values[-1]:.3g}, expected a Gramian, "
            "which has none below zero; choose another matrix."
        )
    rows = vectors * np.sqrt(np.maximum(values, 0.0))
    rows = rows[:, : max(2, int((values > 0).sum()))]
    rows = np.pad(rows, ((0, 0), (0, max(0, 2 - rows.shape[1]))))
    rows[:, :2] = leading_plane(G).gradients
    return rows


@dataclass(frozen=True)
class PlaneGradients:
    """Gradients in the plane as angles and lengths, to go on with by hand.

    Attributes:
        polar: Angle in degrees, to a tenth, and length of each, to a hundredth.
        places: Which of the given gradients they are.
    """

    polar: tuple[tuple[float, float], ...]
    places: tuple[int, ...]


def polar_from_rows(
    rows: NDArray[np.float64], *, most: int, longest: float = 2.0
) -> PlaneGradients:
    """Angles and lengths of gradients in the plane, the opposite of `rows_from_polar`.

    Args:
        rows: Gradients, shape [m, 2].
        most: Of more gradients than this the longest are taken, in their order.
        longest: Length that the longest gets; all zeros stay zero.

    Raises:
        ValueError: If rows do not have two columns.
    """
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ValueError(f"got gradients of shape {rows.shape}, expected [m, 2].")
    lengths = np.hypot(*rows.T)
    places = np.sort(np.argsort(-lengths, kind="stable")[:most])
    top = float(lengths.max(initial=0.0))
    scale = longest / top if top > 0 else 1.0
    polar = tuple(
        (
            round(math.degrees(math.atan2(rows[place, 1], rows[place, 0])), 1) + 0.0,
            round(scale * float(lengths[place]), 2),
        )
        for place in places
    )
    return PlaneGradients(polar, tuple(int(place) for place in places))
