"""A recorder among the ranks of torch.distributed: which one writes, and what all of them lost."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from engines.autogram import Engine
from engines.autogram.exchange.groups import members_of
from engines.errors import GroupError
from jdviz.runs.adapters import ScalarAdapter
from jdviz.runs.logged import Entry, Losses, as_vector
from jdviz.runs.rows import SENT_BYTES

if TYPE_CHECKING:  # builds of torch without torch.distributed have no such name
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class Ranks:
    """The processes that a training is spread over, as one of them sees it.

    Attributes:
        size: How many there are.
        rank: Which of them this is; rank 0 writes the run.
        group: The group that was asked for, None for the default one.
    """

    size: int = 1
    rank: int = 0
    group: "ProcessGroup | None" = None

    @classmethod
    def of(cls, group: "ProcessGroup | None") -> "Ranks":
        """Look at a group, without a word to the other ranks.

        Args:
            group: The group, None for the default one.

        Returns:
            Its ranks; this process alone where torch.distributed is not initialised.

        Raises:
            GroupError: This process is not in the group.
        """
        if not dist.is_available() or not dist.is_initialized():
            return cls(group=group)
        rank = dist.get_rank(group)
        if rank < 0:
            raise GroupError(
                "got a process group without this process, expected one that it is in; make the "
                "Recorder in the processes of the group only."
            )
        return cls(dist.get_world_size(group), rank, group)

    def check(self) -> None:
        """See that the group is still what it was when the recorder was made.

        Raises:
            GroupError: Otherwise each process might record a run of its own.
        """
        now = Ranks.of(self.group)
        if now != self:
            raise GroupError(
                f"got a Recorder that was made as rank {self.rank} of {self.size}, expected rank "
                f"{now.rank} of {now.size}; make it in every process, after init_process_group."
            )

    def names(self, own: Sequence[str], m: int) -> tuple[str, ...]:
        """Names of objectives, which people give for one rank.

        Args:
            own: The names as they were given.
            m: How many objectives there are.

        Returns:
            As many names as there are objectives, if every rank has those of `own`; else `own`.
        """
        if self.size > 1 and len(own) * self.size == m:
            return _apart([tuple(own)] * self.size)
        return tuple(own)

    def gathered(
        self, losses: Losses, batch_dim: int | None
    ) -> NDArray | dict[str, NDArray] | Losses:
        """Put the losses of all ranks together; every rank calls it at the same step.

        Args:
            losses: Of this rank.
            batch_dim: Dimension of the losses that indexes samples, or None.

        Returns:
            Those of all ranks, in rank order as the engine has them; by name if every rank named
            its own. The losses themselves if there is one rank.

        Raises:
            TypeError: They are no real numbers.
            RankFailedError: A rank is gone.
        """
        members = members_of(self.group) if self.size > 1 else None
        if members is None:
            return losses
        names: tuple[str, ...] | None = None
        if isinstance(losses, Mapping):
            names, losses = tuple(map(str, losses)), list(losses.values())
        values = as_vector(losses, "losses")
        if isinstance(losses, Tensor) and losses.ndim:
            values = values.reshape(losses.shape)
        parts = members.gathered((names, values))
        whole = np.concatenate([part for _, part in parts], axis=batch_dim or 0)
        if any(given is None for given, _ in parts):
            return whole
        return dict(zip(_apart([given for given, _ in parts]), whole, strict=True))


def exchanged(engine: Engine) -> dict[str, float]:
    """What the last call of an engine sent between ranks, as numbers of the step.

    Args:
        engine: The engine.

    Returns:
        The bytes that all ranks together sent; nothing without a group.
    """
    exchange = engine.exchange
    return {} if exchange is None else {SENT_BYTES: float(exchange.sent_bytes)}


class Silent:
    """What a recorder writes with on all ranks but the first: nothing.

    Args:
        adapters: What gets no numbers either, and is closed at the end.
    """

    def __init__(self, adapters: Sequence[ScalarAdapter]) -> None:
        self._adapters = adapters

    def put(self, entry: Entry) -> None:
        """See `Writer.put`."""

    def complete(self, entry: Entry) -> None:
        """See `Writer.complete`."""

    def describe(self, m: int, objectives: tuple[str, ...]) -> None:
        """See `Writer.describe`."""

    def end(self, status: str, message: str) -> None:
        """See `Writer.end`."""
        for adapter in self._adapters:
            # Other people's libraries raise what they like, and nothing is lost by it here.
            with suppress(Exception):
                adapter.close()


def _apart(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The names of all ranks' objectives, with the rank where a name is there twice."""
    together = [name for own in names for name in own]
    if len(set(together)) == len(together):
        return tuple(together)
    return tuple(f"{name} (rank {rank})" for rank, own in enumerate(names) for name in own)
