"""PBI: the distance along a direction, and a penalty for the distance from it."""

from typing import Any

import torch
from torch import Tensor

from engines.aggregation.validation import non_negative
from engines.scalarization.parameters import Checked
from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.validation import (
    check_shape,
    direction,
    moved,
    optional_entries,
    working,
)


class PBI(Scalarizer):
    """Penalty-based boundary intersection: d₁ + θ d₂.

    With the unit vector u = w/‖w‖ and an ideal point z, d₁ = u · (L - z) is how far the losses are
    along the direction, and d₂ = ‖L - z - d₁u‖ how far from it. On the direction, where d₂ is 0
    and has no derivative, its gradient is taken as 0: the shortest of its subgradients. A d₂ below
    the rounding of L - z counts as 0.

    Args:
        theta: θ, at least 0. The paper uses 5.
        weights: Direction w, in the shape of the losses, not all 0; usually not negative.
        reference: Ideal point z, in the shape of the losses, or None for 0.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range; later, when the losses have another shape.

    Source: Zhang & Li, IEEE Transactions on Evolutionary Computation 11, 2007, section II.C.
    Cost: 5m multiply-adds.

    Example:
        >>> import torch
        >>> from engines.scalarization import PBI
        >>> PBI(5.0, torch.tensor([1., 0.]))(torch.tensor([3., 4.]))
        tensor(23.)
    """

    _parameters_shown = ("theta", "weights", "reference")

    theta = Checked(non_negative, "Penalty for the distance from the direction, at least 0.")
    weights = Checked(direction, "Direction, in the shape of the losses, not all 0.")
    reference = Checked(optional_entries, "Ideal point, in the shape of the losses; None for 0.")

    def __init__(self, theta: float, weights: Tensor, reference: Tensor | None = None) -> None:
        super().__init__()
        self.theta = theta
        self.weights = weights
        self.reference = reference

    def forward(self, values: Tensor, /) -> Tensor:
        """Split into the parts along and across the direction, and combine their lengths.

        Args:
            values: In the shape of the weights and of the reference.

        Returns:
            Scalar.

        Raises:
            ValueError: Another shape.
        """
        check_shape("weights", self.weights.shape, values)
        distances = working(values)
        if self.reference is not None:
            check_shape("reference", self.reference.shape, values)
            distances = distances - moved(self.reference, distances)
        # Brought to size 1 first: squares of tiny or huge numbers are no numbers.
        largest = distances.detach().abs().amax()
        scale = torch.where(largest > 0, largest, 1.0)
        distances = distances / scale
        unit = moved(self.weights, distances)
        unit = unit / unit.detach().abs().amax()
        unit = unit / unit.square().sum().sqrt()

        along = (unit * distances).sum()
        rest = distances - along * unit
        square = rest.square().sum()
        # Rounding of the unit vector and of the product with it, a few units per entry.
        rounding = 8 * values.numel() * torch.finfo(rest.dtype).eps
        on_direction = square.detach() <= rounding**2
        across = torch.where(on_direction, 1.0, square).sqrt()
        across = torch.where(on_direction, 0.0, across)
        return (scale * (along + self.theta * across)).to(values.dtype)


def _arguments(m: int) -> dict[str, Any]:
    """Equal preferences, and the paper's penalty."""
    return {"theta": 5.0, "weights": torch.full((m,), 1 / m, dtype=torch.float64)}


RECORD = ScalarizerRecord(
    name="PBI",
    make=PBI,
    summary="Adds the distance along a preference direction and a penalty for leaving it.",
    formula="d₁ + θ d₂, u = w/‖w‖, d₁ = u·(L − z), d₂ = ‖L − z − d₁u‖",
    paper="Zhang & Li, MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition, "
    "IEEE Transactions on Evolutionary Computation 11, 2007",
    arguments=_arguments,
)
