"""UW: weights from an uncertainty of each loss, learned with the model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.validation import check_shape, moved, shape_of, working
from engines.stateful import Stateful


# All memory is in the parameters, so the module's own state_dict() is enough: it comes first.
class UW(Scalarizer, Stateful):
    """Uncertainty weighting: Σᵢ ½ (exp(-sᵢ) Lᵢ + sᵢ), with learned sᵢ = log σᵢ².

    Each loss is divided by its own variance σᵢ², and sᵢ keeps that from growing without end: for
    a fixed loss above 0 the best is σᵢ² = Lᵢ. A loss that stays below 0 has no best sᵢ and drives
    it down, so shift it above 0 first.

    Give `parameters()` to the optimizer besides those of the model. As in the paper the logarithm
    is learned, and starts at 0. The paper has exp(-sᵢ) Lᵢ without the factor ½ for classification
    losses, and the example its first author published has no ½ anywhere, which is twice this.

    Args:
        shape: Shape of the losses; an integer m is the shape (m,).

    Attributes:
        log_var: s, a `torch.nn.Parameter` in the shape of the losses.

    Raises:
        TypeError: `shape` is no integer and no sequence of integers.
        ValueError: A size is below 1; later, when the losses have another shape.

    Source: Kendall, Gal & Cipolla, arXiv 1705.07115, section 3.2.
    Cost: m exponentials.

    Example:
        >>> import torch
        >>> from engines.scalarization import UW
        >>> model = torch.nn.Linear(3, 2)
        >>> scalarizer = UW(2)
        >>> optimizer = torch.optim.SGD([*model.parameters(), *scalarizer.parameters()], lr=0.1)
        >>> losses = model(torch.ones(8, 3)).square().mean(dim=0)
        >>> scalarizer(losses).backward()
        >>> optimizer.step()
        >>> scalarizer.log_var.shape
        torch.Size([2])
    """

    _parameters_shown = ("shape",)

    def __init__(self, shape: int | Sequence[int]) -> None:
        super().__init__()
        self.log_var = nn.Parameter(torch.zeros(shape_of(shape)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the losses."""
        return tuple(self.log_var.shape)

    def forward(self, values: Tensor, /) -> Tensor:
        """Divide by the variances and add their logarithms.

        Args:
            values: In the shape of `log_var`.

        Returns:
            Scalar.

        Raises:
            ValueError: Another shape.
        """
        check_shape("log_var", self.shape, values)
        wide = working(values)
        log_var = moved(self.log_var, wide)
        return (0.5 * (torch.exp(-log_var) * wide + log_var)).sum().to(values.dtype)

    def reset(self) -> None:
        """Set all variances to 1 again; what an optimizer remembers of them is its own."""
        with torch.no_grad():
            self.log_var.zero_()


def _arguments(m: int) -> dict[str, Any]:
    """A vector of losses."""
    return {"shape": m}


RECORD = ScalarizerRecord(
    name="UW",
    make=UW,
    summary="Divides each loss by a variance that is learned with the model.",
    formula="Σᵢ ½ (exp(−sᵢ) Lᵢ + sᵢ)",
    paper="Kendall, Gal & Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for "
    "Scene Geometry and Semantics, 2018, arXiv 1705.07115",
    stateful=True,
    learned=True,
    arguments=_arguments,
    remarks="For losses above 0.",
)
