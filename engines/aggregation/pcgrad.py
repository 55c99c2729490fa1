"""PCGrad: each gradient in turn loses what conflicts with the others, in random order."""

import numpy as np
import torch
from numpy.typing import NDArray

from engines.aggregation.aggregators import GramianWeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.naming import constructor_call
from engines.aggregation.randomness import Randomness
from engines.aggregation.records import MethodRecord
from engines.aggregation.weightings import SolvedWeighting
from engines.linalg import check_finite_gramian, unit_diagonal

Array = NDArray[np.float64]


class PCGradWeighting(Randomness, SolvedWeighting):
    """Weights of `PCGrad`: w = Σᵢ cᵢ, where gᵢ after its projections is Jᵀcᵢ.

    See `PCGrad` for the source and what differs from the paper.

    Example:
        >>> import torch
        >>> from engines.aggregation import PCGradWeighting
        >>> PCGradWeighting()(torch.tensor([[18., -22.], [-22., 38.]], dtype=torch.float64))
        tensor([2.2222, 1.5789], dtype=torch.float64)
    """

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.generator = generator

    def solve(self, gramian: Array) -> Array:
        """Project the m gradients side by side and add what is left of them.

        Args:
            gramian: Shape [m, m].

        Returns:
            Weights, shape [m].

        Raises:
            NonFiniteGradientError: The Gramian has NaN or infinity.
            ValueError: The Gramian has a negative diagonal entry.
        """
        check_finite_gramian(gramian)
        # Of gradients of length 1: the square of a short one may be no float64.
        cosines, norms = unit_diagonal(gramian)
        m = len(norms)
        every = np.arange(m)
        orders = self.orders(m)
        combinations = np.eye(m)
        for step in range(m):
            other = orders[:, step]
            inner = np.einsum("ij,ij->i", combinations, cosines[other])
            conflicting = (inner < 0) & (other != every)
            combinations[every, other] -= np.where(conflicting, inner, 0.0)
        inverse = np.zeros(m)
        np.divide(1.0, norms, out=inverse, where=norms > 0)
        return np.asarray((combinations * (norms[:, None] * inverse)).sum(axis=0))

    def __repr__(self) -> str:
        return constructor_call(self, self.shown_generator())


class PCGrad(GramianWeightedAggregator):
    """Projects each gradient off those it conflicts with, one after another, and adds up.

    For each i, start with c = gᵢ and for every j ≠ i in random order replace c by
    c - (c · gⱼ)/|gⱼ|² gⱼ where c · gⱼ < 0; A(J) is the sum of the m results. With two gradients
    this is twice UPGrad; with more, a projection can undo an earlier one, so the direction may
    conflict. It is linear in the scale of each gradient.

    All is computed from the Gramian. As in the paper the results are summed and each objective
    has its own random order; gradients of length 0 are passed over.

    Args:
        generator: Source of the random orders; None for torch's global one.

    Raises:
        TypeError: `generator` is no torch.Generator.

    Source: Yu et al., arXiv 2001.06782, Algorithm 1.
    Cost: the Gramian (m²n multiply-adds), then m³ multiply-adds.

    Example:
        >>> import torch
        >>> from engines.aggregation import PCGrad
        >>> PCGrad()(torch.tensor([[-4., 1., 1.], [6., 1., 1.]]))
        tensor([0.5848, 3.8012, 3.8012])
    """

    gramian_weighting: PCGradWeighting
    generator = Forwarded()

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__(PCGradWeighting(generator=generator))

    def __repr__(self) -> str:
        return constructor_call(self, self.gramian_weighting.shown_generator())


RECORD = MethodRecord(
    name="PCGrad",
    make=PCGrad,
    make_weighting=PCGradWeighting,
    summary="Projects each gradient off those it conflicts with, in random order, and "
    "adds up the results.",
    formula="A(J) = Σᵢ cᵢ, from cᵢ = gᵢ by cᵢ ← cᵢ − min(0, cᵢ·gⱼ) gⱼ/|gⱼ|² for j ≠ i",
    paper="Yu et al., Gradient Surgery for Multi-Task Learning, 2020, arXiv 2001.06782",
    non_conflicting=False,
    linear_under_scaling=True,
    weighted=True,
    permutation_invariant=False,
    random=True,
)
