"""Finds what would stop an accelerator's queue: looks at numbers, and results sized by them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from engines.autogram.rules import contraction, embedding

_SYNCHRONISING = (
    "_local_scalar_dense",
    "_unique2",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
)


class ReadBackError(AssertionError):
    """A number was looked at."""


class NoReadBack(TorchDispatchMode):
    """Raises where an accelerator would wait for its queue, until that is allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = False

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        arguments: tuple[Any, ...] = (),
        named: dict[str, Any] | None = None,
    ) -> Any:
        """Let everything else pass."""
        if self.allowed:
            return function(*arguments, **(named or {}))
        name = function.overloadpacket.__name__
        if name in _SYNCHRONISING:
            raise ReadBackError(name)
        indexed = name in ("index", "index_put", "index_put_")
        if indexed and any(isinstance(i, Tensor) and i.dtype == torch.bool for i in arguments[1]):
            raise ReadBackError(f"{name} by a mask")
        return function(*arguments, **(named or {}))


def as_on_an_accelerator(call: Callable[[NoReadBack], object]) -> None:
    """Call something as if the CPU were a device that should not be waited for.

    Args:
        call: Gets the mode, whose `allowed` ends the ban.

    Raises:
        ReadBackError: It looks at numbers.
    """
    mode = NoReadBack()

    def guarded(inner: Callable[..., object]) -> Callable[..., object]:
        def method(*arguments: object, **named: object) -> object:
            if not mode.allowed:
                raise ReadBackError("a tensor's numbers in Python")
            return inner(*arguments, **named)

        return method

    with pytest.MonkeyPatch.context() as patched:
        for module in (contraction, embedding):
            patched.setattr(module, "reads_back", lambda _: False)
        for name in ("tolist", "numpy", "cpu"):
            patched.setattr(Tensor, name, guarded(getattr(Tensor, name)))
        with mode:
            call(mode)
