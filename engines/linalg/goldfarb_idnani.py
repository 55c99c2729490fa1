"""Projection row by row with quadprog (Goldfarb and Idnani's dual active-set method)."""

import numpy as np
import quadprog
from numpy.typing import NDArray
from scipy.linalg import lapack

from engines.errors import SolverError
from engines.linalg.dense import cholesky, product
from engines.linalg.kkt import Certificate, certificate, finished
from engines.linalg.pivoting import pivot

Array = NDArray[np.float64]

# Below this squared pivot quadprog's own rounding (1e-16 over the pivot) is what one would see.
_SMALLEST_PIVOT = 1e-6
_REGULARIZATION = 1e-9
# Around quadprog's point: solve on its active set, and change that set where the signs say so.
_POLISH = 1e-13
_POLISH_GUESSES = 4


def solve_quadprog(cosines: Array, rows: Array) -> tuple[Array, Certificate]:
    """Minimise wᵀCw subject to w >= u for each row.

    One factorization serves all rows. Where C is close to singular quadprog sees C + 1e-9 I; the
    unregularized problem is then solved around the active set found.

    Args:
        cosines: C, positive semidefinite with unit diagonal, shape [m, m].
        rows: Lower bounds u, shape [r, m].

    Returns:
        Candidates w, shape [r, m], and how far each is from optimality: minimisers, but for rows of
        a C close to singular whose active set the regularizer hides; `settle` solves those.

    Raises:
        SolverError: quadprog gave up; the message has its status.

    Source: Goldfarb & Idnani, Mathematical Programming 27, 1983.
    Cost: about m³ per row; 0.1 ms a row at m = 32, 25 ms a row at m = 256.
    """
    m = len(cosines)
    solution = rows.copy()
    # Where nothing conflicts with the row itself, the bound is the minimiser.
    conflicting = np.flatnonzero((product(rows, cosines) < 0).any(axis=1))
    if conflicting.size == 0:
        return _polish(cosines, rows, solution)
    factor = _inverse_factor(cosines)
    zeros, identity = np.zeros(m), np.eye(m)
    for i in conflicting:
        try:
            solution[i] = quadprog.solve_qp(factor, zeros, identity, rows[i], 0, True)[0]
        except ValueError as error:
            raise SolverError(
                f"got quadprog status '{error}' for row {i} of {len(rows)}, expected a minimiser, "
                "report the Gramian or use solver='batched'."
            ) from error
    np.maximum(solution, rows, out=solution)
    return _polish(cosines, rows, solution)


def _polish(cosines: Array, rows: Array, solution: Array) -> tuple[Array, Certificate]:
    """Solve the unregularized problem on the active sets found, where that is not yet done."""
    reached = certificate(rows, solution, product(solution, cosines))
    off = np.flatnonzero(~finished(reached.residual))
    if off.size == 0:
        return solution, reached
    solution[off] = np.maximum(
        pivot(cosines, rows[off], solution[off], _POLISH, _POLISH_GUESSES), rows[off]
    )
    return solution, certificate(rows, solution, product(solution, cosines))


def _inverse_factor(cosines: Array) -> Array:
    """R⁻¹ with RᵀR = C, or C + 1e-9 I where C is close to singular; shape [m, m]."""
    factor, status = cholesky(cosines)
    if status != 0 or np.diagonal(factor).min() ** 2 < _SMALLEST_PIVOT:
        factor, status = cholesky(cosines + _REGULARIZATION * np.eye(len(cosines)))
    if status == 0:
        inverse, status = lapack.dtrtri(factor)
    if status != 0:
        raise SolverError(
            f"got LAPACK status {status} factoring a Gramian of {len(cosines)} objectives, "
            "expected a positive semidefinite matrix, pass J Jᵀ."
        )
    return np.asarray(inverse)
