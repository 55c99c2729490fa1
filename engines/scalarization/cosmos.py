"""COSMOS: a weighted sum that prefers losses in the proportions of the weights."""

from typing import Any

import torch
from torch import Tensor

from engines.aggregation.validation import non_negative
from engines.scalarization.parameters import Checked
from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.validation import check_shape, direction, moved, working


class COSMOS(Scalarizer):
    """Weighted sum minus a cosine: Σᵢ wᵢLᵢ - λ cos(w, L), cos(w, L) = Σᵢ wᵢLᵢ / (‖w‖‖L‖).

    The cosine rewards losses in the proportions of w. The method of the paper also gives w to the
    model as an input and draws it anew for each batch, from a Dirichlet distribution; this is the
    loss alone. For the rest set `weights` before each call.

    The cosine counts as 0, with gradient 0, where L is 0 and where λ/‖L‖, the size of its
    gradient, is no finite number in the dtype of L.

    Args:
        lambda_: λ, at least 0.
        weights: Preference w, in the shape of the losses, not all 0.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range; later, when the losses have another shape.

    Source: Ruchte & Grabocka, arXiv 2103.13392.
    Cost: 3m multiply-adds.

    Example:
        >>> import torch
        >>> from engines.scalarization import COSMOS
        >>> COSMOS(2.0, torch.tensor([0.5, 0.5]))(torch.tensor([3., 3.]))
        tensor(1.)
    """

    _parameters_shown = ("lambda_", "weights")

    lambda_ = Checked(non_negative, "How much the cosine counts, at least 0.")
    weights = Checked(direction, "Preference, in the shape of the losses, not all 0.")

    def __init__(self, lambda_: float, weights: Tensor) -> None:
        super().__init__()
        self.lambda_ = lambda_
        self.weights = weights

    def forward(self, values: Tensor, /) -> Tensor:
        """Add up with the weights and take the cosine off.

        Args:
            values: In the shape of the weights.

        Returns:
            Scalar.

        Raises:
            ValueError: Another shape.
        """
        check_shape("weights", self.weights.shape, values)
        wide = working(values)
        weights = moved(self.weights, wide)
        largest = wide.detach().abs().amax()
        steep = torch.finfo(values.dtype).max * largest <= self.lambda_
        # Both vectors are brought to size 1 first: squares of tiny or huge numbers are no numbers.
        unit = torch.where(steep, 1.0, wide / torch.where(steep, 1.0, largest))
        preference = weights / weights.detach().abs().amax()
        cosine = (preference * unit).sum() / (_length(preference) * _length(unit))
        penalty = torch.where(steep, 0.0, self.lambda_ * cosine)
        return ((weights * wide).sum() - penalty).to(values.dtype)


def _length(vector: Tensor) -> Tensor:
    """Euclidean norm over all dimensions; not 0."""
    return vector.square().sum().sqrt()


def _arguments(m: int) -> dict[str, Any]:
    """Equal preferences, and a cosine that counts as much as a loss of 1."""
    return {"lambda_": 1.0, "weights": torch.full((m,), 1 / m, dtype=torch.float64)}


RECORD = ScalarizerRecord(
    name="COSMOS",
    make=COSMOS,
    summary="Adds the losses with weights and rewards losses in the proportions of the weights.",
    formula="Σᵢ wᵢLᵢ − λ cos(w, L)",
    paper="Ruchte & Grabocka, Scalable Pareto Front Approximation for Deep Multi-Objective "
    "Learning, 2021, arXiv 2103.13392",
    arguments=_arguments,
    remarks="The paper's method also makes the weights an input of the model.",
)
