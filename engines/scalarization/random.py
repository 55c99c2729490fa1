"""A weighted sum of the losses, with new random weights at each call."""

import torch
from torch import Tensor
from torch.nn.functional import softmax

from engines.aggregation.naming import constructor_call
from engines.aggregation.randomness import Randomness
from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.validation import moved, working, working_dtype


class Random(Randomness, Scalarizer):
    """Sum of the losses with random weights: Σᵢ wᵢLᵢ, w = softmax(ξ), ξᵢ ~ N(0, 1).

    The weights are positive with sum 1, and new at each call. The same generator gives the same
    weights for losses of any dtype on any device.

    Args:
        generator: Source of the random numbers; None for torch's global one of the CPU.

    Raises:
        TypeError: `generator` is no torch.Generator.

    Source: Lin et al., arXiv 2111.10603, Algorithm 2 (RLW with normal weights).
    Cost: m random numbers.

    Example:
        >>> import torch
        >>> from engines.scalarization import Random
        >>> generator = torch.Generator().manual_seed(0)
        >>> Random(generator=generator)(torch.tensor([3., 3.]))
        tensor(3.)
    """

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, values: Tensor, /) -> Tensor:
        """Draw weights and add up with them.

        Args:
            values: Any shape.

        Returns:
            Scalar.
        """
        wide = working(values)
        device = self.random_device()
        normal = torch.randn(
            values.numel(), generator=self.generator, device=device, dtype=working_dtype(device)
        )
        weights = softmax(normal, dim=0).reshape(values.shape)
        return (moved(weights, wide) * wide).sum().to(values.dtype)

    def __repr__(self) -> str:
        return constructor_call(self, self.shown_generator())


RECORD = ScalarizerRecord(
    name="Random",
    make=Random,
    summary="Adds the losses with new random weights at each call.",
    formula="Σᵢ wᵢLᵢ, w = softmax(ξ), ξᵢ ~ N(0, 1)",
    paper="Lin et al., Reasonable Effectiveness of Random Weighting: A Litmus Test for "
    "Multi-Task Learning, 2022, arXiv 2111.10603",
    random=True,
)
