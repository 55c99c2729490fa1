"""MGDA: the shortest convex combination of the gradients."""

import numpy as np
from numpy.typing import NDArray

from engines.aggregation.aggregators import GramianWeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import positive, whole
from engines.aggregation.weightings import SolvedWeighting
from engines.linalg import min_norm_weights

Array = NDArray[np.float64]

# From a single gradient, 1.1 for each objective is the most seen, near Pareto-stationary points of
# up to 300 objectives.
_ITERATIONS_PER_OBJECTIVE = 3


class MGDAWeighting(SolvedWeighting):
    """Weights of `MGDA`: w = argmin {αᵀGα : α ≥ 0, Σα = 1}.

    See `MGDA` for the source, the parameters and what differs from the papers.

    Example:
        >>> import torch
        >>> from engines.aggregation import MGDAWeighting
        >>> MGDAWeighting()(torch.tensor([[18., -22.], [-22., 38.]], dtype=torch.float64))
        tensor([0.6000, 0.4000], dtype=torch.float64)
    """

    _parameters_shown = ("epsilon", "max_iters")

    def __init__(self, epsilon: float = 0.001, max_iters: int = 100) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.max_iters = max_iters

    @property
    def epsilon(self) -> float:
        """Relative error of the direction at which the iteration stops, above 0."""
        return self._epsilon

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        self._epsilon = positive("epsilon", value)

    @property
    def max_iters(self) -> int:
        """Iterations at most where that is more than 3m, at least 1."""
        return self._max_iters

    @max_iters.setter
    def max_iters(self, value: int) -> None:
        self._max_iters = whole("max_iters", value, 1)

    def solve(self, gramian: Array) -> Array:
        """Find the shortest convex combination.

        Args:
            gramian: Shape [m, m].

        Returns:
            Weights, shape [m], non-negative, with sum 1 unless m is 0.

        Raises:
            NonFiniteGradientError: The Gramian has NaN or infinity.
            SolverError: A linear system of the solver was degenerate.
            ValueError: No Gramian.
        """
        # Ending early gives a direction that conflicts, so a small limit gives way.
        limit = max(self.max_iters, _ITERATIONS_PER_OBJECTIVE * len(gramian))
        return min_norm_weights(gramian, self.epsilon, limit)


class MGDA(GramianWeightedAggregator):
    """Shortest vector in the convex hull of the gradients.

    A(J) = Jᵀα with α = argmin {αᵀGα : α ≥ 0, Σα = 1}. Every gradient satisfies gᵢ · A ≥ |A|², so
    the direction conflicts with none. It is dominated by the shortest gradient, is 0 when a
    gradient is 0, and is not linear in the scale of each gradient.

    Sener & Koltun move by plain Frank-Wolfe steps, which approach the answer slowly. Here
    non-negative least squares on a factor of the Gramian finds the gradients in use, and Wolfe's
    method, which minimises exactly over those in use and adds the one that is served worst, goes
    on from there, usually for no step at all. `epsilon` is the relative error that may remain: at
    the end A is within epsilon·|A| of the answer and gᵢ · A ≥ (1 - epsilon²)|A|² for all i, up to
    the rounding of the Gramian. Ending earlier would break that promise, so `max_iters` counts
    only where it is more than 3m.

    Args:
        epsilon: Relative error of the direction at which to stop, above 0.
        max_iters: Iterations at most, or 3m if that is more.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range.

    Source: Désidéri, Comptes Rendus Mathématique 350, 2012; Sener & Koltun, arXiv 1810.04650,
        Algorithm 2; Wolfe, Mathematical Programming 11, 1976, for the corrective step.
    Cost: the Gramian (m²n multiply-adds), then about m²k for k gradients in use.

    Example:
        >>> import torch
        >>> from engines.aggregation import MGDA
        >>> MGDA()(torch.tensor([[-4., 1., 1.], [6., 1., 1.]])).round(decimals=4).abs()
        tensor([0., 1., 1.])
    """

    _parameters_shown = ("epsilon", "max_iters")

    epsilon = Forwarded()
    max_iters = Forwarded()

    def __init__(self, epsilon: float = 0.001, max_iters: int = 100) -> None:
        super().__init__(MGDAWeighting(epsilon, max_iters))


RECORD = MethodRecord(
    name="MGDA",
    make=MGDA,
    make_weighting=MGDAWeighting,
    summary="Takes the shortest convex combination of the gradients.",
    formula="A(J) = Jᵀα, α = argmin { |Jᵀα|² : α ≥ 0, Σᵢ αᵢ = 1 }",
    paper="Désidéri, Multiple-gradient descent algorithm (MGDA) for multiobjective "
    "optimization, Comptes Rendus Mathématique 350, 2012",
    non_conflicting=True,
    linear_under_scaling=False,
    weighted=True,
    permutation_invariant=True,
    parameters=(
        Parameter("epsilon", "number", 0.001, "Relative error that may remain.", 1e-9, 0.1),
    ),
)
