"""Gradients that balance each other, and what they leave to the rest."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.linalg.dense import eigh, product

Array = NDArray[np.float64]

# Squared sine of the angle to a space below which a gradient counts as lying in it.
_INSIDE = 1e-12
# Shares of a vanishing combination below this one of the largest are not relied on.
_SMALL_SHARE = 1e-6
# Weights below this share of the largest are rounding.
_NO_SHARE = 1e-10


class Split(NamedTuple):
    """Gradients that balance, and the others projected off the space that those span.

    Attributes:
        balanced: Indices, ascending: the gradients given as balancing and all in their span.
        others: The other indices, ascending.
        cosines: Of the projected others, unit diagonal, shape [k, k].
        sines: Their lengths if the unprojected ones have length 1, shape [k].
        images: The combinations of balanced gradients nearest to each of the others, shape [b, k].
        range_vectors: Orthonormal basis of the range of the balanced cosines, shape [b, r].
    """

    balanced: NDArray[np.int64]
    others: NDArray[np.int64]
    cosines: Array
    sines: Array
    images: Array
    range_vectors: Array

    def cancelling(self, natural: Array, combination: Array) -> Array:
        """Weights of the balanced gradients for which their span has no part in the direction.

        Args:
            natural: Positive weights whose combination of balanced gradients nearly vanishes,
                shape [b].
            combination: Weights of the others, shape [k].

        Returns:
            Shape [b]; a multiple of the vanishing combination makes them positive.
        """
        basis = self.range_vectors
        vanishing = natural - basis @ (basis.T @ natural)
        taken = self.images @ combination
        sure = vanishing > _SMALL_SHARE * vanishing.max()
        multiple = 1.0 + 2.0 * float(np.max(taken[sure] / vanishing[sure], initial=0.0))
        result = multiple * vanishing - taken
        # Rounding does not make a weight negative.
        return np.where(np.abs(result) > _NO_SHARE * result.max(), result, 0.0)


def split_balanced(cosines: Array, balanced: NDArray[np.bool_], null: float) -> Split:
    """Take gradients that balance out of a Gramian, with all that their span contains.

    A direction that no gradient opposes is orthogonal to gradients of which a combination with
    positive weights is 0, so only what the others have outside their span counts.

    Args:
        cosines: Positive semidefinite with unit diagonal, shape [m, m].
        balanced: Which gradients balance, shape [m], at least one.
        null: Eigenvalues of their cosines up to this one count as 0.

    Returns:
        The parts.

    Cost: 9b³ multiply-adds for b balanced gradients.
    """
    inside = balanced
    while True:
        at, others = np.flatnonzero(inside), np.flatnonzero(~inside)
        values, vectors = eigh(cosines[np.ix_(at, at)])
        kept = values > null
        basis = vectors[:, kept]
        across = cosines[np.ix_(at, others)]
        images = product(basis / values[kept], product(basis.T, across))
        left = cosines[np.ix_(others, others)] - product(across.T, images)
        squares = np.diagonal(left)
        if (squares > _INSIDE).all():
            break
        inside = inside.copy()
        inside[others[squares <= _INSIDE]] = True
    sines = np.sqrt(squares)
    left = (left / sines[:, None]) / sines
    return Split(at, others, 0.5 * (left + left.T), sines, images, basis)
