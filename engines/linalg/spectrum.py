"""What a Gramian says about its gradients once rounding is set aside: a factor of full rank."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from engines.errors import SolverError
from engines.linalg.dense import eigh, qr
from engines.linalg.gramian import check_finite_gramian, nearest_psd, unit_diagonal

Array = NDArray[np.float64]
_Result = TypeVar("_Result")

# Per row, the share of the largest eigenvalue of the cosines that counts as 0. Rounding a float32
# Jacobian of deficient rank leaves up to 1e-15, rounding the Gramian in float64 1e-16 per row; an
# eigenvalue just above the limit is known to about 1 %.
_NULL_PER_ROW = 1e-14


class CosineSpectrum(NamedTuple):
    """The cosines of the non-zero gradients as U diag(values) Uᵀ, without their null space.

    Attributes:
        rows: Indices of the gradients that are not 0, k of them, ascending.
        norms: Their lengths, shape [k].
        values: The eigenvalues that are not 0, shape [r], ascending.
        vectors: U, orthonormal columns, shape [k, r].
    """

    rows: NDArray[np.int64]
    norms: Array
    values: Array
    vectors: Array


class GradedFactor(NamedTuple):
    """An orthogonal factorization Q R Rᵀ Qᵀ of a Gramian up to a positive factor.

    Attributes:
        q: Orthonormal columns, shape [k, r].
        r: Upper triangular and regular, shape [r, r].
        lengths: The gradients' lengths in the same units: at most 1, shape [k].
    """

    q: Array
    r: Array
    lengths: Array


def cosine_spectrum(gramian: Array) -> CosineSpectrum:
    """Decompose the cosines of the gradients and decide their rank.

    The rank is decided on unit diagonal, where it does not depend on the gradients' lengths. An
    eigenvalue counts as 0 up to m·1e-14 of the largest; where the Gramian itself was rounded
    coarsely and has one below zero, up to twice its size.

    Args:
        gramian: G = J Jᵀ, shape [m, m].

    Returns:
        The spectrum; empty when all gradients are 0.

    Raises:
        NonFiniteGradientError: G has NaN or infinity.
        SolverError: LAPACK failed.
        ValueError: G is not a Gramian.

    Cost: about 10 m³ multiply-adds.
    """
    check_finite_gramian(gramian)
    cosines, norms = unit_diagonal(gramian)
    rows = np.flatnonzero(norms > 0)
    if len(rows) == 0:
        return CosineSpectrum(rows, np.zeros(0), np.zeros(0), np.zeros((0, 0)))
    cosines = cosines[np.ix_(rows, rows)]
    nearest_psd(cosines)  # refuses what is too far from positive semidefinite to be a Gramian
    values, vectors = lapack(eigh, cosines)
    limit = max(len(rows) * _NULL_PER_ROW * values[-1], -2.0 * values[0])
    kept = values > limit
    return CosineSpectrum(rows, norms[rows], values[kept], vectors[:, kept])


def graded_factor(spectrum: CosineSpectrum) -> GradedFactor:
    """Give the gradients their lengths back without losing the short ones beside the long.

    The squares of lengths 1e6 apart are 1e12 apart, and what is computed from G itself has lost
    12 of its 16 digits. The rows of B = diag(lengths) U diag(values)^½ are 1e6 apart, and an
    orthogonal factorization that takes the longest rows and columns first keeps the digits of
    each.

    Args:
        spectrum: Of at least one gradient that is not 0.

    Returns:
        Q, R and the lengths, with G = Q R Rᵀ Qᵀ times the square of the longest length.

    Source: Cox & Higham, Stability of Householder QR factorization for weighted least squares
        problems, 1998: row sorting; columns are sorted by length instead of pivoted.
    Cost: 2 k r² multiply-adds.
    """
    lengths = spectrum.norms / spectrum.norms.max()
    factor = lengths[:, None] * spectrum.vectors * np.sqrt(spectrum.values)
    order = np.argsort(-lengths, kind="stable")
    columns = np.argsort(-np.linalg.norm(factor, axis=0), kind="stable")
    sorted_q, r = qr(np.ascontiguousarray(factor[np.ix_(order, columns)]))
    q = np.empty_like(sorted_q)
    q[order] = sorted_q
    return GradedFactor(q, r, lengths)


def lapack(routine: Callable[..., _Result], matrix: Array, **options: Any) -> _Result:
    """Call a decomposition and say in the house's form when it fails.

    Args:
        routine: Of numpy.linalg, scipy.linalg or `engines.linalg.dense`.
        matrix: Its argument, finite.
        **options: Its options.

    Returns:
        What the routine returns.

    Raises:
        SolverError: With LAPACK's message.
    """
    try:
        return routine(matrix, **options)
    except (np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:
        raise SolverError(
            f"got {error} from {routine.__name__} of a matrix of shape {list(matrix.shape)}, "
            "expected its decomposition, report the Gramian."
        ) from error
