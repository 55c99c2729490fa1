"""A weighted sum of the losses, with weights that are given."""

from typing import Any

import torch
from torch import Tensor

from engines.aggregation.naming import vector_suffix
from engines.scalarization.parameters import Checked
from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.validation import check_shape, entries, moved, working


class Constant(Scalarizer):
    """Weighted sum of the losses: Σᵢ wᵢLᵢ.

    Args:
        weights: w, in the shape of the losses. Any finite numbers.

    Raises:
        TypeError: The weights are no tensor of real numbers.
        ValueError: A weight is NaN or infinite; later, when the losses have another shape.

    Source: linear scalarization, the oldest way to trade objectives off.
    Cost: m multiply-adds.

    Example:
        >>> import torch
        >>> from engines.scalarization import Constant
        >>> Constant(torch.tensor([1., 0.5]))(torch.tensor([2., 6.]))
        tensor(5.)
    """

    _parameters_shown = ("weights",)

    weights = Checked(entries, "Weights, in the shape of the losses.")

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, values: Tensor, /) -> Tensor:
        """Add up with the weights.

        Args:
            values: In the shape of the weights.

        Returns:
            Scalar.

        Raises:
            ValueError: Another shape.
        """
        check_shape("weights", self.weights.shape, values)
        wide = working(values)
        return (moved(self.weights, wide) * wide).sum().to(values.dtype)

    def __str__(self) -> str:
        if self.weights.ndim == 1:
            return super().__str__() + vector_suffix(self.weights)
        return f"{super().__str__()}(weights of shape {tuple(self.weights.shape)})"


def _arguments(m: int) -> dict[str, Any]:
    """Weights that differ, with sum 1."""
    weights = torch.arange(1, m + 1, dtype=torch.float64)
    return {"weights": weights / weights.sum()}


RECORD = ScalarizerRecord(
    name="Constant",
    make=Constant,
    summary="Adds the losses with weights that are given.",
    formula="Σᵢ wᵢLᵢ",
    paper="Zadeh, Optimality and non-scalar-valued performance criteria, IEEE Transactions on "
    "Automatic Control 8, 1963",
    arguments=_arguments,
    remarks="Reaches only the convex part of a Pareto front.",
)
