"""IMTL-L: a scale of each loss, learned with the model so that all are of one size."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.validation import check_shape, moved, shape_of, working
from engines.stateful import Stateful


# All memory is in the parameters, so the module's own state_dict() is enough: it comes first.
class IMTLL(Scalarizer, Stateful):
    """Impartial loss balance: Σᵢ (exp(sᵢ) Lᵢ - sᵢ), with learned sᵢ.

    For a fixed loss above 0 the best scale is exp(sᵢ) = 1/Lᵢ, which makes all scaled losses 1. A
    loss that stays below 0 has no best sᵢ, so shift it above 0 first. The value is twice that of
    `UW` at -s, although the papers get there from different assumptions. The other half of the
    method, which balances gradients, is the aggregator IMTLG.

    Give `parameters()` to the optimizer besides those of the model.

    Args:
        shape: Shape of the losses; an integer m is the shape (m,).

    Attributes:
        log_scale: s, a `torch.nn.Parameter` in the shape of the losses; starts at 0.

    Raises:
        TypeError: `shape` is no integer and no sequence of integers.
        ValueError: A size is below 1; later, when the losses have another shape.

    Source: Liu et al., Towards Impartial Multi-task Learning, ICLR 2021 (IMTL-L).
    Cost: m exponentials.

    Example:
        >>> import torch
        >>> from engines.scalarization import IMTLL
        >>> model = torch.nn.Linear(3, 2)
        >>> scalarizer = IMTLL(2)
        >>> optimizer = torch.optim.SGD([*model.parameters(), *scalarizer.parameters()], lr=0.1)
        >>> losses = model(torch.ones(8, 3)).square().mean(dim=0)
        >>> scalarizer(losses).backward()
        >>> optimizer.step()
        >>> scalarizer.log_scale.shape
        torch.Size([2])
    """

    _parameters_shown = ("shape",)

    def __init__(self, shape: int | Sequence[int]) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(shape_of(shape)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the losses."""
        return tuple(self.log_scale.shape)

    def forward(self, values: Tensor, /) -> Tensor:
        """Scale, add up and take the logarithms of the scales off.

        Args:
            values: In the shape of `log_scale`.

        Returns:
            Scalar.

        Raises:
            ValueError: Another shape.
        """
        check_shape("log_scale", self.shape, values)
        wide = working(values)
        log_scale = moved(self.log_scale, wide)
        return (torch.exp(log_scale) * wide - log_scale).sum().to(values.dtype)

    def reset(self) -> None:
        """Set all scales to 1 again; what an optimizer remembers of them is its own."""
        with torch.no_grad():
            self.log_scale.zero_()


def _arguments(m: int) -> dict[str, Any]:
    """A vector of losses."""
    return {"shape": m}


RECORD = ScalarizerRecord(
    name="IMTLL",
    make=IMTLL,
    summary="Scales each loss by a factor that is learned with the model, so that all are near 1.",
    formula="Σᵢ (exp(sᵢ) Lᵢ − sᵢ)",
    paper="Liu et al., Towards Impartial Multi-task Learning, ICLR 2021",
    stateful=True,
    learned=True,
    arguments=_arguments,
    remarks="For losses above 0.",
)
