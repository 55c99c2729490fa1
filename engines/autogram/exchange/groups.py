"""Which processes an engine shares its calls with."""

from dataclasses import dataclass

import torch.distributed as dist

from engines.autogram.exchange.members import Members
from engines.errors import GroupError


@dataclass(frozen=True, eq=False)
class GroupOf:
    """The group that an engine was given. Copies of the engine are in the same one.

    Attributes:
        group: The group; None for all processes.
    """

    group: "dist.ProcessGroup | None"

    def __deepcopy__(self, memo: object) -> "GroupOf":
        return self

    def __getstate__(self) -> object:
        if self.group is not None:
            raise TypeError(
                "got an engine with a process group to pickle, expected one without; make an "
                "engine where it is unpickled."
            )
        return {"group": None}


# One for each group that an engine has met and that was not destroyed since.
_KNOWN: list[Members] = []


def members_of(group: "dist.ProcessGroup | None") -> Members | None:
    """Find the processes that a call is shared with.

    Args:
        group: The group that was asked for, None for the default one.

    Returns:
        Its members; None if torch.distributed is not initialised, or the group has one rank.

    Raises:
        GroupError: This process is not in the group, or the group is no more.
    """
    ready = dist.is_available() and dist.is_initialized()
    if group is None and not ready:
        return None
    chosen = dist.group.WORLD if group is None else group
    if not ready or not isinstance(chosen, dist.ProcessGroup) or not _has_this_process(chosen):
        raise GroupError(
            "got a process group that was destroyed, or without this process, expected one that it "
            "is in; make an engine with a group that is."
        )
    if dist.get_world_size(chosen) == 1:
        return None
    for known in _KNOWN:
        if known.is_of(chosen):
            return known
    found = Members(chosen)
    _KNOWN[:] = [*(known for known in _KNOWN if known.exists), found]
    return found


def _has_this_process(group: "dist.ProcessGroup") -> bool:
    """Whether a group is known to torch and this process in it."""
    try:
        return dist.get_rank(group) >= 0
    except ValueError:
        return False
