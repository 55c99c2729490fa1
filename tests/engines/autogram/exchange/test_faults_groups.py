"""Engines that are copied on one rank only, and several groups at once."""

import copy
import pickle
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engines.autogram import Engine
from tests.engines.autogram.exchange.faulty import (
    SIZES,
    good_step,
    losses_of,
    mlp,
    outcome,
    part,
)
from tests.support.ranks import Ranks
from tests.support.reference import reference_jacobian
from tests.support.tolerances import assert_close


def copied(rank: int, world_size: int) -> list[tuple[Tensor, Tensor]]:
    """On rank 1 an engine and its copy take turns; rank 0 has one, which is in all steps."""
    model = mlp()
    engine = Engine(model, batch_dim=0)

    def step(used: Engine, its: nn.Module, times: int) -> tuple[Tensor, Tensor]:
        """A Gramian of a batch that is repeated, so that each size is planned anew."""
        found = used.compute_gramian(losses_of(its, torch.cat([part(rank)] * times)))
        whole = torch.cat([part(0)] * times + [part(1)] * times)
        jacobian = reference_jacobian(losses_of(model, whole), model.parameters())
        return found, jacobian @ jacobian.T

    pairs = [step(engine, model, 1)]
    its, twin = copy.deepcopy((model, engine)) if rank == 1 else (model, engine)
    # In the end each of the two on rank 1 knows one plan, and rank 0 another one.
    turns = ((engine, model, 2), (twin, its, 3)) * 2
    pairs += [step(*turn) for turn in turns]
    its, again = pickle.loads(pickle.dumps((its, twin)))
    return [
        *pairs,
        step(again, its, 3),
        good_step(rank, again, its),
        good_step(rank, engine, model),
    ]


def test_reference_copies_on_one_rank_only(two_ranks: Ranks) -> None:
    for answer in two_ranks.run(copied):
        assert len(answer) == 8
        for found, reference in answer:
            assert_close(found, reference)


def two_groups(rank: int, world_size: int) -> list[tuple[Tensor, Tensor]]:
    """Steps of all, and of the even and the odd ranks, in turn."""
    halves = [dist.new_group([0, 2]), dist.new_group([1, 3])]
    x = torch.randn(4, 2, 4, generator=torch.Generator().manual_seed(2)).double()
    model = mlp()
    everyone = Engine(model, batch_dim=0)
    half = Engine(model, batch_dim=0, process_group=halves[rank % 2])
    pairs = []
    for engine, ranks in [(everyone, range(4)), (half, range(rank % 2, 4, 2))] * 2:
        found = engine.compute_gramian(losses_of(model, x[rank]))
        jacobian = reference_jacobian(
            torch.cat([losses_of(model, x[other]) for other in ranks]), model.parameters()
        )
        pairs.append((found, jacobian @ jacobian.T))
    return pairs


def test_reference_two_groups_at_once(four_ranks: Ranks) -> None:
    for answer in four_ranks.run(two_groups):
        for found, reference in answer:
            assert_close(found, reference)


def not_in_the_group(rank: int, world_size: int) -> str:
    group = dist.new_group([0, 1])
    model = mlp()
    if rank > 1:
        return outcome(lambda: Engine(model, batch_dim=0, process_group=group))[1]
    engine = Engine(model, batch_dim=0, process_group=group)
    return outcome(lambda: engine.compute_gramian(losses_of(model, part(rank))))[1]


def test_an_engine_of_a_group_without_this_process(four_ranks: Ranks) -> None:
    answers = four_ranks.run(not_in_the_group)
    assert answers[:2] == ["", ""]
    for message in answers[2:]:
        assert message.startswith("got process_group=")


def through_groups(rank: int, world_size: int, folder: str) -> list[Any]:
    """One engine before, in, between and after groups, and one with a group of its own."""
    model = mlp()
    engine = Engine(model, batch_dim=0)
    own = Engine(model, batch_dim=0, process_group=dist.new_group([0, 1]))
    found: list[Any] = [engine.compute_gramian(losses_of(model, part(rank))).shape[0]]
    found.append(own.compute_gramian(losses_of(model, part(rank))).shape[0])
    dist.destroy_process_group()
    found.append(engine.compute_gramian(losses_of(model, part(rank))).shape[0])
    found.append(engine.exchange is None)
    found.append(outcome(lambda: own.compute_gramian(losses_of(model, part(rank))))[0])
    store = dist.FileStore(f"{folder}/again", world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    found.append(engine.compute_gramian(losses_of(model, part(rank))).shape[0])
    found.append(outcome(lambda: own.compute_gramian(losses_of(model, part(rank))))[0])
    one, other = good_step(rank, engine, model)
    return [*found, torch.allclose(one, other, rtol=1e-12)]


def test_an_engine_outlives_groups(tmp_path: Path) -> None:
    ranks = Ranks(2)
    try:
        answers = ranks.run(through_groups, str(tmp_path))
    finally:
        ranks.close()
    assert answers == [[5, 5, size, True, "GroupError", 5, "GroupError", True] for size in SIZES]
