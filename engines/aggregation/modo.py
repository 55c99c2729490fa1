"""MoDo: weights that follow the shortest combination, one unbiased step a call."""

import numpy as np
from numpy.typing import NDArray

from engines.aggregation.aggregators import StatefulGramianAggregator
from engines.aggregation.product import ProductWeighting
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import non_negative, positive
from engines.linalg import check_finite_gramian, project_onto_simplex

Array = NDArray[np.float64]

# A step of this length ends where an infinite one would: in the corner of the least entry.
_LONGEST_STEP = 1e200


class MoDoWeighting(ProductWeighting):
    """One projected step towards the weights of the shortest combination, at each call.

    λ ← Π(λ - γ(Mλ + ρλ)), where Π projects onto {λ : λ ≥ 0, Σλ = 1} and M = J₁J₂ᵀ is the product
    of the Jacobians of two independent batches. Mλ is then an unbiased estimate of the gradient
    of ½|Jᵀλ|², which the Gramian of one batch does not give. The weights start equal and go on
    from call to call, so over many calls they follow those of `MGDA`, regularized by ρ. The
    parameters of the model are updated with the gradients of a third batch, or with the mean of
    the two.

    The step is as long as M makes it, as in the paper: gradients of length 100 move the weights
    10⁴ times as far as gradients of length 1, and γ has to be chosen for the problem. Where the
    gradients are long or γ is large the weights jump to the shortest gradient, which is no
    direction at all when that gradient is zero.

    ρ = 0 gives the algorithm without its regularizer. The implementation in LibMTL takes the same
    step with γ = 0.001 and updates the model with a third batch. Another number of objectives
    starts afresh.

    Args:
        gamma: Length of the step γ, above 0.
        rho: Regularization ρ of the weights towards equal ones, at least 0.

    Raises:
        TypeError: A parameter is no real number.
        ValueError: A parameter is out of range.

    Source: Chen, Fernando, Ying & Chen, Three-Way Trade-Off in Multi-Objective Learning, JMLR 25,
        2024, Algorithm 1 (arXiv 2305.20057).
    Cost: m² multiply-adds besides M (m²n).

    Example:
        >>> import torch
        >>> from engines.aggregation import MoDoWeighting
        >>> first, second = torch.tensor([[2., 0.], [0., 1.]]), torch.tensor([[1., 0.], [0., 1.]])
        >>> MoDoWeighting(gamma=0.1, rho=0.0)(first @ second.T)
        tensor([0.4750, 0.5250])
    """

    _parameters_shown = ("gamma", "rho")

    def __init__(self, gamma: float = 0.1, rho: float = 0.1) -> None:
        super().__init__()
        self.gamma = gamma
        self.rho = rho

    @property
    def gamma(self) -> float:
        """Length of the step, above 0."""
        return self._gamma

    @gamma.setter
    def gamma(self, value: float) -> None:
        self._gamma = positive("gamma", value)

    @property
    def rho(self) -> float:
        """Regularization of the weights, at least 0."""
        return self._rho

    @rho.setter
    def rho(self, value: float) -> None:
        self._rho = non_negative("rho", value)

    def solve(self, gramian: Array) -> Array:
        """Take one step.

        Args:
            gramian: M, or 2²ᵉ M with e the `gramian_exponent`, shape [m, m].

        Returns:
            The new weights, shape [m], non-negative, with sum 1 unless m is 0.

        Raises:
            NonFiniteGradientError: M has NaN or infinity.
        """
        check_finite_gramian(gramian)
        m = len(gramian)
        weights = self.remembered(m)
        size = float(np.abs(gramian).max(initial=0.0))
        slope = (gramian / size if size > 0 else gramian) @ weights
        with np.errstate(over="ignore", under="ignore"):
            # γ · 2⁻²ᵉ · size may be too long for a float64.
            step = self.gamma * np.ldexp(size, -2 * self.gramian_exponent)
        shrunk = weights * (1.0 - min(self.gamma * self.rho, _LONGEST_STEP))
        moved = project_onto_simplex(shrunk - min(float(step), _LONGEST_STEP) * slope)
        self.remember(moved)
        return moved


def _of_one_batch(gamma: float = 0.1, rho: float = 0.1) -> StatefulGramianAggregator:
    """The aggregator that takes both batches to be the same, as one Jacobian says no more."""
    return StatefulGramianAggregator(MoDoWeighting(gamma, rho))


RECORD = MethodRecord(
    name="MoDo",
    make=_of_one_batch,
    make_weighting=MoDoWeighting,
    summary="Moves the weights one step a call towards those of the shortest combination, "
    "estimated without bias from two batches.",
    formula="λ ← Π(λ − γ(J₁J₂ᵀλ + ρλ)), Π the projection onto {λ : λ ≥ 0, Σᵢ λᵢ = 1}",
    paper="Chen et al., Three-Way Trade-Off in Multi-Objective Learning: Optimization, "
    "Generalization and Conflict-Avoidance, JMLR 25, 2024, arXiv 2305.20057",
    non_conflicting=False,
    linear_under_scaling=False,
    weighted=True,
    permutation_invariant=True,
    stateful=True,
    statistic="product",
    parameters=(
        Parameter("gamma", "number", 0.1, "Length of the step of the weights.", 1e-6, 1.0),
        Parameter("rho", "number", 0.1, "Pull of the weights towards equal ones.", 0.0, 1.0),
    ),
    remarks="On one Jacobian both batches are taken to be the same. The step grows with the "
    "squared length of the gradients, and a zero gradient attracts all weight. Later calls go on "
    "from the weights of the earlier ones.",
)
