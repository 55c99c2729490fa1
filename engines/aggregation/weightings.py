"""Bases of the methods that give weights: from a Gramian, from anything, outside autograd."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.aggregation.constants import outside_autograd
from engines.aggregation.naming import constructor_call
from engines.aggregation.registering import unregistered
from engines.aggregation.validation import check_finite_rows, check_gramian, check_matrix

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

    def __class_getitem__(cls, statistic: object) -> type["Weighting"]:
        """The class itself: ``Weighting[Tensor]`` in a script says what it is a weighting of."""
        return cls

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, unregistered(self, name, value))

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


class MatrixWeighting(Weighting):
    """A weighting of any matrix with one row for each objective: a Jacobian or a Gramian."""

    def __call__(self, stat: Tensor, /) -> Tensor:
        """Compute the weights and run the hooks.

        Args:
            stat: A Jacobian, shape [m, n], or a Gramian, shape [m, m].

        Returns:
            Weights, shape [m].

        Raises:
            NonFiniteGradientError: The argument has NaN or infinity.
            TypeError: No floating-point tensor.
            ValueError: Not two dimensions.
        """
        check_matrix(stat)
        check_finite_rows(stat)
        return super().__call__(stat)


class SolvedWeighting(Weighting):
    """A weighting of a Gramian that is computed in float64 outside autograd.

    The weights come back in the Gramian's dtype and on its device; differentiating through them
    raises instead of giving a gradient that ignores the solver.

    Attributes:
        gramian_exponent: 0, or e while the weights of a Jacobian J are computed from the Gramian
            of 2ᵉ J, because the squares of J's entries are no float64. Weights that do not depend
            on the scale of J need not look at it.
    """

    # Whether the weights are constants except at jumps, so that ignoring the solver is right.
    _piecewise_constant: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.gramian_exponent = 0

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
        solved = torch.from_numpy(np.ascontiguousarray(self.solve_on(array, gramian.device)))
        weights = solved.to(device=gramian.device, dtype=gramian.dtype)
        if self._piecewise_constant:
            return weights
        return outside_autograd(weights, gramian, type(self).__name__)

    def solve_on(self, gramian: Array, device: torch.device) -> Array:
        """Compute the weights, with the help of the device that the Gramian came from.

        Args:
            gramian: Shape [m, m].
            device: Where large products may be computed.

        Returns:
            Weights, shape [m]; those of `solve`, which needs no device, unless overridden.
        """
        return self.solve(gramian)

    @abstractmethod
    def solve(self, gramian: Array) -> Array:
        """Compute the weights in float64.

        Args:
            gramian: Shape [m, m].

        Returns:
            Weights, shape [m].
        """


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
