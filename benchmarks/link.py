"""How long a message between ranks takes."""

import time
from statistics import median

import torch
from torch import distributed

# Of the messages that are timed: entries of the large one, and how often each is sent.
_ENTRIES, _TURNS = 2**20, 7


def measure_link(device: torch.device) -> tuple[float, float] | None:
    """Times messages that every rank sends to the next one at the same time.

    Args:
        device: Of this rank.

    Returns:
        Seconds of a small message, and bytes in a second; None for one rank.
    """
    if distributed.get_world_size() == 1:
        return None
    small_s, large_s = (_shift_s(entries, device) for entries in (1, _ENTRIES))
    return small_s, 4 * _ENTRIES / max(large_s - small_s, 1e-9)


def _shift_s(entries: int, device: torch.device) -> float:
    """Seconds in which every rank has sent so many numbers to the next one, the median of some."""
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    sent, got = (torch.zeros(entries, device=device) for _ in range(2))
    spent_s = []
    for _ in range(_TURNS):
        distributed.barrier()
        if device.type == "cuda":
            torch.cuda.synchronize()
        begin_s = time.perf_counter()
        operations = [
            distributed.P2POp(distributed.isend, sent, (rank + 1) % ranks),
            distributed.P2POp(distributed.irecv, got, (rank - 1) % ranks),
        ]
        for work in distributed.batch_isend_irecv(operations):
            work.wait()
        if device.type == "cuda":
            torch.cuda.synchronize()
        spent_s.append(time.perf_counter() - begin_s)
    return median(spent_s)
