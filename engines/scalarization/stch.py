"""STCH: a smooth form of the largest weighted distance from an ideal point."""

from typing import Any

import torch
from torch import Tensor

from engines.aggregation.validation import positive
from engines.scalarization.parameters import Checked
from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.validation import check_shape, moved, optional_entries, working

# Below it μ times a share of 1e-16 would be no float64, and the gradient would lose that share.
_SMALLEST = 1e-290


class STCH(Scalarizer):
    """Smooth Tchebycheff scalarization: μ log Σᵢ exp(wᵢ(Lᵢ - zᵢ)/μ).

    Between maxᵢ wᵢ(Lᵢ - zᵢ) and μ log m above it, so the smaller μ is, the closer to the weighted
    maximum, which is not smooth. The gradient is that of Σᵢ pᵢwᵢLᵢ with p = softmax(w(L - z)/μ).
    The maximum is taken out before dividing by μ, so that any μ above 0 works.

    The authors' code for multi-task learning is this formula, times m, on the logarithms of the
    losses over their averages in a warm-up epoch. For that, pass the logarithms.

    Args:
        mu: μ, above 0.
        weights: w, in the shape of the losses, or None for 1/m each. In the paper they are
            positive with sum 1.
        reference: Ideal point z, in the shape of the losses, or None for 0.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range; later, when the losses have another shape.

    Source: Lin et al., arXiv 2402.19078; Appendix B.1 for taking the maximum out.
    Cost: m exponentials.

    Example:
        >>> import torch
        >>> from engines.scalarization import STCH
        >>> STCH(1e-3, weights=torch.ones(2))(torch.tensor([1., 2.]))
        tensor(2.)
    """

    _parameters_shown = ("mu", "weights", "reference")

    mu = Checked(positive, "Smoothing, above 0.")
    weights = Checked(optional_entries, "Weights, in the shape of the losses; None for 1/m each.")
    reference = Checked(optional_entries, "Ideal point, in the shape of the losses; None for 0.")

    def __init__(
        self, mu: float, weights: Tensor | None = None, reference: Tensor | None = None
    ) -> None:
        super().__init__()
        self.mu = mu
        self.weights = weights
        self.reference = reference

    def forward(self, values: Tensor, /) -> Tensor:
        """Combine the weighted distances from the ideal point.

        Args:
            values: In the shape of the weights and of the reference.

        Returns:
            Scalar.

        Raises:
            ValueError: Another shape.
        """
        distances = working(values)
        if self.reference is not None:
            check_shape("reference", self.reference.shape, values)
            distances = distances - moved(self.reference, distances)
        if self.weights is None:
            distances = distances / values.numel()
        else:
            check_shape("weights", self.weights.shape, values)
            distances = moved(self.weights, distances) * distances
        # What is taken out is added again: the result does not depend on it, so it is a constant.
        largest = distances.detach().amax()
        mu = max(self.mu, _SMALLEST)
        exponents = ((distances - largest) / mu).flatten()
        return (mu * torch.logsumexp(exponents, dim=0) + largest).to(values.dtype)


def _arguments(m: int) -> dict[str, Any]:
    """A value of μ from the paper's experiments."""
    return {"mu": 0.1}


RECORD = ScalarizerRecord(
    name="STCH",
    make=STCH,
    summary="Takes a smooth form of the largest weighted distance from an ideal point.",
    formula="μ log Σᵢ exp(wᵢ(Lᵢ − zᵢ)/μ)",
    paper="Lin et al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization, 2024, "
    "arXiv 2402.19078",
    arguments=_arguments,
)
