"""What an architecture is to the tests: a model, its inputs, and one loss per sample."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    """One model as people build it, small enough to differentiate sample by sample.

    Attributes:
        id: Name of the case.
        make: Builds the model, in the mode it is trained in.
        inputs: Draws what `losses` needs: tensors with the samples in some dimension.
        losses: Maps the model and the inputs to losses, shape [b].
        random: Whether a forward pass draws random numbers, as dropout does.
    """

    id: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    losses: Callable[[Any, tuple[Tensor, ...]], Tensor]
    random: bool = False

    def build(self, dtype: torch.dtype, seed: int = 0) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """Model and inputs, with the same numbers in every dtype up to their rounding.

        Args:
            dtype: Of the parameters, buffers and inputs that are not integers.
            seed: Of every number drawn.

        Returns:
            A model whose parameters have left their initial values, as after some steps, so that
            no branch is switched off by a zero, and its inputs.
        """
        torch.manual_seed(seed)
        model = self.make()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        inputs = self.inputs()
        return model.to(dtype), tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
