"""UPGrad: project each gradient onto the dual cone of all, then combine the projections."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engines.aggregation.projection import (
    PARAMETERS,
    ProjectionAggregator,
    ProjectionWeighting,
)
from engines.aggregation.records import MethodRecord

Array = NDArray[np.float64]


class UPGradWeighting(ProjectionWeighting):
    """Weights of `UPGrad`: w = Σᵢ pᵢ argmin {vᵀGv : v ≥ eᵢ}.

    See `UPGrad` for the source, the parameters and what differs from the paper.

    Example:
        >>> import torch
        >>> from engines.aggregation import UPGradWeighting
        >>> UPGradWeighting()(torch.tensor([[18., -22.], [-22., 38.]], dtype=torch.float64))
        tensor([1.1111, 0.7895], dtype=torch.float64)
    """

    def combinations(self, preferences: Array) -> Array:
        """Each gradient on its own, scaled by its preference.

        Args:
            preferences: p, shape [m].

        Returns:
            Shape [m, m].
        """
        return np.diag(preferences)


class UPGrad(ProjectionAggregator):
    """Projects each gradient onto the dual cone of all gradients and combines the projections.

    A(J) = Σᵢ pᵢ π(gᵢ), where π projects onto {x : gⱼ · x ≥ 0 for all j} and p is the preference
    vector. In weights, π(gᵢ) = Jᵀv with v = argmin {vᵀGv : v ≥ eᵢ}. Where no gradients conflict
    the result is Σᵢ pᵢ gᵢ, the mean by default.

    The direction conflicts with no gradient, is linear in the scale of each gradient, and is a
    weighted sum of the gradients. Near a Pareto-stationary point its length goes to 0.

    Two things differ from the paper's experiments: the Gramian is scaled to unit diagonal before
    solving, and what is solved is the unregularized problem, to the rounding of the Gramian. So
    the promise holds for gradients whose lengths differ up to 1e150 times. What a Gramian
    cannot tell no solver can: where two gradients are opposed to within an angle θ (in radians),
    the direction is known to some 1e-14/θ² of the longest gradient, and below 1e-8 the two count
    as exactly opposed.

    Args:
        pref_vector: Preferences p, shape [m]; None for 1/m each.
        norm_eps: Accepted for compatibility; has no effect on the weights.
        reg_eps: Accepted for compatibility; has no effect on the weights.
        solver: "auto", "quadprog" or "batched".

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range, or the solver is unknown.

    Source: Quinton & Rey, arXiv 2406.16232, Proposition 1 (π is its Equation 3).
    Cost: the Gramian (m²n multiply-adds) and m quadratic problems of m variables.

    Example:
        >>> import torch
        >>> from engines.aggregation import UPGrad
        >>> UPGrad()(torch.tensor([[-4., 1., 1.], [6., 1., 1.]]))
        tensor([0.2924, 1.9006, 1.9006])
    """

    def __init__(
        self,
        pref_vector: Tensor | None = None,
        norm_eps: float = 0.0001,
        reg_eps: float = 0.0001,
        solver: str = "auto",
    ) -> None:
        super().__init__(UPGradWeighting(pref_vector, norm_eps, reg_eps, solver))


RECORD = MethodRecord(
    name="UPGrad",
    make=UPGrad,
    make_weighting=UPGradWeighting,
    summary="Projects each gradient onto the cone of directions that hurt no objective, "
    "then averages the projections.",
    formula="A(J) = (1/m) Σᵢ π(gᵢ), π the projection onto {x : gⱼ·x ≥ 0 for all j}",
    paper="Quinton & Rey, Jacobian Descent for Multi-Objective Optimization, 2024, "
    "arXiv 2406.16232",
    non_conflicting=True,
    linear_under_scaling=True,
    weighted=True,
    permutation_invariant=True,
    parameters=PARAMETERS,
)
