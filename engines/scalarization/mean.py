"""The mean of the losses."""

from torch import Tensor

from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.validation import working


class Mean(Scalarizer):
    """Mean of the losses: (1/m) Σᵢ Lᵢ.

    Source: gradient descent on the mean loss, what every other method is compared with.
    Cost: m additions.

    Example:
        >>> import torch
        >>> from engines.scalarization import Mean
        >>> Mean()(torch.tensor([1., 2., 6.]))
        tensor(3.)
    """

    def forward(self, values: Tensor, /) -> Tensor:
        """Take the mean.

        Args:
            values: Any shape.

        Returns:
            Scalar.
        """
        return working(values).mean().to(values.dtype)


RECORD = ScalarizerRecord(
    name="Mean",
    make=Mean,
    summary="Takes the mean of the losses.",
    formula="(1/m) Σᵢ Lᵢ",
    paper="Cauchy, Méthode générale pour la résolution des systèmes d'équations "
    "simultanées, 1847 (gradient descent)",
)
