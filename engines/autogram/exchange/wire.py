"""The connections that messages of a step take, apart from those of the script's group."""

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# Messages for which nobody waits: no step has such numbers.
LARGEST_TAG = 2**30
_AT_ONCE = timedelta(milliseconds=1)


class Wire:
    """A gloo backend of its own.

    `new_group` would not do: in torch 2.13 it hangs with `use_local_synchronization` where some
    ranks are in more groups than others, and without it all processes have to call it.

    Args:
        store: Where ranks find each other's addresses.
        rank: Of this process.
        size: N, how many ranks there are.
        timeout: How long they wait for each other.

    Raises:
        RuntimeError: Some have not come.
    """

    def __init__(self, store: "dist.Store", rank: int, size: int, timeout: timedelta) -> None:
        self._others = [other for other in range(size) if other != rank]
        # torch's stub lacks what all backends have.
        self._gloo: Any = dist.ProcessGroupGloo(store, rank, size, timeout)

    def post(
        self,
        inboxes: Sequence[tuple[int, Tensor, int]],
        outboxes: Sequence[tuple[int, Tensor, int]],
    ) -> list[Any]:
        """Begin to receive and to send.

        Args:
            inboxes: From whom, to where, and under which number.
            outboxes: To whom, what, and under which number.

        Returns:
            What waits for each.

        Raises:
            RuntimeError: A connection is closed.
        """
        received = [self._gloo.recv([tensor], peer, tag) for peer, tensor, tag in inboxes]
        return received + [self._gloo.send([tensor], peer, tag) for peer, tensor, tag in outboxes]

    def add_up(self, tensor: Tensor) -> Any:
        """Begin to add up a tensor over all ranks, in place.

        Args:
            tensor: Contiguous, on the CPU.

        Returns:
            What waits for it.

        Raises:
            RuntimeError: A connection is closed.
        """
        return self._gloo.allreduce([tensor])

    def closed(self) -> list[int]:
        """List ranks whose connection is closed: gloo says so at once, and else does not wait.

        Returns:
            Their numbers.
        """
        found = []
        for peer in self._others:
            try:
                self._gloo.send([torch.zeros(1)], peer, LARGEST_TAG + 1)
            except RuntimeError:
                found.append(peer)
        return found

    def close(self) -> None:
        """Close all connections, whatever is under way: those that wait learn it at once."""
        for peer in self._others:
            # gloo does so when the patience for any message ends.
            with contextlib.suppress(RuntimeError):
                self._gloo.recv([torch.zeros(1)], peer, LARGEST_TAG + 2).wait(_AT_ONCE)


def timeout_of(group: "dist.ProcessGroup") -> timedelta:
    """Tell how long a group waits for its ranks.

    Args:
        group: The group.

    Returns:
        Its timeout; torch's usual one where it cannot be read.
    """
    for device in ("cpu", "cuda"):
        with contextlib.suppress(RuntimeError, AttributeError):
            found = group._get_backend(torch.device(device)).options._timeout
            if isinstance(found, timedelta):
                return found
    return timedelta(minutes=30)
