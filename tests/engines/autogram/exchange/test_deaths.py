"""A rank that dies or does not come: the others say which one, and no `.grad` is wrong.

Each pool of four ranks loses one after the other: steps of all four, then of groups of the three
and of the two that are left, so that processes start only three times.
"""

import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engines.autogram import Engine
from engines.errors import RankFailedError
from tests.support.ranks import Ranks

DIED = ("died", -signal.SIGKILL)
# Of every group of ranks in turn the one that is lost, by its number in the group and by its own.
LOST = (((0, 1, 2, 3), 1), ((0, 2, 3), 2), ((0, 2), 0))
SAID = [
    f"got no answer in a step of several processes: rank {lost} of {len(group)} "
    for group, lost in LOST
]


@pytest.fixture
def mortal() -> Iterator[Ranks]:
    """Four ranks whose group would wait for longer than the test does."""
    ranks = Ranks(4, timeout_s=300.0, limit_s=90.0)
    yield ranks
    ranks.close()


@pytest.fixture
def impatient() -> Iterator[Ranks]:
    """Four ranks that wait for each other for three seconds."""
    ranks = Ranks(4, timeout_s=3.0, limit_s=60.0)
    yield ranks
    ranks.close()


class Subject:
    """A model, its engine, and a fault that may happen in a step.

    Args:
        group: Of the step.
        wrapped: Whether DistributedDataParallel is around the model.
    """

    def __init__(self, group: Any, *, wrapped: bool = False) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        # Nobody tracks it, so its gradient takes a pass of its own once there are weights.
        self.scale = nn.Parameter(torch.ones(3).double())
        self.module = (
            DistributedDataParallel(self.model, process_group=group) if wrapped else self.model
        )
        self.group = group
        self.engine = Engine(self.module, batch_dim=0, process_group=group)

    @property
    def leaves(self) -> list[nn.Parameter]:
        """Whatever gets a gradient."""
        return [*self.model.parameters(), self.scale]

    def step(self, where: str = "", fault: Callable[[], object] | None = None) -> None:
        """Take a step, in whose course something happens.

        Args:
            where: "before", in the "passes", the "weighting", the "reduction", or when the
                "wrapper" adds up.
            fault: What happens, None for nothing.
        """
        weighed: list[bool] = []

        def act(*places: str) -> None:
            if fault is not None and where in places:
                fault()

        def weighting(gramian: Tensor) -> Tensor:
            act("weighting")
            weighed.append(True)
            return 1 / gramian.sum(1)

        act("before")
        out = self.module(torch.ones(2, 4).double()) * self.scale
        out.register_hook(lambda _: act("reduction") if weighed else act("passes"))
        bias = self.model.get_parameter("2.bias")
        handle = bias.register_post_accumulate_grad_hook(lambda _: act("wrapper"))
        self.engine.backward(out.square().sum(1), weighting)
        handle.remove()

    def clear(self) -> None:
        """Drop gradients."""
        for leaf in self.leaves:
            leaf.grad = None

    def failed(self, step: Callable[[], None]) -> tuple[str, bool]:
        """What a step says that fails for good, and whether `.grad` is clean."""
        with pytest.raises(RankFailedError) as caught:
            step()
        clean = all(leaf.grad is None for leaf in self.leaves)
        # It is known from now on, to other engines of the group too.
        again = Engine(self.model, batch_dim=0, process_group=self.group)
        for engine in (self.engine, again):
            with pytest.raises(RankFailedError) as later:
                engine.compute_gramian(self.model(torch.ones(2, 4).double()).sum(1))
            assert str(later.value) == str(caught.value)
        return str(caught.value), clean


def end() -> None:
    """Leave without a word."""
    os.kill(os.getpid(), signal.SIGKILL)


def groups_of(rank: int, timeout_s: float) -> list[tuple[Any, bool]]:
    """The groups that this rank is in, in turn, and whether it is the one that is lost there."""
    timeout = timedelta(seconds=timeout_s)
    found = [(dist.new_group(list(ranks), timeout), ranks, lost) for ranks, lost in LOST]
    return [(group, ranks[lost] == rank) for group, ranks, lost in found if rank in ranks]


def killed(rank: int, world_size: int, places: list[str]) -> list[tuple[str, bool]]:
    """Lose ranks in places that are given, after a step without a fault."""
    said = []
    for (group, lost), where in zip(groups_of(rank, 300.0), places, strict=False):
        subject = Subject(group, wrapped=where.startswith("wrapper"))
        subject.step()
        if where != "wrapper, accumulating":
            subject.clear()
        place, fault = where.split(",")[0], end if lost else None
        said.append(subject.failed(partial(subject.step, place, fault)))
    return said


@pytest.mark.parametrize(
    ("places", "left"),
    [
        (("passes", "weighting", "before"), ["no .grad was touched"] * 3),
        (
            ("reduction", "wrapper", "wrapper, accumulating"),
            ["no .grad was touched", ".grad was set to None", ".grad was set to None"],
        ),
    ],
    ids=["early", "late"],
)
def test_a_killed_rank_is_named_at_once(
    mortal: Ranks, places: tuple[str, ...], left: list[str]
) -> None:
    answers = mortal.run(killed, places, allow_failure=True)
    assert [answers[rank] for rank in (0, 1, 3)] == [DIED] * 3
    kind, found = answers[2][:2]
    assert kind == "value", answers[2]
    for (message, clean), said, rest in zip(found, SAID, left, strict=True):
        # Nobody waited for the five minutes of the group.
        assert message.startswith(
            f"{said}has ended; expected every rank to take every step; {rest}"
        )
        assert clean


def absent(rank: int, world_size: int, file: str) -> list[tuple[str, bool]]:
    """Stay away in the passes; in another collective call; and for ever, from the first step."""
    store = dist.FileStore(file, -1)
    said = []
    for number, (group, lost) in enumerate(groups_of(rank, 3.0)):
        subject = Subject(group)
        if number < 2:
            subject.step()
            subject.clear()
        key = f"{number} is over"

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match=r"[Tt]imed out"):
                dist.barrier()

        faults = (lambda key=key: store.wait([key]), elsewhere, end)
        step = partial(subject.step, ("passes", "before", "before")[number], faults[number])
        said.append(subject.failed(step if lost else subject.step))
        if not lost:
            store.set(key, "")
    return said


def test_an_absent_rank_is_named_when_time_is_up(impatient: Ranks, tmp_path: Path) -> None:
    answers = impatient.run(absent, str(tmp_path / "store"), allow_failure=True)
    assert answers[0] == DIED
    expected = [f"{said}did not arrive within 3 s; expected every rank" for said in SAID]
    # The ranks that came too late heard the same.
    for answer, count in zip(answers[1:], (1, 3, 2), strict=True):
        assert answer[0] == "value", answer
        assert len(answer[1]) == count
        for (message, clean), said in zip(answer[1], expected, strict=False):
            assert message.startswith(said)
            assert clean
