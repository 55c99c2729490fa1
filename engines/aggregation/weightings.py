"""Bases of the methods that give weights: from a Gramian, from anything, outside autograd."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.aggregation.naming import constructor_call
from engines.aggregation.validation import check_gramian
from engines.errors import NonDifferentiableError

Array = NDArray[np.float64]


class Weighting(nn.Module, ABC):
    """Maps a statistic of a Jacobian, usually its Gramian [m, m], to weights [m].

    A module, so that forward hooks see every call. ``weighting << fn`` is the weighting that
    applies `fn` first.
    """

    _parameters_shown: ClassVar[Sequence[str]] = ()

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, stat: Tensor, /) -> Tensor:
        """Compute the weights.

        Args:
            stat: What the weights depend on, usually a Gramian, shape [m, m].

        Returns:
            Weights, shape [m].
        """

    def __call__(self, stat: Tensor, /) -> Tensor:
        """Compute the weights and run the hooks.

        Args:
            stat: See `forward`.

        Returns:
            Weights, shape [m].
        """
        weights: Tensor = super().__call__(stat)
        return weights

    def __lshift__(self, fn: Callable[[Tensor], Tensor]) -> "Weighting":
        return _Composition(self, fn)

    def __repr__(self) -> str:
        return constructor_call(self, self._parameters_shown)

    def __str__(self) -> str:
        return type(self).__name__


class _Composition(Weighting):
    """A weighting applied to a function of its argument; the inner one's hooks run too."""

    _parameters_shown = ("weighting", "fn")

    def __init__(self, weighting: Weighting, fn: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weighting = weighting
        self.fn = fn

    def forward(self, stat: Tensor, /) -> Tensor:
        """Apply the function, then the weighting."""
        return self.weighting(self.fn(stat))

    def __str__(self) -> str:
        return str(self.weighting)


class SolvedWeighting(Weighting):
    """A weighting of a Gramian that is computed in float64 outside autograd.

    The weights come back in the Gramian's dtype and on its device; differentiating through them
    raises instead of giving a gradient that ignores the solver.
    """

    def __call__(self, gramian: Tensor, /) -> Tensor:
        """Compute the weights of a Gramian and run the hooks.

        Args:
            gramian: J Jᵀ, shape [m, m].

        Returns:
            Weights, shape [m].

        Raises:
            NonDifferentiableError: Later, when the weights are differentiated.
            NonFiniteGradientError: The Gramian has NaN or infinity.
            TypeError: No floating-point tensor.
            ValueError: Not a square matrix, or no Gramian.
        """
        check_gramian(gramian)
        return super().__call__(gramian)

    def forward(self, gramian: Tensor, /) -> Tensor:
        """Solve for the weights.

        Args:
            gramian: J Jᵀ, shape [m, m].

        Returns:
            Weights, shape [m].
        """
        array = gramian.detach().to(device="cpu", dtype=torch.float64).numpy()
        solved = torch.from_numpy(np.ascontiguousarray(self.solve(array)))
        weights = solved.to(device=gramian.device, dtype=gramian.dtype)
        if gramian.requires_grad and torch.is_grad_enabled():
            weights = _OutsideAutograd.apply(weights, gramian, type(self).__name__)
        return weights

    @abstractmethod
    def solve(self, gramian: Array) -> Array:
        """Compute the weights in float64.

        Args:
            gramian: Shape [m, m].

        Returns:
            Weights, shape [m].
        """


class _OutsideAutograd(torch.autograd.Function):
    """Ties weights to the Gramian they came from by a backward pass that raises."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, gramian: Tensor, name: str) -> Tensor:
        ctx.name = name
        return weights.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise NonDifferentiableError(
            f"got a backward pass through the weights of {ctx.name}, expected them to be used as "
            "constants, detach the Jacobian or the Gramian first."
        )


class GeneralizedWeighting(nn.Module, ABC):
    """Maps a generalized Gramian [m1, …, mk, mk, …, m1] to weights [m1, …, mk]."""

    @abstractmethod
    def forward(self, generalized_gramian: Tensor, /) -> Tensor:
        """Compute the weights.

        Args:
            generalized_gramian: Shape [m1, …, mk, mk, …, m1].

        Returns:
            Weights, shape [m1, …, mk].
        """

    def __call__(self, generalized_gramian: Tensor, /) -> Tensor:
        """Compute the weights and run the hooks.

        Args:
            generalized_gramian: Shape [m1, …, mk, mk, …, m1].

        Returns:
            Weights, shape [m1, …, mk].
        """
        weights: Tensor = super().__call__(generalized_gramian)
        return weights
