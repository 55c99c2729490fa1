"""Bases of the methods that give a direction: any, a weighted sum of rows, weights from J Jᵀ."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from engines.aggregation.naming import constructor_call
from engines.aggregation.registering import unregistered
from engines.aggregation.scaled import TakesScaledGramian
from engines.aggregation.validation import check_matrix
from engines.aggregation.weightings import Weighting
from engines.linalg.gramian import column_chunks, scaled_gramian
from engines.stateful import Stateful


class Aggregator(nn.Module, ABC):
    """Maps a Jacobian [m, n] to a direction [n]; a module, so that hooks work on it."""

    _parameters_shown: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def forward(self, matrix: Tensor, /) -> Tensor:
        """Aggregate the rows.

        Args:
            matrix: Jacobian, one gradient per row, shape [m, n].

        Returns:
            Direction, shape [n].
        """

    def __call__(self, matrix: Tensor, /) -> Tensor:
        """Aggregate the rows and run the hooks.

        Args:
            matrix: Jacobian, one gradient per row, shape [m, n], floating dtype.

        Returns:
            Direction, shape [n], in the dtype and on the device of the matrix.

        Raises:
            TypeError: No floating-point tensor.
            ValueError: Not two dimensions.
        """
        check_matrix(matrix)
        direction: Tensor = super().__call__(matrix)
        return direction

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, unregistered(self, name, value))

    def __repr__(self) -> str:
        return constructor_call(self, self._parameters_shown)

    def __str__(self) -> str:
        return type(self).__name__


class WeightedAggregator(Aggregator):
    """Combines the rows of the Jacobian with the weights that `weighting` gives for it.

    Args:
        weighting: Maps the Jacobian, shape [m, n], to weights, shape [m].
    """

    _parameters_shown: ClassVar[Sequence[str]] = ("weighting",)

    def __init__(self, weighting: Weighting) -> None:
        super().__init__()
        self.weighting = weighting

    @staticmethod
    def combine(matrix: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of the rows, accumulated in float64.

        Args:
            matrix: Shape [m, n].
            weights: Shape [m], any floating dtype.

        Returns:
            weightsᵀ · matrix, shape [n], in the dtype of the matrix.

        Cost: m·n multiply-adds; a workspace of 2 MiB when the dtype is narrower than float64.
        """
        wide = weights.to(device=matrix.device, dtype=torch.float64)
        if matrix.dtype == torch.float64 or matrix.shape[1] == 0:
            return (wide @ matrix.to(torch.float64)).to(matrix.dtype)
        parts = [
            (wide @ chunk.to(torch.float64)).to(matrix.dtype) for chunk in column_chunks(matrix)
        ]
        return torch.cat(parts)

    def forward(self, matrix: Tensor, /) -> Tensor:
        """Weigh, then combine.

        Args:
            matrix: Shape [m, n].

        Returns:
            Direction, shape [n].
        """
        return self.combine(matrix, self.weighting(matrix))


class _OfJacobian(Weighting):
    """A weighting of a Gramian, applied to the Gramian of a Jacobian."""

    _parameters_shown: ClassVar[Sequence[str]] = ("weighting",)

    def __init__(self, weighting: Weighting) -> None:
        super().__init__()
        self.weighting = weighting

    def forward(self, stat: Tensor, /) -> Tensor:
        """Compute the Gramian in float64, then the weights."""
        gramian, exponent = scaled_gramian(stat)
        if exponent == 0 or not isinstance(self.weighting, TakesScaledGramian):
            return self.weighting(gramian)
        self.weighting.gramian_exponent = exponent
        try:
            return self.weighting(gramian)
        finally:
            self.weighting.gramian_exponent = 0

    def __str__(self) -> str:
        return str(self.weighting)


class GramianWeightedAggregator(WeightedAggregator):
    """Combines the rows with weights that depend on the Jacobian through its Gramian only.

    `weighting` maps the Jacobian to weights, by way of the float64 Gramian; `gramian_weighting`
    is the part of it that maps the Gramian to weights. Hooks may be put on either. Neither can be
    replaced: the two would no longer agree, nor would the aggregator's name and parameters.

    Args:
        gramian_weighting: Maps the Gramian, shape [m, m], to weights, shape [m].

    Raises:
        AttributeError: Later, when either is assigned to.
    """

    _parameters_shown: ClassVar[Sequence[str]] = ("gramian_weighting",)

    def __init__(self, gramian_weighting: Weighting) -> None:
        super().__init__(_OfJacobian(gramian_weighting))
        self.gramian_weighting = gramian_weighting

    def __setattr__(self, name: str, value: Any) -> None:
        # Modules register through this method, past any property, so the check has to be here.
        if name in ("weighting", "gramian_weighting") and hasattr(self, "gramian_weighting"):
            raise AttributeError(
                f"got an assignment to {name} of a {type(self).__name__}, expected the one it was "
                "made with, set its parameters or make a GramianWeightedAggregator of the other."
            )
        super().__setattr__(name, value)


class StatefulGramianAggregator(Stateful, GramianWeightedAggregator):
    """A `GramianWeightedAggregator` of a weighting with memory.

    Args:
        gramian_weighting: Has `reset`.
    """

    def reset(self) -> None:
        """Reset the weighting."""
        if isinstance(self.gramian_weighting, Stateful):
            self.gramian_weighting.reset()

    def __str__(self) -> str:
        return str(self.gramian_weighting).removesuffix("Weighting")
