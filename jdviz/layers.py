"""Where in the network objectives conflict: the split of a Gramian over modules.

The inner product of two gradients is a sum over parameters, so it is a sum over the modules that
own them: G = Σ Gₗ, where Gₗ, shape [m, m], is the Gramian of the gradients of module l alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jdviz.conflict import Array, as_gramian, cosines

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LayerConflict:
    """What each module contributes to conflict and to agreement.

    Attributes:
        paths: Path of every module, length L, in the order given.
        conflict: Its part of the sum of the negative inner products, Σ over pairs in conflict of
            its share, shape [L]. A positive one softens what the others do.
        agreement: Its part of the sum of the positive inner products, shape [L].
        rates: Share of the pairs whose gradients conflict within the module alone, shape [L]; NaN
            where no pair has an angle.
        least_cosines: Smallest cosine within the module alone, shape [L]; NaN where there is none.
    """

    paths: tuple[str, ...]
    conflict: Array
    agreement: Array
    rates: Array
    least_cosines: Array


def conflict_shares(shares: Mapping[str, ArrayLike]) -> LayerConflict:
    """Splits the conflict of a step over the modules.

    The parts add up exactly: `conflict` to the sum of the negative entries of G = Σ shares above
    its diagonal, `agreement` to that of the positive ones.

    Args:
        shares: Path of every module to its share of the Gramian, shape [m, m].

    Raises:
        ValueError: If a share is not square, or they differ in shape.
    """
    matrices = _matrices(shares)
    m = len(matrices[0]) if matrices else 0
    rows, columns = np.triu_indices(m, k=1)
    parts = np.array([matrix[rows, columns] for matrix in matrices])
    parts = parts.reshape(len(matrices), len(rows))
    whole = parts.sum(axis=0)
    inside = [_known_cosines(matrix, rows, columns) for matrix in matrices]
    return LayerConflict(
        paths=tuple(shares),
        conflict=parts[:, whole < 0].sum(axis=1),
        agreement=parts[:, whole > 0].sum(axis=1),
        rates=np.array([np.mean(known < 0) if known.size else np.nan for known in inside]),
        least_cosines=np.array([known.min() if known.size else np.nan for known in inside]),
    )


def pair_shares(shares: Mapping[str, ArrayLike], i: int, j: int) -> dict[str, float]:
    """Splits one entry of the Gramian over the modules.

    Args:
        shares: Path of every module to its share of the Gramian, shape [m, m].
        i: Place of the first objective.
        j: Place of the second, which may be the same: then the squared length is split.

    Returns:
        Path to entry (i, j) of the module's share; they add up to that of the Gramian.

    Raises:
        ValueError: If a share is not square, they differ in shape, or there is no such objective.
    """
    matrices = _matrices(shares)
    m = len(matrices[0]) if matrices else 0
    if not (0 <= i < m and 0 <= j < m):
        raise ValueError(f"got the pair ({i}, {j}), expected places from 0 to {m - 1}.")
    return {path: float(matrix[i, j]) for path, matrix in zip(shares, matrices, strict=True)}


def _matrices(shares: Mapping[str, ArrayLike]) -> list[Array]:
    matrices = [as_gramian(share) for share in shares.values()]
    for path, matrix in zip(shares, matrices, strict=True):
        if matrix.shape != matrices[0].shape:
            raise ValueError(
                f"got a share of shape {matrix.shape} for {path}, expected {matrices[0].shape} as "
                "that of the first module."
            )
    return matrices


def _known_cosines(matrix: Array, rows: Places, columns: Places) -> Array:
    values = cosines(matrix)[rows, columns]
    return values[~np.isnan(values)]
