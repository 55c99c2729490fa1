"""Non-negative least squares whose answer is checked."""

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from engines.errors import SolverError
from engines.linalg.dense import product

Array = NDArray[np.float64]

# Steps of scipy's method for each variable; it takes about one, its own default is 3.
_STEPS_PER_VARIABLE = 30
# Roundings of each product that a slope may be above 0 by.
_ROUNDINGS = 16.0
_EPSILON = float(np.finfo(np.float64).eps)
# Columns that depend on others to this share add no direction.
_NO_DIRECTION = 1e-12


def non_negative(matrix: Array, target: Array) -> Array:
    """Minimise |Ax - b|² over x >= 0.

    scipy's method is fast, but with columns that depend on each other, as those of gradients with
    few entries do, it can end at a point that is not optimal and say nothing (scipy issue 25389).
    So its answer is checked, and improved from where it ended if need be.

    Args:
        matrix: A, shape [p, k].
        target: b, shape [p].

    Returns:
        x, shape [k].

    Raises:
        SolverError: No optimal point was found; the message has the status.

    Source: Lawson & Hanson, Solving Least Squares Problems, 1974, Chapter 23.
    Cost: about p·k multiply-adds for each positive entry of x; where scipy's answer is not
        optimal, a least-squares problem for each entry that changes.
    """
    k = matrix.shape[1]
    try:
        start, _ = scipy.optimize.nnls(matrix, target, maxiter=_STEPS_PER_VARIABLE * max(1, k))
    except RuntimeError:
        start = np.zeros(k)
    return _improved(matrix, target, np.asarray(start))


def _improved(matrix: Array, target: Array, start: Array) -> Array:
    """Lawson and Hanson's steps from any x >= 0, by the pseudo-inverse of the columns in use."""
    k = matrix.shape[1]
    lengths = np.linalg.norm(matrix, axis=0)
    x, use = start, start > 0
    passed = np.zeros(k, dtype=bool)
    for step in range(_STEPS_PER_VARIABLE * max(1, k)):
        slope = product(matrix.T, target - product(matrix, x))
        added_up = float(np.linalg.norm(target)) + float(lengths @ x)
        limit = _ROUNDINGS * _EPSILON * lengths * added_up
        outside = np.where(use | passed, -np.inf, slope - limit)
        if step > 0 or _settled(slope, limit, use):
            if not (outside > 0).any():
                return x
            entering = int(np.argmax(outside))
        else:
            entering = -1
        x, use, entered = _minimise_over(matrix, target, x, use, entering)
        # A column that would leave at once depends on those in use; another one has to be tried.
        passed = np.zeros(k, dtype=bool) if entered else passed
        if not entered:
            passed[entering] = True
    raise SolverError(
        f"got no optimum after {_STEPS_PER_VARIABLE * max(1, k)} steps of non-negative least "
        f"squares in {k} variables, expected one, report the Gramian."
    )


def _settled(slope: Array, limit: Array, use: NDArray[np.bool_]) -> bool:
    """Whether x is the minimiser over the columns in use."""
    return bool((np.abs(slope[use]) <= limit[use]).all())


def _minimise_over(
    matrix: Array, target: Array, x: Array, use: NDArray[np.bool_], entering: int
) -> tuple[Array, NDArray[np.bool_], bool]:
    """The minimiser over the columns in use and one more, dropping those that would be negative.

    Returns:
        x, shape [k], the columns in use, shape [k], and whether the additional one stayed for the
        first move; -1 for none stays.
    """
    use = use.copy()
    if entering >= 0:
        use[entering] = True
    first = True
    while use.any():
        index = np.flatnonzero(use)
        z = np.zeros_like(x)
        z[index] = np.linalg.lstsq(matrix[:, index], target, rcond=_NO_DIRECTION)[0]
        if first and entering >= 0 and z[entering] <= 0:
            use[entering] = False
            return x, use, False
        first = False
        negative = index[z[index] <= 0]
        if negative.size == 0:
            return z, use, True
        share = x[negative] / (x[negative] - z[negative])
        x = np.maximum(x + float(share.min()) * (z - x), 0.0)
        leaving = negative[share <= share.min()]
        x[leaving] = 0.0
        use &= x > 0
        if entering >= 0 and entering not in leaving:
            use[entering] = True
    return np.zeros_like(x), use, True
