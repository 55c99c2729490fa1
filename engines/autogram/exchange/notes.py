"""What ranks leave for each other in their group's store: why one failed, and who is missing."""

import contextlib
import time
from collections.abc import Sequence
from datetime import timedelta

import torch.distributed as dist

# How long a rank that is not heard any more is given to say that it waits itself, and how often
# the store is asked.
_GRACE_S, _ASKED_S = 1.0, 0.02
# Clocks of two waits do not begin at the same moment.
_NEARLY = 0.9


class Notes:
    """A place that ranks reach even where their connections are closed.

    The store may be gone too, with the process that keeps it: what only helps then does nothing,
    and what a decision depends on raises a RuntimeError.

    Args:
        store: What all ranks reach, for these notes alone.
        rank: Of this process.
        size: N, how many ranks there are.
    """

    def __init__(self, store: "dist.Store", rank: int, size: int) -> None:
        self._store = store
        self._rank = rank
        self._size = size

    def leave(self, call: int, text: str) -> None:
        """Tell the other ranks why this one fails in a call.

        Args:
            call: Number of the call.
            text: What happened.
        """
        with contextlib.suppress(RuntimeError):
            self._store.set(f"failed/{call}/{self._rank}", text)

    def read(self, call: int, rank: int) -> str:
        """Read what a rank left in a call.

        Args:
            call: Number of the call.
            rank: The rank.

        Returns:
            The text, empty if there is none.
        """
        with contextlib.suppress(RuntimeError):
            return self._value(f"failed/{call}/{rank}")
        return ""

    def meet(self, timeout: timedelta) -> None:
        """Wait until all ranks have called this.

        Args:
            timeout: How long.

        Raises:
            RuntimeError: Some have not; `absent` lists them.
        """
        self._store.set(f"met/{self._rank}", "")
        self._store.wait([f"met/{rank}" for rank in range(self._size)], timeout)

    def absent(self) -> list[int]:
        """List ranks that have not called `meet`.

        Returns:
            Their numbers; none if the store does not answer.
        """
        with contextlib.suppress(RuntimeError):
            return [rank for rank in range(self._size) if not self._has(f"met/{rank}")]
        return []

    def missing(
        self,
        peer: int | None,
        closed: Sequence[int],
        waited_s: float,
        patience_s: float,
        *,
        late: bool,
    ) -> tuple[int, bool]:
        """Find the rank for whose sake a step ends; `arrive` is called before.

        gloo closes all connections of a rank whose patience ends, so a closed one does not yet
        mean that its rank is gone: one that waits itself says so here.

        Args:
            peer: The rank whose message did not come, None if any may be it.
            closed: Ranks whose connection is closed.
            waited_s: How long this rank waited.
            patience_s: How long the group allows.
            late: Whether it waited as long as the group allows.

        Returns:
            The rank, and whether it is only late. If all ranks came in the end, it is the one that
            waited least.

        Raises:
            RuntimeError: The store is gone.
        """
        silent = [] if late else self._silent(closed)
        if silent:
            return peer if peer in silent else silent[0], False
        silent = self._silent([r for r in range(self._size) if r != self._rank])
        if silent:
            # A connection may close before gloo says so. What ended because a rank was late, is
            # known by one that waited to the end.
            late = late or self._longest_wait_s() >= _NEARLY * patience_s
            return peer if peer in silent else silent[0], late
        late = True
        waits_s = [float(self._value(f"here/{rank}") or waited_s) for rank in range(self._size)]
        return waits_s.index(min(waits_s)), late

    def _longest_wait_s(self) -> float:
        """How long the most patient of those waited that say that they are there."""
        return max(float(self._value(f"here/{rank}") or 0.0) for rank in range(self._size))

    def arrive(self, waited_s: float) -> None:
        """Say that this rank has met a failure, but is not its reason.

        Args:
            waited_s: How long it waited for others.

        Raises:
            RuntimeError: The store is gone.
        """
        self._store.set(f"here/{self._rank}", f"{waited_s}")

    def agree(self, blame: str) -> str:
        """Put down whom this rank misses, or read whom another one missed before.

        The first to write is right: later ones may have missed a rank that left because of it.

        Args:
            blame: In words.

        Returns:
            What holds on all ranks.
        """
        with contextlib.suppress(RuntimeError):
            return str(self._store.compare_set("blame", "", blame).decode()) or blame
        return blame

    def _silent(self, suspects: Sequence[int]) -> list[int]:
        """Those that do not say that they are there; it is no matter if another rank knows."""
        silent, end_s = list(suspects), time.monotonic() + _GRACE_S
        while silent and time.monotonic() < end_s and not self._has("blame"):
            silent = [rank for rank in silent if not self._has(f"here/{rank}")]
            time.sleep(_ASKED_S)
        return silent

    def _has(self, key: str) -> bool:
        return self._store.check([key])

    def _value(self, key: str) -> str:
        """What is under a key, empty if nothing: reading that would wait."""
        return str(self._store.get(key).decode()) if self._has(key) else ""
