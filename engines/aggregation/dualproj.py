"""DualProj: project the combined gradient onto the dual cone of all gradients."""

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


class DualProjWeighting(ProjectionWeighting):
    """Weights of `DualProj`: w = argmin {vᵀGv : v ≥ p}.

    See `DualProj` for the source, the parameters and what differs from the paper.

    Example:
        >>> import torch
        >>> from engines.aggregation import DualProjWeighting
        >>> DualProjWeighting()(torch.tensor([[18., -22.], [-22., 38.]], dtype=torch.float64))
        tensor([0.6111, 0.5000], dtype=torch.float64)
    """

    def combinations(self, preferences: Array) -> Array:
        """The one combination of all gradients.

        Args:
            preferences: p, shape [m].

        Returns:
            Shape [1, m].
        """
        return preferences[None, :]


class DualProj(ProjectionAggregator):
    """Projects the combined gradient onto the dual cone of all gradients.

    A(J) = π(Σᵢ pᵢ gᵢ), where π projects onto {x : gⱼ · x ≥ 0 for all j} and p is the preference
    vector. In weights, w = argmin {vᵀGv : v ≥ p}. The direction conflicts with no gradient; it
    is not linear in the scale of each gradient.

    This is the projection of Gradient Episodic Memory with the mean in the role of the new
    task's gradient, as Quinton & Rey define it. The scaling, the exact solution and its
    limit are as in `UPGrad`.

    Args:
        pref_vector: Preferences p, shape [m]; None for 1/m each.
        norm_eps: Accepted for compatibility; has no effect on the weights.
        reg_eps: Accepted for compatibility; has no effect on the weights.
        solver: "auto", "quadprog" or "batched".

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range, or the solver is unknown.

    Source: Lopez-Paz & Ranzato, arXiv 1706.08840, Equation 11; Quinton & Rey, arXiv 2406.16232,
        for this form.
    Cost: the Gramian (m²n multiply-adds) and one quadratic problem of m variables.

    Example:
        >>> import torch
        >>> from engines.aggregation import DualProj
        >>> DualProj()(torch.tensor([[-4., 1., 1.], [6., 1., 1.]]))
        tensor([0.5556, 1.1111, 1.1111])
    """

    def __init__(
        self,
        pref_vector: Tensor | None = None,
        norm_eps: float = 0.0001,
        reg_eps: float = 0.0001,
        solver: str = "auto",
    ) -> None:
        super().__init__(DualProjWeighting(pref_vector, norm_eps, reg_eps, solver))


RECORD = MethodRecord(
    name="DualProj",
    make=DualProj,
    make_weighting=DualProjWeighting,
    summary="Projects the mean gradient onto the cone of directions that hurt no objective.",
    formula="A(J) = π((1/m) Σᵢ gᵢ), π the projection onto {x : gⱼ·x ≥ 0 for all j}",
    paper="Lopez-Paz & Ranzato, Gradient Episodic Memory for Continual Learning, 2017, "
    "arXiv 1706.08840",
    non_conflicting=True,
    linear_under_scaling=False,
    weighted=True,
    permutation_invariant=True,
    parameters=PARAMETERS,
)
