"""The sum of the losses."""

from torch import Tensor

from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.validation import working


class Sum(Scalarizer):
    """Sum of the losses: Σᵢ Lᵢ.

    Source: gradient descent on the summed loss.
    Cost: m additions.

    Example:
        >>> import torch
        >>> from engines.scalarization import Sum
        >>> Sum()(torch.tensor([1., 2., 6.]))
        tensor(9.)
    """

    def forward(self, values: Tensor, /) -> Tensor:
        """Add up.

        Args:
            values: Any shape.

        Returns:
            Scalar.
        """
        return working(values).sum().to(values.dtype)


RECORD = ScalarizerRecord(
    name="Sum",
    make=Sum,
    summary="Adds the losses.",
    formula="Σᵢ Lᵢ",
    paper="Cauchy, Méthode générale pour la résolution des systèmes d'équations "
    "simultanées, 1847 (gradient descent)",
)
