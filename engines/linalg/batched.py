"""Projection of all rows together: products of matrices, in torch on any device.

Block pivoting guesses the free set of every row from the signs of its slacks and multipliers, and
conjugate gradients solve all rows on their sets at once. The rows share one matrix, so a step for
all of them is one product, and nothing is factorized unless a row converges slowly. On a CPU small
matrices are the exception: there a factorization for each row is faster.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.linalg.dense import cholesky, product
from engines.linalg.kkt import FINISHED, Certificate, certificate
from engines.linalg.pivoting import pivot

Array = NDArray[np.float64]

# Guesses of the free sets; 3 to 9 are needed.
_GUESSES = 14
# Up to here a small factorization for each row is faster on two cores, and starts no thread.
_FACTORIZED_UP_TO = 160
# A row whose free set changed by so few entries since the last guess is worth solving exactly.
_SETTLED = 2
# From this guess on all rows are solved exactly: some sets flicker as long as they are not.
_EXACT_FROM = 8
# Steps for a guess, and the share of the residual at which they end. Fewer steps need more guesses.
_ROUGH_STEPS = 12
_ROUGH = 1e-3
# Steps of an exact solution. One factorization of a row at m = 256 costs as much as 60 of them.
_EXACT_STEPS = 40
# Looking whether all rows have converged waits for the device.
_STEPS_BETWEEN_LOOKS = 5
# The squared pivots of a Cholesky factor below this mean a singular matrix, whose free sets cannot
# be told by signs.
_SINGULAR = 1e-9


def solve_batched(
    cosines: Array, rows: Array, device: torch.device | str = "cpu"
) -> tuple[Array, Certificate]:
    """Minimise wᵀCw subject to w >= u for all rows together.

    Args:
        cosines: C, positive semidefinite with unit diagonal, shape [m, m].
        rows: Lower bounds u, shape [r, m].
        device: Where the products are computed; it needs float64.

    Returns:
        Candidates w, shape [r, m], and how far each is from optimality. Rows whose free set was not
        found, and all rows of a singular C, are for `settle`.

    Source: Júdice & Pires, Computers & Operations Research 21(5), 1994 (block pivoting);
        Hestenes & Stiefel, J. Res. NBS 49, 1952 (conjugate gradients).
    Cost: 50 to 200 products of [r, m] by [m, m], 25 to 100 ms at m = r = 256 on two cores; m³/3 for
        a row that conjugate gradients do not finish in 40 steps. Small matrices on a CPU: 3 to 6
        factorizations of the size of the free set for each row.
    """
    if is_singular(cosines):
        found = rows.copy()
    elif torch.device(device).type == "cpu" and len(cosines) <= _FACTORIZED_UP_TO:
        found = np.maximum(pivot(cosines, rows, rows, 0.0, _GUESSES), rows)
    else:
        found = solve_by_products(cosines, rows, device)
    return found, certificate(rows, found, product(found, cosines))


def is_singular(cosines: Array) -> bool:
    """Whether a matrix is so close to singular that signs do not tell free sets.

    Args:
        cosines: C, positive semidefinite with unit diagonal, shape [m, m].

    Returns:
        Whether the smallest squared pivot of its Cholesky factor is below 1e-9.
    """
    factor, status = cholesky(cosines)
    return bool(status != 0 or np.diagonal(factor).min() ** 2 < _SINGULAR)


def solve_by_products(cosines: Array, rows: Array, device: torch.device | str) -> Array:
    """The same for a regular C, by products of matrices only, of any size.

    Args:
        cosines: C, positive definite with unit diagonal, shape [m, m].
        rows: Lower bounds u, shape [r, m].
        device: Where the products are computed.

    Returns:
        Candidates w >= u, shape [r, m].
    """
    matrix = torch.from_numpy(cosines).to(device)
    bounds = torch.from_numpy(rows).to(device)
    return np.asarray(torch.maximum(_pivot(matrix, bounds), bounds).cpu().numpy())


def _pivot(matrix: Tensor, bounds: Tensor) -> Tensor:
    """The last point of each row, shape [r, m]; rows leave as soon as they are optimal."""
    result = bounds.clone()
    rows = torch.arange(len(bounds), device=bounds.device)
    point, multipliers = bounds, bounds @ matrix
    before = torch.zeros_like(bounds, dtype=torch.bool)
    for guess in range(_GUESSES):
        free = point - bounds > multipliers
        settled = (free != before).sum(dim=1) <= (_SETTLED if guess < _EXACT_FROM else len(matrix))
        point = torch.where(free, point, bounds)
        slope = torch.where(free, point @ matrix, 0.0)
        exact, rough = (torch.nonzero(chosen).flatten() for chosen in (settled, ~settled))
        if len(rough):
            limit = _ROUGH * slope[rough].norm(dim=1, keepdim=True)
            point[rough], _ = _minimise(
                matrix, free[rough], point[rough], slope[rough], limit, _ROUGH_STEPS
            )
        if len(exact):
            point[exact] = _solve(matrix, free[exact], point[exact], slope[exact])
        multipliers = point @ matrix
        result[rows] = point
        gap = torch.minimum(point - bounds, multipliers).abs().amax(dim=1)
        left = torch.nonzero(gap > FINISHED * (1.0 + point.abs().sum(dim=1))).flatten()
        if len(left) == 0:
            break
        rows, point, bounds = rows[left], point[left], bounds[left]
        multipliers, before = multipliers[left], free[left]
    return result


def _solve(matrix: Tensor, free: Tensor, point: Tensor, slope: Tensor) -> Tensor:
    """Move the free entries of each row to where their slopes vanish, to rounding; shape [r, m]."""
    limit = FINISHED * (1.0 + point.abs().sum(dim=1, keepdim=True))
    point, slope = _minimise(matrix, free, point, slope, limit, _EXACT_STEPS)
    # The recursion's own residual drifts away from the true one.
    slope = torch.where(free, point @ matrix, 0.0)
    far = slope.abs().amax(dim=1) > FINISHED * (1.0 + point.abs().sum(dim=1))
    for i in torch.nonzero(far).flatten().tolist():
        index = torch.nonzero(free[i]).flatten()
        block = matrix.index_select(0, index).index_select(1, index)
        factor, status = torch.linalg.cholesky_ex(block)
        if int(status) == 0:
            move = torch.cholesky_solve(slope[i, index, None], factor).flatten()
            point[i, index] -= move
    return point


def _minimise(
    matrix: Tensor, free: Tensor, point: Tensor, slope: Tensor, limit: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Conjugate gradients on the free entries of all rows.

    Args:
        matrix: C, shape [m, m].
        free: Which entries move, shape [r, m].
        point: Where they start, shape [r, m].
        slope: Cw there, 0 where not free, shape [r, m].
        limit: Length of the slope at which a row has converged, shape [r, 1].
        steps: Steps at most.

    Returns:
        The points and their slopes by the recursion, both of shape [r, m].
    """
    direction = slope
    square = (slope * slope).sum(dim=1, keepdim=True)
    for step in range(1, steps + 1):
        image = torch.where(free, direction @ matrix, 0.0)
        curvature = (direction * image).sum(dim=1, keepdim=True)
        # A row that has converged has no direction left and stays where it is.
        length = torch.where(curvature > 0, square / curvature, 0.0)
        point = torch.addcmul(point, length, direction, value=-1.0)
        slope = torch.addcmul(slope, length, image, value=-1.0)
        reached = (slope * slope).sum(dim=1, keepdim=True)
        if step % _STEPS_BETWEEN_LOOKS == 0 and bool((reached <= limit * limit).all()):
            break
        ratio = torch.where(square > 0, reached / square, 0.0)
        direction = torch.addcmul(slope, ratio, direction)
        square = reached
    return point, slope
