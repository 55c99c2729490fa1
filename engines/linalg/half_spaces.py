"""The nearest point of an intersection of half-spaces, in the coordinates of their normals."""

import numpy as np
from numpy.typing import NDArray

from engines.errors import SolverError
from engines.linalg.dense import eigh, product
from engines.linalg.non_negative import non_negative

Array = NDArray[np.float64]

# Added to the diagonal of the normals' Gramian, about what computing it leaves there: it bounds
# the multipliers where the half-spaces have no common point, and hides below rounding elsewhere.
_ROUNDING = 2.0**-51
# A combination of normals vanishes if its square is below this many roundings of the Gramian.
_ROUNDINGS = 4.0
_REFINEMENTS = 3
# Residual of the optimality conditions, relative to the sizes that are added up in it.
_FINISHED = 1e-15
_REFUSED = 1e-12


def nearest_in_half_spaces(
    cosines: Array, length: float, bounds: Array, resolution: float
) -> Array | None:
    """Project the multiple of one unit vector onto half-spaces whose normals are the others.

    With unit vectors u_0 … u_k, the projection of ℓu_0 onto {d : u_j · d >= t_j for j >= 1} is
    ℓu_0 + Σ_j μ_j u_j, where μ >= 0 minimises ½μᵀHμ - bᵀμ, H being the Gramian of u_1 … u_k and
    b_j = t_j - ℓu_0·u_j.

    The half-spaces have no common point exactly when some y >= 0 has Σ_j y_j u_j = 0 and yᵀt > 0.
    That is decided from such a y, found as the direction in which μ grows without bound.

    Args:
        cosines: Gramian of u_0 … u_k, positive semidefinite with unit diagonal up to rounding,
            shape [k + 1, k + 1].
        length: ℓ, at least 0.
        bounds: t, all at least 0, shape [k].
        resolution: Relative spacing of the numbers in which the Gramian was computed; a
            combination whose square it hides counts as 0.

    Returns:
        μ, shape [k], or None where the half-spaces have no common point.

    Raises:
        SolverError: Neither an optimal μ nor a y was found.

    Source: Lawson & Hanson, Solving Least Squares Problems, 1974, Chapter 23; the criterion is
        Farkas' lemma.
    Cost: (k + 1)³ multiply-adds for a factor, then about k²p for p active half-spaces.
    """
    inner = cosines[1:, 0]
    required = bounds - length * inner
    if (required <= 0).all():
        return np.zeros(len(bounds))
    # The problem is homogeneous in (ℓ, t, μ).
    size = max(length, float(bounds.max()))
    hessian = cosines[1:, 1:] + _ROUNDING * np.eye(len(bounds))
    required = required / size
    factor, target = _least_squares(cosines, length / size, bounds / size)
    multipliers = non_negative(factor, target)
    multipliers, residual = _refine(factor, hessian, required, multipliers)
    if _is_certificate(cosines[1:, 1:], bounds, multipliers, resolution):
        return None
    if not residual <= _REFUSED:
        raise SolverError(
            f"got a residual of {residual:.1e} projecting onto {len(bounds)} half-spaces, expected "
            f"at most {_REFUSED:.0e}, report the Gramian."
        )
    return multipliers * size


def _least_squares(cosines: Array, length: float, bounds: Array) -> tuple[Array, Array]:
    """F, shape [2k + 1, k], and f with |Fμ - f|² = μᵀ(H + δI)μ - 2bᵀμ + a constant."""
    values, vectors = eigh(cosines)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))).T
    delta = np.sqrt(_ROUNDING)
    factor = np.vstack([root[:, 1:], delta * np.eye(len(bounds))])
    target = np.concatenate([-length * root[:, 0], bounds / delta])
    return factor, target


def _refine(
    factor: Array, hessian: Array, required: Array, multipliers: Array
) -> tuple[Array, float]:
    """Solve again on the active half-spaces; returns the best μ and its residual."""
    best, reached = multipliers, _residual(hessian, required, multipliers)
    active = np.flatnonzero(multipliers > 0)
    if active.size == 0 or reached <= _FINISHED:
        return best, reached
    triangle = np.linalg.qr(factor[:, active])[1]
    point = multipliers.copy()
    for _ in range(_REFINEMENTS):
        missing = required[active] - hessian[active] @ point
        half = np.linalg.lstsq(triangle.T, missing, rcond=None)[0]
        point[active] = np.maximum(
            point[active] + np.linalg.lstsq(triangle, half, rcond=None)[0], 0.0
        )
        found = _residual(hessian, required, point)
        if not found < reached:
            break
        best, reached = point.copy(), found
    return best, reached


def _residual(hessian: Array, required: Array, multipliers: Array) -> float:
    """max_j |min(μ_j, (Hμ - b)_j)| over what is added up in it."""
    gap = np.abs(np.minimum(multipliers, product(hessian, multipliers) - required)).max()
    return float(gap / (np.abs(required).max() + multipliers.sum()))


def _is_certificate(hessian: Array, bounds: Array, multipliers: Array, resolution: float) -> bool:
    """Whether Σ_j μ_j u_j vanishes up to rounding while μᵀt > 0."""
    # The rounding errors of H, of size ε each, have norm ε√k if they are independent.
    noise = _ROUNDINGS * resolution * np.sqrt(len(bounds)) * float(multipliers @ multipliers)
    square = float(multipliers @ product(hessian, multipliers))
    return square <= noise and float(multipliers @ bounds) > 0
