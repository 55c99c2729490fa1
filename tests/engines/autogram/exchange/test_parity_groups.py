"""Tests of groups within groups, of what they draw, hold and send."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engines.aggregation import PCGradWeighting, RandomWeighting
from engines.autogram import Engine, Exchange, UsePlan
from engines.autogram.exchange.members import Members
from tests.support.ranks import Ranks
from tests.support.spread import (
    MODELS,
    Outcome,
    Setting,
    alone,
    assert_parity,
    steady,
    step_of,
    travelling,
)
from tests.support.steps import assert_same_gradients, spread
from tests.support.tolerances import assert_close

WAYS = ["", "gradients", "factors 0", "factors 1", "ring"]
INNER = [Setting("mlp", (3, 2), way="ring"), Setting("lstm", (2, 4))]
OUTER = [Setting("cnn", (2, 4)), Setting("mlp", (0, 3)), Setting("transformer", (3, 2))]


def in_two_groups(rank: int, world_size: int) -> list[Outcome]:
    """Ranks 1 and 2 take some steps, ranks 0 and 3 take others at the same time."""
    inner, outer = dist.new_group([1, 2]), dist.new_group([0, 3])
    group, settings = (inner, INNER) if rank in (1, 2) else (outer, OUTER)
    with steady():
        found = [step_of(setting, dist.get_rank(group), group) for setting in settings]
        # And all of them together, behind.
        return [*found, step_of(Setting("mlp", (1, 2, 0, 3)), rank)]


def test_groups_beside_each_other(four_ranks: Ranks) -> None:
    first, second, third, fourth = four_ranks.run(in_two_groups)
    assert_parity([second[:-1], third[:-1]], INNER, alone)
    assert_parity([first[:-1], fourth[:-1]], OUTER, alone)
    together = [answers[-1:] for answers in (first, second, third, fourth)]
    assert_parity(together, [Setting("mlp", (1, 2, 0, 3))], alone)
    assert [one.exchange.rank for one in (first[0], second[0], third[0], fourth[0])] == [0, 0, 1, 1]
    assert [one[-1].exchange.ranks for one in (first, second)] == [4, 4]


def in_a_group_of_one(rank: int, world_size: int) -> Outcome:
    """A step in a group of this rank only, with the whole batch."""
    groups = [dist.new_group([each]) for each in range(world_size)]
    return step_of(Setting("mlp", (5,)), 0, groups[rank])


def test_a_group_of_one_is_as_none(two_ranks: Ranks) -> None:
    expected = alone(Setting("mlp", (5,)))
    for found in two_ranks.run(in_a_group_of_one):
        assert torch.equal(found.gramian, expected.gramian)
        assert torch.equal(found.weights, expected.weights)
        assert_same_gradients(found.gradients, expected.gradients)
        assert found.exchange is None
        assert set(found.travels) == {""}


WEIGHTINGS = {"pcgrad": PCGradWeighting, "random": RandomWeighting}


def drawn(rank: int, world_size: int, name: str) -> tuple[list[Tensor], Tensor]:
    """Weights of two steps after a seed that each rank has of its own, and what it draws next."""
    sizes = (5,) if world_size == 1 else (3, 2)
    setting = Setting("mlp", sizes)
    model, x = setting.case.build()
    losses = [
        (setting.losses(model, part, 0), setting.losses(model, part.cos(), 0))
        for part in setting.parts(x)
    ][rank]
    engine, weighting = Engine(model, batch_dim=0), WEIGHTINGS[name]()
    torch.manual_seed(100 + rank)
    weights = [engine.backward(each, weighting).weights for each in losses]
    return weights, torch.rand(3)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_random_methods_draw_what_rank_0_draws(two_ranks: Ranks, name: str) -> None:
    (first, after), (second, other) = two_ranks.run(drawn, name)
    expected, alike = drawn(0, 1, name)
    for one, two, wanted in zip(first, second, expected, strict=True):
        assert torch.equal(one, two)
        assert_close(one, wanted)
    assert not torch.equal(first[0], first[1])
    # Rank 0 has drawn what one process draws, the other nothing.
    assert torch.equal(after, alike)
    torch.manual_seed(101)
    assert torch.equal(other, torch.rand(3))


class _Largest(TorchDispatchMode):
    """Remembers the entries of the largest tensor that any operation returns."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                size = tensor.untyped_storage().nbytes() // tensor.element_size()
                self.entries = max(self.entries, size)
        return found


def largest(rank: int, world_size: int, way: str) -> int:
    """Entries of the largest tensor of a step with four samples on each rank."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 60), nn.Tanh(), nn.Linear(60, 50), nn.Tanh())
    losses = model(torch.randn(4, 40)).square().sum(1)
    engine = Engine(model, batch_dim=0)
    seen = _Largest()
    with steady(), travelling(way), seen:
        engine.backward(losses, spread)
    return seen.entries


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_as_large_as_the_jacobian(four_ranks: Ranks, way: str) -> None:
    # n = 60·41 + 50·61 = 5510 entries and m = 16 objectives: m·n = 88,160. A rank holds rows of
    # its own samples, or its part of all rows: m·n/4, cut within one entry for each group. What
    # is added up for the gradients has n entries and three or four flags.
    m, n = 16, 60 * 41 + 50 * 61
    assert max(four_ranks.run(largest, way)) <= m * (n // 4 + 2)


@dataclass(frozen=True)
class Account:
    """What a rank says of a step, and what really happened in it.

    Attributes:
        uses: Records of `explain`.
        exchange: Of the step.
        numbers: Bytes of floating numbers that left this rank for another one.
        whole: Bytes of integers that did: of agreements.
        summed: Bytes of tensors that were added up over all ranks.
    """

    uses: tuple[UsePlan, ...]
    exchange: Exchange | None
    numbers: int
    whole: int
    summed: int


def accounted(
    rank: int, world_size: int, name: str, sizes: tuple[int, ...], way: str, apart: bool
) -> Account:
    """Watch the second of two steps."""
    setting = Setting(name, sizes, way=way)
    model, x = setting.case.build()
    part = setting.parts(x)[rank]
    engine = Engine(model, batch_dim=0)
    sent = {"numbers": 0, "whole": 0, "summed": 0}
    swap, add = Members.swap, Members.sum

    def counted(self: Members, outgoing: Mapping[int, Sequence[Tensor]], incoming: Any) -> Any:
        for tensor in (t for tensors in outgoing.values() for t in tensors):
            sent["numbers" if tensor.is_floating_point() else "whole"] += tensor.nbytes
        return swap(self, outgoing, incoming)

    def added(self: Members, tensor: Tensor) -> Any:
        sent["summed"] += tensor.nbytes
        return add(self, tensor)

    with steady(), travelling(way, apart=apart), pytest.MonkeyPatch.context() as patched:
        uses = engine.explain(setting.losses(model, part, 0))
        engine.backward(setting.losses(model, part, 0), spread)
        patched.setattr(Members, "swap", counted)
        patched.setattr(Members, "sum", added)
        engine.backward(setting.losses(model, part, 0), spread)
    return Account(uses, engine.exchange, **sent)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*MODELS, "case: prelu", "case: bilinear"])
def test_bytes_are_those_that_are_sent(four_ranks: Ranks, name: str, way: str) -> None:
    # Of one sample torch makes another graph of some models: then all travels as gradients.
    for sizes, apart in [((2, 3, 0, 4), False), ((2, 3, 0, 4), True), ((1, 3, 0, 4), True)]:
        accounts = four_ranks.run(accounted, name, sizes, way, apart)
        # A ring of N sends a sum 2(N - 1)/N times from each of N ranks.
        (summed,) = {account.summed for account in accounts}
        total = sum(account.numbers + account.whole for account in accounts) + 2 * 3 * summed
        assert [account.exchange for account in accounts] == [
            Exchange(4, rank, total) for rank in range(4)
        ]
        # What every rank says beforehand is what leaves it.
        assert [_sent(account.uses) for account in accounts] == [
            account.numbers for account in accounts
        ]


def _sent(uses: Sequence[UsePlan]) -> int:
    return sum(use.sent_bytes for use in uses)


# One layer of 4 inputs and 3 outputs with its bias, 15 entries of 8 bytes; 3 and 2 samples.
BYTES = {
    # The first rank keeps 7 entries of a row, the second 8: 3·8 and 2·7 entries leave.
    "gradients": (192, 112),
    # Inputs go whole; of 3 outputs the first rank keeps 1: 3·(4 + 2) and 2·(4 + 1).
    "factors 0": (144, 80),
    # Outputs go whole, inputs by halves: 3·(3 + 2) and 2·(3 + 2).
    "factors 1": (120, 80),
    # In a first shipment the first rank sends all, the second a half: 3·7 and 1·7.
    "ring": (168, 56),
}


def of_one_layer(rank: int, world_size: int, way: str) -> tuple[UsePlan, ...]:
    """Records of the uses of one layer."""
    model = nn.Linear(4, 3).double()
    x = torch.ones((3, 2)[rank], 4, dtype=torch.float64)
    with steady(), travelling(way):
        return Engine(model, batch_dim=0).explain(model(x).square().sum(1))


@pytest.mark.parametrize("way", BYTES)
def test_explain_says_what_travels(two_ranks: Ranks, way: str) -> None:
    answers = two_ranks.run(of_one_layer, way)
    assert tuple(_sent(uses) for uses in answers) == BYTES[way]
    for uses in answers:
        assert {use.travels for use in uses} == {way.split()[0]}
