"""The base of all that combine losses into one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from engines.aggregation.naming import constructor_call
from engines.scalarization.validation import check_values


class Scalarizer(nn.Module, ABC):
    """Combines losses of any shape into one loss, without a Jacobian.

    An ordinary backward pass from the result gives the gradient. A module, so that hooks work on
    it and parameters, if it has any, can be learned. What comes with the package is computed in
    float64, or in float32 on a device without it, and comes back in the dtype of the losses, on
    their device; a result or a derivative that this dtype cannot hold is infinite. Weights and
    other tensors that a method was given may be on another device and of another dtype.
    """

    _parameters_shown: ClassVar[Sequence[str]] = ()

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, values: Tensor, /) -> Tensor:
        """Combine the losses.

        Args:
            values: Any shape.

        Returns:
            Scalar, shape [].
        """

    def __call__(self, values: Tensor, /) -> Tensor:
        """Combine the losses and run the hooks.

        Args:
            values: Losses, any shape, floating dtype.

        Returns:
            Scalar, shape [].

        Raises:
            TypeError: No real floating-point tensor.
            ValueError: Empty, NaN or infinite, or of another shape than the method expects.
        """
        check_values(values)
        combined: Tensor = super().__call__(values)
        return combined

    def __setattr__(self, name: str, value: Any) -> None:
        # A module registers an nn.Parameter before it looks for a descriptor, past its check.
        descriptor = getattr(type(self), name, None)
        setter = getattr(type(descriptor), "__set__", None)
        if setter is not None:
            setter(descriptor, self, value)
        else:
            super().__setattr__(name, value)

    def __repr__(self) -> str:
        return constructor_call(self, self._parameters_shown)

    def __str__(self) -> str:
        return type(self).__name__
