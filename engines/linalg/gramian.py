"""Gramians: from a matrix, of a generalized one, on unit diagonal, nearest positive semidefinite.

A Gramian of m gradients is small (m is at most a few hundred), so the solvers work on float64
numpy arrays; only `compute_gramian` touches something of the size of a model.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.errors import NonFiniteGradientError
from engines.linalg.dense import cholesky, eigh, product

Array = NDArray[np.float64]

# Elements of a float64 copy held at once (2 MiB), so that a float32 Jacobian is never doubled.
_CHUNK_ELEMENTS = 2**18
# A float64 matrix is scaled before squaring only outside this range of its largest entry.
_SAFE_RANGE = (1e-140, 1e140)
# A sum of squares below this may have lost some of them where they were added up in float32.
_UNDERFLOWED = float(np.finfo(np.float32).tiny / np.finfo(np.float32).eps)
# Rounding leaves a cosine well below this.
_IMPOSSIBLE = 1.001
# What rounding can leave below zero on a unit diagonal; anything beyond it is clipped. It is kept
# well under the residual that a projection is refused at, which a negative eigenvalue would cause.
_ROUNDING_PER_ROW = 4e-16
# Rounding to bfloat16 leaves eigenvalues of about -0.03 of the largest; more is not rounding.
_INDEFINITE_SHARE = 0.1


def column_chunks(matrix: Tensor) -> tuple[Tensor, ...]:
    """Split a matrix into groups of columns small enough to be copied to float64.

    Args:
        matrix: Shape [m, n].

    Returns:
        Views of shape [m, c] that partition the columns, none when n is 0.
    """
    m, n = matrix.shape
    if n == 0:
        return ()
    return matrix.split(max(1, _CHUNK_ELEMENTS // max(1, m)), dim=1)


def compute_gramian(matrix: Tensor) -> Tensor:
    """Inner products of the rows of a matrix, in float64.

    A float64 matrix whose largest entry lies outside 1e-140 to 1e140 is first multiplied by a
    power of two, and its Gramian is that of the multiple; `scaled_gramian` says by which. Squares
    of any other dtype fit.

    Args:
        matrix: Rows g_i, shape [m, n], floating dtype.

    Returns:
        G with G_ij = g_i · g_j, shape [m, m], float64, on the matrix's device.

    Cost: m²n multiply-adds; a workspace of 2 MiB besides the result when the dtype is narrower.
    """
    return scaled_gramian(matrix)[0]


def scaled_gramian(matrix: Tensor) -> tuple[Tensor, int]:
    """`compute_gramian`, and the power of two that the matrix was multiplied by.

    Args:
        matrix: J, shape [m, n], floating dtype.

    Returns:
        The Gramian of 2ᵉ J, shape [m, m], float64, and e, which is 0 but for extreme float64.
    """
    if matrix.dtype == torch.float64:
        exponent = _exponent(matrix)
        scaled = matrix if exponent == 0 else matrix * 2.0**exponent
        return scaled @ scaled.T, exponent
    m = matrix.shape[0]
    gramian = torch.zeros(m, m, dtype=torch.float64, device=matrix.device)
    for chunk in column_chunks(matrix):
        wide = chunk.to(torch.float64)
        gramian = gramian + wide @ wide.T
    return gramian, 0


def _exponent(matrix: Tensor) -> int:
    """The power of two that brings the largest entry near 1, or 0 where squaring is safe."""
    if matrix.numel() == 0:
        return 0
    largest = float(matrix.detach().abs().max())
    if largest == 0.0 or not np.isfinite(largest) or _SAFE_RANGE[0] < largest < _SAFE_RANGE[1]:
        return 0
    # 2**1074 is no float64, and smaller than the smallest normal number there is nothing to save.
    return min(-int(np.frexp(largest)[1]), 1000)


def flatten_gramian(generalized: Tensor) -> Tensor:
    """Bring a generalized Gramian to a square matrix.

    The second half of the dimensions is in reverse order, so that entry (i1..ik, jk..j1) is the
    inner product of gradients i and j; rows and columns follow `losses.flatten()`.

    Args:
        generalized: Shape [m1, …, mk, mk, …, m1].

    Returns:
        The Gramian, shape [m, m] with m = m1 ⋯ mk.

    Raises:
        ValueError: The shape is not a palindrome of even length.
    """
    shape = tuple(generalized.shape)
    if len(shape) % 2 or shape != shape[::-1]:
        raise ValueError(
            f"got a generalized Gramian of shape {list(shape)}, expected [m1, …, mk, mk, …, m1], "
            "pass what Engine.compute_gramian returned."
        )
    k = len(shape) // 2
    order = [*range(k), *reversed(range(k, 2 * k))]
    m = int(np.prod(shape[:k], dtype=np.int64))
    return generalized.permute(order).reshape(m, m)


def check_finite_gramian(gramian: Array) -> None:
    """Refuse a Gramian with NaN or infinity and name the gradients behind it.

    Args:
        gramian: Shape [m, m].

    Raises:
        NonFiniteGradientError: With the rows that are not finite.
    """
    finite = np.isfinite(gramian)
    if finite.all():
        return
    rows = np.flatnonzero(~np.isfinite(np.diagonal(gramian)))
    if rows.size == 0:
        rows = np.flatnonzero(~finite.all(axis=1))
    raise NonFiniteGradientError(non_finite_message(rows.tolist()))


def non_finite_message(rows: list[int]) -> str:
    """The one sentence about gradients that are not finite.

    Args:
        rows: Indices of the objectives concerned.

    Returns:
        Got, expected, do.
    """
    shown = ", ".join(map(str, rows[:10])) + (", …" if len(rows) > 10 else "")
    return (
        f"got NaN or infinity in the gradients of {len(rows)} objective(s) (rows {shown}), "
        "expected finite gradients, skip this step or lower the learning rate or the loss scale."
    )


def unit_diagonal(gramian: Array) -> tuple[Array, Array]:
    """Scale a Gramian to cosines.

    A row whose diagonal entry is 0 belongs to a zero gradient; its row and column are left 0. So
    are those of gradients so short that their squares were lost in single precision, which shows
    when an inner product with a longer one is more than both lengths allow.

    Args:
        gramian: Symmetric, shape [m, m], finite.

    Returns:
        The cosines, shape [m, m], and the gradients' norms, shape [m].

    Raises:
        ValueError: A diagonal entry is negative.
    """
    diagonal = np.diagonal(gramian)
    if (diagonal < 0).any():
        row = int(np.flatnonzero(diagonal < 0)[0])
        raise ValueError(
            f"got {diagonal[row]:.3g} on the diagonal of a Gramian (row {row}), expected squared "
            "norms, pass J Jᵀ."
        )
    # A square below the normal numbers has lost its digits.
    norms = np.sqrt(np.where(diagonal < np.finfo(np.float64).tiny, 0.0, diagonal))
    cosines = _cosines(gramian, norms)
    underflowed = diagonal < _UNDERFLOWED
    if underflowed.any() and (np.abs(cosines[underflowed]) > _IMPOSSIBLE).any():
        norms[underflowed] = 0.0
        cosines = _cosines(gramian, norms)
    return 0.5 * (cosines + cosines.T), norms


def _cosines(gramian: Array, norms: Array) -> Array:
    """The Gramian over the norms, 0 where a norm is."""
    inverse = np.zeros_like(norms)
    np.divide(1.0, norms, out=inverse, where=norms > 0)
    # One factor at a time: the product of two norms can leave the range of float64.
    cosines: Array = (gramian * inverse[:, None]) * inverse
    return cosines


def nearest_psd(cosines: Array) -> Array:
    """Remove what rounding left below zero.

    A Gramian rounded to float32 or bfloat16 has eigenvalues slightly below zero; clipping them
    gives the nearest positive semidefinite matrix in the Frobenius norm.

    Args:
        cosines: Symmetric with unit diagonal, shape [m, m].

    Returns:
        The matrix itself if it is positive semidefinite to float64 rounding, else the nearest
        one, shape [m, m].

    Raises:
        ValueError: It is far from positive semidefinite, so no rounded Gramian.
    """
    m = len(cosines)
    _, status = cholesky(cosines + (_ROUNDING_PER_ROW * max(m, 10)) * np.eye(m))
    if status == 0:
        return cosines
    values, vectors = eigh(cosines)
    if values[0] < -_INDEFINITE_SHARE * values[-1]:
        raise ValueError(
            f"got a matrix with eigenvalues from {values[0]:.3g} to {values[-1]:.3g} after "
            "scaling to unit diagonal, expected a positive semidefinite Gramian, pass J Jᵀ, in "
            "float32 or wider where the gradients are short."
        )
    clipped = product(vectors * np.maximum(values, 0.0), vectors.T)
    return 0.5 * (clipped + clipped.T)
