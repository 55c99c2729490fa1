"""What the helper that starts ranks promises: a failure is reported, and nothing hangs."""

import os
import re
import signal
import threading
import warnings
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tests.support.ranks import Ranks, RanksError


@pytest.fixture(scope="module")
def fragile() -> Iterator[Ranks]:
    """Two ranks that wait for each other for two seconds."""
    ranks = Ranks(2, timeout_s=2.0, limit_s=60.0)
    yield ranks
    ranks.close()


def summed(rank: int, world_size: int, factor: float) -> Tensor:
    """The sum over ranks of a vector that says which rank made it."""
    found = torch.full((3,), factor * (rank + 1))
    dist.all_reduce(found)
    return found


def process_of(rank: int, world_size: int) -> tuple[int, int]:
    return os.getpid(), torch.get_num_threads()


def raises_in_one(rank: int, world_size: int) -> int:
    if rank == 1:
        raise LookupError("lost the way")
    return rank


def stays_away(rank: int, world_size: int) -> Tensor:
    """Rank 1 raises before it takes part in what rank 0 waits for."""
    raises_in_one(rank, world_size)
    return summed(rank, world_size, 1.0)


def dies_in_one(rank: int, world_size: int) -> Tensor:
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return summed(rank, world_size, 1.0)


def hangs_in_one(rank: int, world_size: int) -> int:
    if rank == 1:
        threading.Event().wait()
    return rank


def warns(rank: int, world_size: int) -> None:
    warnings.warn("mind the step", UserWarning, stacklevel=1)


def test_ranks_are_of_one_group(two_ranks: Ranks) -> None:
    found = two_ranks.run(summed, 2.0)
    assert [one.tolist() for one in found] == [[6.0] * 3] * 2


def test_processes_stay_between_calls(two_ranks: Ranks) -> None:
    first, second = two_ranks.run(process_of), two_ranks.run(process_of)
    assert first == second
    assert len({process for process, _ in first}) == 2
    assert [threads for _, threads in first] == [1, 1]


def test_a_raising_rank_brings_its_traceback(fragile: Ranks) -> None:
    with pytest.raises(RanksError, match=r"rank 0 returned\nrank 1 raised LookupError: lost") as it:
        fragile.run(raises_in_one)
    assert 'raise LookupError("lost the way")' in str(it.value)
    # The next call finds new processes.
    assert fragile.run(summed, 1.0)[0].tolist() == [3.0] * 3


def test_warnings_are_errors(fragile: Ranks) -> None:
    expected = ("error", "UserWarning", "mind the step")
    assert fragile.run(warns, allow_failure=True) == [expected, expected]


def test_a_rank_that_waits_for_one_that_raised_ends_with_the_groups_timeout(fragile: Ranks) -> None:
    waiting, raised = fragile.run(stays_away, allow_failure=True)
    assert waiting[:2] == ("error", "RuntimeError")
    assert re.search("[Tt]imed out", waiting[2])
    assert raised == ("error", "LookupError", "lost the way")


def test_a_dead_rank_is_reported(fragile: Ranks) -> None:
    waiting, dead = fragile.run(dies_in_one, allow_failure=True)
    assert waiting[:2] == ("error", "RuntimeError")
    assert dead == ("died", -signal.SIGKILL)


def test_a_hanging_rank_is_reported_and_killed() -> None:
    ranks = Ranks(2)
    processes = [process for process, _ in ranks.run(process_of)]
    ranks.limit_s = 1.0
    with pytest.raises(RanksError, match="rank 1 did not answer and was killed") as caught:
        ranks.run(hangs_in_one, allow_failure=True)
    assert "in hangs_in_one" in str(caught.value)
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
