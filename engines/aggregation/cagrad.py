"""CAGrad: near the mean gradient, the direction that serves the worst objective best."""

import numpy as np
from numpy.typing import NDArray

from engines.aggregation.aggregators import GramianWeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import non_negative
from engines.aggregation.weightings import SolvedWeighting
from engines.linalg import ball_constrained_weights

Array = NDArray[np.float64]


class CAGradWeighting(SolvedWeighting):
    """Weights of `CAGrad`: 1/m + c|g₀|/|Jᵀw| w, for the w of the dual problem.

    See `CAGrad` for the source, the parameters and what differs from the paper.

    Example:
        >>> import torch
        >>> from engines.aggregation import CAGradWeighting
        >>> CAGradWeighting(c=0.5)(torch.diag(torch.tensor([1., 4.])))
        tensor([1.0590, 0.5000])
    """

    _parameters_shown = ("c", "norm_eps")

    def __init__(self, c: float, norm_eps: float = 0.0001) -> None:
        super().__init__()
        self.c = c
        self.norm_eps = norm_eps

    @property
    def c(self) -> float:
        """How far from the mean gradient, as a share of its length, at least 0."""
        return self._c

    @c.setter
    def c(self, value: float) -> None:
        self._c = non_negative("c", value)

    @property
    def norm_eps(self) -> float:
        """Accepted for compatibility, at least 0; without effect."""
        return self._norm_eps

    @norm_eps.setter
    def norm_eps(self, value: float) -> None:
        self._norm_eps = non_negative("norm_eps", value)

    def solve(self, gramian: Array) -> Array:
        """Find the best worst gain within the ball.

        Args:
            gramian: Shape [m, m].

        Returns:
            Weights, shape [m].

        Raises:
            NonFiniteGradientError: The Gramian has NaN or infinity.
            SolverError: The optimality conditions were not met to rounding.
            ValueError: No Gramian.
        """
        return ball_constrained_weights(gramian, self.c)

    def __str__(self) -> str:
        return type(self).__name__ + _radius_suffix(self.c)


class CAGrad(GramianWeightedAggregator):
    """Improves the worst served objective most, within a ball around the mean gradient.

    A(J) is the d that maximises minᵢ gᵢ · d subject to |d - g₀| ≤ c|g₀|, g₀ being the mean of the
    gradients: d = g₀ + c|g₀|/|g_w| g_w, where g_w = Jᵀw and w minimises g_w · g₀ + c|g₀||g_w|
    over w ≥ 0 with Σw = 1. With c = 0 it is the mean; with c ≥ 1 the ball contains 0 and the
    direction conflicts with none; with c < 1 it may. It is not linear in the scale of each
    gradient.

    Where a convex combination of the gradients is 0, g_w can be 0 and the formula has no value:
    every d of the ball that conflicts with none is optimal then, and the one nearest to g₀ is
    taken, which is DualProj's. At a Pareto-stationary point of all objectives it is 0, if c ≥ 1.
    A gradient of length 0 counts in g₀ and not in the minimum, which it would hold at 0. A mean
    of less than about 1e-7 of the gradients' mean length is rounding of the Gramian, and gives 0.

    The official code adds 1e-8 to |g_w| and to |g₀|², approaches w with a general optimizer, and
    can divide the result by 1 + c² or 1 + c; the paper and this method do not. Others find w from
    a Gramian divided by its trace and give 0 where |g_w| < norm_eps, which stops small gradients;
    here `norm_eps` is without effect. The optimality conditions are met to rounding for gradients
    of length 1, whatever the lengths are, or `SolverError` is raised with the residual.

    Args:
        c: How far from the mean gradient, as a share of its length, at least 0.
        norm_eps: Accepted, validated and shown, without effect: there is nothing to divide by.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is negative, NaN or infinite.

    Source: Liu et al., arXiv 2110.14048, Algorithm 1.
    Cost: the Gramian (m²n multiply-adds), then about six non-negative least-squares problems of
        m²k each for k gradients in use.

    Example:
        >>> import torch
        >>> from engines.aggregation import CAGrad
        >>> CAGrad(c=0.5)(torch.tensor([[-4., 1., 1.], [6., 1., 1.]]))
        tensor([0.1835, 1.2041, 1.2041])
    """

    _parameters_shown = ("c", "norm_eps")

    c = Forwarded()
    norm_eps = Forwarded()

    def __init__(self, c: float, norm_eps: float = 0.0001) -> None:
        super().__init__(CAGradWeighting(c, norm_eps))

    def __str__(self) -> str:
        return type(self).__name__ + _radius_suffix(self.c)


def _radius_suffix(c: float) -> str:
    """What c adds to the name: 0.5, or 1 for 1.0."""
    return str(c).removesuffix(".0")


def cagrad_arguments(m: int) -> dict[str, float]:
    """A radius within the range of the paper's experiments."""
    return {"c": 0.5}


RECORD = MethodRecord(
    name="CAGrad",
    make=CAGrad,
    make_weighting=CAGradWeighting,
    summary="Improves the worst served objective most, near the mean gradient.",
    formula="A(J) = argmax { minᵢ gᵢ·d : |d − g₀| ≤ c|g₀| }, g₀ = (1/m) Σᵢ gᵢ",
    paper="Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, 2021, "
    "arXiv 2110.14048",
    non_conflicting=False,
    linear_under_scaling=False,
    weighted=True,
    permutation_invariant=True,
    parameters=(
        Parameter(
            "c", "number", 0.5, "How far from the mean, as a share of its length.", 0.0, 10.0
        ),
    ),
    arguments=cagrad_arguments,
    remarks="With c ≥ 1 it conflicts with no gradient; with c = 0 it is Mean.",
)
