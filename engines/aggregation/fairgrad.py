"""FairGrad: each gradient gains what α-fairness among the objectives asks for."""

import numpy as np
from numpy.typing import NDArray

from engines.aggregation.aggregators import GramianWeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import non_negative, whole
from engines.aggregation.weightings import SolvedWeighting
from engines.linalg import check_finite_gramian, fair_weights

Array = NDArray[np.float64]

# Weights beyond 2^±1000 are scaled together, so that they stay float64 numbers.
_LARGEST_EXPONENT = 1000.0


class FairGradWeighting(SolvedWeighting):
    """Weights of `FairGrad`: w > 0 with G w = w^(-1/α).

    See `FairGrad` for the source, the parameters and what differs from the official code.

    Example:
        >>> import torch
        >>> from engines.aggregation import FairGradWeighting
        >>> FairGradWeighting(alpha=1.0)(torch.diag(torch.tensor([1., 4.])))
        tensor([1.0000, 0.5000])
    """

    _parameters_shown = ("alpha", "max_iters")

    def __init__(self, alpha: float, max_iters: int | None = None) -> None:
        super().__init__()
        self.alpha = alpha
        self.max_iters = max_iters

    @property
    def alpha(self) -> float:
        """How much the worse served objectives count, at least 0."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        self._alpha = non_negative("alpha", value)

    @property
    def max_iters(self) -> int | None:
        """Newton steps at most where that is more than 100, at least 1; None for 100."""
        return self._max_iters

    @max_iters.setter
    def max_iters(self, value: int | None) -> None:
        self._max_iters = None if value is None else whole("max_iters", value, 1)

    def solve(self, gramian: Array) -> Array:
        """Find the fair allocation.

        Args:
            gramian: Shape [m, m].

        Returns:
            Weights, shape [m].

        Raises:
            NonFiniteGradientError: The Gramian has NaN or infinity.
            SolverError: Newton's method did not reach the answer.
            ValueError: No Gramian.
        """
        m = len(gramian)
        if self.alpha == 0:
            check_finite_gramian(gramian)
            return np.full(m, 1.0 / max(1, m))
        weights = fair_weights(gramian, self.alpha, self.max_iters)
        if self.gramian_exponent == 0:
            return weights
        # The Gramian is that of 2ᵉJ, and the weights of sJ are s^(-2α/(1+α)) times those of J.
        exponent = self.gramian_exponent * 2.0 * self.alpha / (1.0 + self.alpha)
        largest = np.log2(weights.max(initial=0.0)) if weights.any() else 0.0
        ends = np.clip(exponent, -_LARGEST_EXPONENT - largest, _LARGEST_EXPONENT - largest)
        # In two factors, each of which is a float64 number.
        return np.asarray(weights * 2.0 ** (ends / 2.0) * 2.0 ** (ends / 2.0))

    def __str__(self) -> str:
        return f"{self.alpha}-{type(self).__name__}"


class FairGrad(GramianWeightedAggregator):
    """Maximises the α-fair utility of what the objectives gain.

    A(J) = Jᵀw with w > 0 and G w = w^(-1/α). Objective i gains gᵢ · A = wᵢ^(-1/α) > 0, so the
    direction conflicts with none. With α = 0 the weights are equal, and A(J) is the mean, which
    may conflict; with α = 1 it is the direction of NashMTL; a large α gives every objective about
    the same gain. A larger Jacobian gives smaller weights: A(sJ) = s^((1-α)/(1+α)) A(J).

    The official code minimises |G w - w^(-1/α)|² from w = 1/m by a trust-region method that ends
    at its limit of steps wherever it is then. Here the equation is the optimality condition of a
    smooth convex problem, which Newton's method solves to rounding for every scale of the
    gradients; what is not solved raises `SolverError` with the residual and the steps taken.
    Ending early would break the promise above, so `max_iters` counts only where it is more than
    100; 5 steps are usual, some hundred where gradients balance.

    Where the gradients, or some of them, have a combination with positive weights that is 0, the
    equation has no solution. As such a point is approached, what those gradients gain goes to 0:
    here they get weights that cancel, and the others are weighed in the space orthogonal to
    them. At a Pareto-stationary point of all objectives the direction is 0. A zero gradient has
    weight 0. Weights outside the range of float64 are brought to its ends by a common factor.

    Args:
        alpha: α, at least 0: 0 for the mean, 1 for proportional fairness, more for those that
            gain least.
        max_iters: Newton steps at most, or 100 if that is more or it is None.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range.

    Source: Ban & Ji, arXiv 2402.15638, Algorithm 1 and Equation 4.
    Cost: the Gramian (m²n multiply-adds), then m³/3 for each of about 6 Newton steps.

    Example:
        >>> import torch
        >>> from engines.aggregation import FairGrad
        >>> FairGrad(alpha=2.0)(torch.tensor([[1., 0.], [0., 8.]]))
        tensor([1.0000, 0.5000])
    """

    _parameters_shown = ("alpha", "max_iters")

    alpha = Forwarded()
    max_iters = Forwarded()

    def __init__(self, alpha: float, max_iters: int | None = None) -> None:
        super().__init__(FairGradWeighting(alpha, max_iters))

    def __str__(self) -> str:
        return f"{self.alpha}-{type(self).__name__}"


def fairgrad_arguments(m: int) -> dict[str, float]:
    """An α that favours the worse served, as in most of the paper's experiments."""
    return {"alpha": 2.0}


RECORD = MethodRecord(
    name="FairGrad",
    make=FairGrad,
    make_weighting=FairGradWeighting,
    summary="Gives each objective the gain that α-fairness asks for.",
    formula="A(J) = Jᵀw, w > 0 with G w = w^(−1/α)",
    paper="Ban & Ji, Fair Resource Allocation in Multi-Task Learning, 2024, arXiv 2402.15638",
    non_conflicting=True,
    linear_under_scaling=False,
    weighted=True,
    permutation_invariant=True,
    parameters=(
        Parameter("alpha", "number", 2.0, "How much the worse served objectives count.", 0.0, 10.0),
    ),
    arguments=fairgrad_arguments,
    remarks="With α = 0 it is the mean, which may conflict. The length of the direction does not "
    "grow in proportion with the gradients.",
)
