"""Who is told of what an engine computed, once it is complete."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

# Called with losses, Gramian, weights or None, and with shares or None if it may ask for them.
Callback = Callable[..., object]


@dataclass(frozen=True)
class _Observer:
    """A callback, and when it wants the Gramian split."""

    callback: Callback
    by_module: bool | Callable[[], bool]

    @property
    def may_split(self) -> bool:
        """Whether the callback takes a fourth argument."""
        return self.by_module is not False


class Observers:
    """The observers of one engine, in the order in which they came."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[int, _Observer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, callback: Callback, by_module: bool | Callable[[], bool]) -> RemovableHandle:
        """Add one.

        Args:
            callback: What is called.
            by_module: Whether it wants shares, or a function that is asked at every call.

        Returns:
            What removes it.

        Raises:
            TypeError: The callback cannot be called, or `by_module` is neither of both.
        """
        if not callable(callback):
            raise TypeError(
                f"got {type(callback).__name__} as callback, expected a function of losses, "
                "Gramian and weights; pass one."
            )
        if not isinstance(by_module, bool) and not callable(by_module):
            raise TypeError(
                f"got by_module={by_module!r}, expected True, False or a function that returns "
                "one of them; pass one of these."
            )
        handle = RemovableHandle(self._by_id)
        self._by_id[handle.id] = _Observer(callback, by_module)
        return handle

    def asking(self) -> frozenset[int]:
        """Those that want shares at this call; every function is asked once."""
        return frozenset(
            number
            for number, one in list(self._by_id.items())
            if (one.by_module if isinstance(one.by_module, bool) else one.by_module())
        )

    def tell(
        self,
        asked: frozenset[int],
        losses: Tensor,
        gramian: Tensor,
        weights: Tensor | None,
        shares: Mapping[str, Tensor] | None,
    ) -> None:
        """Call every observer that is still there.

        Args:
            asked: What `asking` returned at this call.
            losses: The objectives.
            gramian: Their generalized Gramian.
            weights: Their weights, None where there are none yet.
            shares: Those of the modules, None where nobody asked.
        """
        seen = losses.detach()
        for number, one in list(self._by_id.items()):
            if number not in self._by_id:
                continue  # an earlier callback removed it
            if one.may_split:
                own = dict(shares) if shares is not None and number in asked else None
                one.callback(seen, gramian, weights, own)
            else:
                one.callback(seen, gramian, weights)


def added_up(shares: Mapping[str, Tensor]) -> Tensor:
    """The Gramian that shares are parts of.

    Args:
        shares: At least one, all of one shape.

    Returns:
        Their sum; the share itself if there is one.
    """
    return reduce(torch.add, shares.values())
