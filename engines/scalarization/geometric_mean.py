"""The geometric mean of the losses."""

import torch
from torch import Tensor

from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.validation import positions, working


class GeometricMean(Scalarizer):
    """Geometric mean of the losses, which must not be negative: (Πᵢ Lᵢ)^(1/m).

    Each loss counts relative to its own size: scaling one by c scales the result by c^(1/m). It is
    computed with logarithms, so that no product overflows.

    Where a loss is 0 the result is 0, and so is the gradient: the derivative in the other losses
    is 0, and that in the loss itself, which may be infinite, belongs to a loss that cannot fall
    further. So such a batch changes nothing, instead of writing NaN into the model. A single loss
    is its own mean, with derivative 1 everywhere.

    Raises:
        ValueError: At a call, when a loss is negative; the message has the flat positions.

    Source: Chennupati et al., arXiv 1904.08492 (geometric loss strategy).
    Cost: m logarithms.

    Example:
        >>> import torch
        >>> from engines.scalarization import GeometricMean
        >>> GeometricMean()(torch.tensor([1e-30, 4e30]))
        tensor(2.)
    """

    def forward(self, values: Tensor, /) -> Tensor:
        """Take the geometric mean.

        Args:
            values: Any shape, none negative.

        Returns:
            Scalar.

        Raises:
            ValueError: A negative loss.
        """
        negative = positions(values.detach() < 0)
        if negative:
            raise ValueError(
                f"got negative losses at flat positions {negative}, expected losses >= 0, "
                "shift them or use another scalarizer."
            )
        wide = working(values)
        if wide.numel() == 1:
            return wide.sum().to(values.dtype)
        vanished = wide == 0
        mean = torch.where(vanished, 1.0, wide).log().mean().exp()
        return torch.where(vanished.any(), 0.0, mean).to(values.dtype)


RECORD = ScalarizerRecord(
    name="GeometricMean",
    make=GeometricMean,
    summary="Takes the geometric mean of the losses, so that each counts relative to its size.",
    formula="(Πᵢ Lᵢ)^(1/m)",
    paper="Chennupati et al., MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss "
    "Strategy for Multi-Task Learning, 2019, arXiv 1904.08492",
    remarks="Negative losses raise; a loss of 0 gives 0 with gradient 0.",
)
