"""Parameters of a constructor that stay checked when they are set later."""

from collections.abc import Callable
from typing import Generic, Self, TypeVar, overload

from torch import nn

T = TypeVar("T")


class Checked(Generic[T]):
    """An attribute of a module that is checked each time it is set.

    A `torch.nn.Parameter` is registered with the module, so that an optimizer finds it.

    Args:
        check: Gets the name and the value; gives the value or raises.
        text: What the attribute is.
    """

    def __init__(self, check: Callable[[str, T], T], text: str) -> None:
        self._check = check
        self.__doc__ = text

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._kept = f"_{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: nn.Module, owner: type) -> T: ...

    def __get__(self, instance: nn.Module | None, owner: type) -> Self | T:
        if instance is None:
            return self
        value: T = getattr(instance, self._kept)
        return value

    def __set__(self, instance: nn.Module, value: T) -> None:
        checked = self._check(self._name, value)
        # A module refuses to replace a registered Parameter by a plain tensor.
        if hasattr(instance, self._kept):
            delattr(instance, self._kept)
        setattr(instance, self._kept, checked)
