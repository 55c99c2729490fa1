"""What autojac does in a group of processes: it refuses."""

import torch.distributed as dist

from engines.errors import UnsupportedGroupError


def refuse_group(name: str) -> None:
    """Raise where several processes train together.

    The Jacobian of one process has the objectives of its own samples. What an aggregator makes of
    it is another direction on every rank, and none is that of the whole batch; averaging them, as
    DistributedDataParallel does, mixes them without regard to the conflicts between ranks.

    Args:
        name: The function that was called.

    Raises:
        UnsupportedGroupError: The default group has more than one rank.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    ranks = dist.get_world_size()
    if ranks > 1:
        raise UnsupportedGroupError(
            f"got autojac's {name} in a group of {ranks} ranks, expected a process that trains "
            "alone, as the Jacobian of a rank lacks the objectives of the others and every rank "
            "would take another update; use engines.autogram.Engine, which takes in those of all "
            "ranks."
        )
