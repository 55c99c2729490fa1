"""Dense algebra of a few hundred rows, without waking another pool of threads.

torch, numpy and scipy each bring a BLAS with threads of its own, which keep their cores busy for
a while after a large operation. On two cores the next operation of another library then took 4 to
15 ms instead of 0.3, so whatever is large enough for threads is computed by torch, whose threads
a training step has awake anyway.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import lapack

Array = NDArray[np.float64]

# Up to here numpy's and scipy's BLAS start no thread, and cost less than the way to torch:
# multiply-adds of a product, and of one with a vector, and rows of a matrix to decompose.
_SMALL_PRODUCT = 2**18
_SMALL_IMAGE = 2**13
_SMALL_FACTOR = 96
_SMALL_SPECTRUM = 24


def product(left: Array, right: Array) -> Array:
    """The product of two matrices, or of a matrix and a vector.

    Args:
        left: Shape [r, k].
        right: Shape [k, m] or [k].

    Returns:
        Shape [r, m] or [r].

    Cost: r·k·m multiply-adds.
    """
    small = _SMALL_PRODUCT if right.ndim == 2 else _SMALL_IMAGE
    if left.size * right[:1].size <= small:
        return np.asarray(left @ right)
    return np.asarray((torch.from_numpy(left) @ torch.from_numpy(right)).numpy())


def cholesky(matrix: Array) -> tuple[Array, int]:
    """The upper triangular factor of a symmetric matrix.

    Args:
        matrix: C, shape [m, m].

    Returns:
        R with RᵀR = C, shape [m, m], and 0, or a number above 0 if C is not positive definite.

    Cost: m³/3 multiply-adds.
    """
    if len(matrix) <= _SMALL_FACTOR:
        factor, status = lapack.dpotrf(matrix, clean=1)
        return np.asarray(factor), int(status)
    wide, info = torch.linalg.cholesky_ex(torch.from_numpy(matrix), upper=True)
    return np.asarray(wide.numpy()), int(info)


def solve_factored(factor: Array, right: Array) -> Array:
    """Solve a symmetric system whose Cholesky factor is known.

    Args:
        factor: The upper triangular R of `cholesky`, shape [m, m].
        right: Shape [m].

    Returns:
        x with RᵀR x = right, shape [m].

    Cost: m² multiply-adds.
    """
    if len(factor) <= _SMALL_FACTOR:
        return np.asarray(lapack.dpotrs(factor, right)[0])
    wide = torch.from_numpy(right)[:, None]
    found = torch.cholesky_solve(wide, torch.from_numpy(factor), upper=True)
    return np.asarray(found[:, 0].numpy())


def eigh(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues and eigenvectors of a symmetric matrix.

    Args:
        matrix: Shape [m, m].

    Returns:
        The eigenvalues, ascending, shape [m], and the eigenvectors as columns, shape [m, m].

    Raises:
        numpy.linalg.LinAlgError: LAPACK did not converge.

    Cost: about 9m³ multiply-adds.
    """
    if len(matrix) <= _SMALL_SPECTRUM:
        values, vectors = np.linalg.eigh(matrix)
        return values, vectors
    wide = torch.from_numpy(matrix)
    found = _converged(lambda: torch.linalg.eigh(wide))
    return np.asarray(found[0].numpy()), np.asarray(found[1].numpy())


def qr(matrix: Array) -> tuple[Array, Array]:
    """An orthogonal and a triangular factor.

    Args:
        matrix: Shape [k, r], k >= r.

    Returns:
        Q with orthonormal columns, shape [k, r], and the upper triangular R, shape [r, r].

    Cost: 2 k r² multiply-adds.
    """
    if max(matrix.shape, default=0) <= _SMALL_SPECTRUM:
        left, right = np.linalg.qr(matrix)
        return np.asarray(left), np.asarray(right)
    found = torch.linalg.qr(torch.from_numpy(matrix))
    return np.asarray(found[0].numpy()), np.asarray(found[1].numpy())


def svd(matrix: Array) -> tuple[Array, Array, Array]:
    """Singular values and vectors.

    Args:
        matrix: Shape [k, r].

    Returns:
        Left vectors as columns, shape [k, p] with p the smaller of k and r; the values, descending,
        shape [p]; right vectors as rows, shape [p, r].

    Raises:
        numpy.linalg.LinAlgError: LAPACK did not converge.

    Cost: about 20 k r p multiply-adds.
    """
    if max(matrix.shape, default=0) <= _SMALL_SPECTRUM:
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        return left, values, right
    wide = torch.from_numpy(matrix)
    found = _converged(lambda: torch.linalg.svd(wide, full_matrices=False))
    left, values, right = (np.asarray(part.numpy()) for part in found)
    return left, values, right


def _converged(routine: Callable[[], Sequence[torch.Tensor]]) -> Sequence[torch.Tensor]:
    """Call torch's LAPACK, whose exception is numpy's for whoever calls these functions."""
    try:
        return routine()
    except torch.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(str(error)) from error
