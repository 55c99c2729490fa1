"""A rank that fails by itself: all are told, and the next step is right on all of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engines.autogram import Engine
from tests.engines.autogram.exchange.faulty import (
    Outcome,
    good_step,
    losses_of,
    mlp,
    outcome,
    part,
    trouble,
    uneven,
)
from tests.support.ranks import Ranks
from tests.support.tolerances import assert_close


class Loop(nn.Module):
    """A parameter without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4).double())

    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.linalg.matrix_exp(self.weight)


def in_the_passes(ours: bool) -> Outcome:
    model = mlp()
    out = model(part(0))
    if ours:
        out.register_hook(trouble)
    engine = Engine(model, batch_dim=0)
    return outcome(lambda: engine.backward(out.square().sum(1), uneven), model)


def in_the_weighting(ours: bool) -> Outcome:
    model = mlp()
    weighting = trouble if ours else uneven
    engine = Engine(model, batch_dim=0)
    return outcome(lambda: engine.backward(losses_of(model, part(0)), weighting), model)


def in_the_second_pass(ours: bool) -> Outcome:
    """A leaf that nobody tracks takes a pass once there are weights; the wrapper has to wait."""
    model, scale = mlp(), nn.Parameter(torch.ones(3).double())
    ddp = DistributedDataParallel(model)
    weighed: list[bool] = []
    out = ddp(part(0)) * scale
    if ours:
        out.register_hook(lambda _: trouble() if weighed else None)
    engine = Engine(ddp, batch_dim=0)

    def weighting(gramian: Tensor) -> Tensor:
        weighed.append(True)
        return uneven(gramian)

    return outcome(lambda: engine.backward(out.square().sum(1), weighting), model)


def weights_of_another_shape(ours: bool) -> Outcome:
    model = mlp()
    engine = Engine(model, batch_dim=0)
    weighting = (lambda gramian: gramian) if ours else uneven
    return outcome(lambda: engine.backward(losses_of(model, part(0)), weighting), model)


def mixed_samples(ours: bool) -> Outcome:
    model = nn.Sequential(mlp(), nn.BatchNorm1d(3).double())
    model.train(ours)
    engine = Engine(model, batch_dim=0)
    return outcome(lambda: engine.backward(losses_of(model, part(0)), uneven), model)


def no_graph(ours: bool) -> Outcome:
    model = mlp()
    losses = losses_of(model, part(0))
    engine = Engine(model, batch_dim=0)
    return outcome(lambda: engine.compute_gramian(losses.detach() if ours else losses), model)


def no_losses(ours: bool) -> Outcome:
    model = mlp()
    engine = Engine(model, batch_dim=0)
    losses: Any = None if ours else losses_of(model, part(0))
    return outcome(lambda: engine.explain(losses), model)


def without_a_rule(ours: bool) -> Outcome:
    """The general path makes its rows in passes of their own."""
    model = Loop()
    out = model(part(0))
    if ours:
        out.register_hook(trouble)
    engine = Engine(model, batch_dim=0)
    return outcome(lambda: engine.compute_gramian(out.square().sum(1)), model)


ALONE: dict[Callable[[bool], Outcome], str] = {
    in_the_passes: "LookupError: lost the way",
    in_the_weighting: "LookupError: lost the way",
    in_the_second_pass: "LookupError: lost the way",
    weights_of_another_shape: "ValueError: got weights of shape (4, 4), expected that of",
    mixed_samples: "BatchMixedError: got batch_dim=0 and 1 place where samples meet",
    no_graph: "UnsupportedGraphError: got",
    no_losses: "TypeError: got NoneType",
    without_a_rule: "LookupError: lost the way",
}


def failing(
    rank: int, world_size: int, fails: Callable[[bool], Outcome], who: int
) -> tuple[Outcome, tuple[Tensor, Tensor]]:
    found = fails(rank == who)
    return found, good_step(rank)


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("fails", ALONE, ids=lambda fails: fails.__name__)
def test_one_that_fails_has_its_own_error_and_the_others_its_words(
    two_ranks: Ranks, fails: Callable[[bool], Outcome], who: int
) -> None:
    answers = two_ranks.run(failing, fails, who)
    kind, said = ALONE[fails].split(": ", 1)
    (own, message, clean), _ = answers[who]
    assert (own, clean) == (kind, True)
    assert message.startswith(said)
    (own, message, clean), _ = answers[1 - who]
    assert (own, clean) == ("RankFailedError", True)
    expected = "got a failure on another process, expected every rank to finish the step; "
    assert message.startswith(f"{expected}rank {who}: {ALONE[fails]}")
    assert message.endswith(" No .grad was touched on any rank.")
    for _, (found, reference) in answers:
        assert_close(found, reference)
        assert torch.equal(found, answers[0][1][0])


def wrapper_after_a_failure(rank: int, world_size: int) -> tuple[Outcome, tuple[Tensor, Tensor]]:
    """The wrapper was prepared for a reduction that never came."""
    model = mlp()
    ddp = DistributedDataParallel(model)
    engine = Engine(ddp, batch_dim=0)
    weighting = trouble if rank == 1 else uneven
    found = outcome(lambda: engine.backward(losses_of(ddp, part(rank)), weighting), model)
    return found, good_step(rank, engine, ddp)


def test_a_wrapper_goes_on_after_a_failure(two_ranks: Ranks) -> None:
    answers = two_ranks.run(wrapper_after_a_failure)
    assert [kind for (kind, _, _), _ in answers] == ["RankFailedError", "LookupError"]
    assert [clean for (_, _, clean), _ in answers] == [True, True]
    for _, (found, reference) in answers:
        assert_close(found, reference)


def not_finite(rank: int, world_size: int, wrapped: bool) -> tuple[Outcome, tuple[Tensor, Tensor]]:
    """NaN in the second sample of rank 1: all know the Gramian, so all say which objective."""
    model = mlp()
    module = DistributedDataParallel(model) if wrapped else model
    x = part(rank).clone()
    if rank == 1:
        x[1, 0] = torch.nan
    engine = Engine(module, batch_dim=0)
    found = outcome(lambda: engine.backward(losses_of(module, x), lambda g: torch.ones(5)), model)
    return found, good_step(rank)


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
def test_nan_on_one_rank_is_told_by_all(two_ranks: Ranks, wrapped: bool) -> None:
    for (kind, message, clean), (found, reference) in two_ranks.run(not_finite, wrapped):
        assert (kind, clean) == ("NonFiniteGradientError", True)
        assert message.startswith("got NaN or infinity in the gradients of objectives 3, expected")
        assert_close(found, reference)


def capped(rank: int, world_size: int, empty: bool) -> tuple[Outcome, tuple[Tensor, Tensor]]:
    """A cap on rank 1 alone, which holds for what all of them exchange."""
    model = Loop()
    engine = Engine(model, batch_dim=0, memory_cap=200 if rank == 1 else None)
    x = part(rank)[:0] if empty and rank == 0 else part(rank)
    found = outcome(lambda: engine.compute_gramian(losses_of(model, x)), model)
    return found, good_step(rank)


@pytest.mark.parametrize("empty", [False, True], ids=["all have samples", "rank 0 has none"])
def test_a_cap_on_one_rank(two_ranks: Ranks, empty: bool) -> None:
    answers = two_ranks.run(capped, empty)
    said = "got memory_cap=200, expected at least 256 bytes for two gradients of a parameter"
    first, second = (found for found, _ in answers)
    assert second[0] == "MemoryCapError"
    assert second[1].startswith(said)
    assert first[0] == ("RankFailedError" if empty else "MemoryCapError")
    assert first[1].startswith(
        "got a failure on another process, expected every rank to finish the step; rank 1: "
        f"MemoryCapError: {said}"
        if empty
        else said
    )
    for _, (found, reference) in answers:
        assert_close(found, reference)


def hook_at_the_end(rank: int, world_size: int) -> tuple[Outcome, Outcome, bool]:
    """A hook that raises when all is known: the rank's own affair, if there is no wrapper."""
    model = mlp()
    engine = Engine(model, batch_dim=0)
    if rank == 1:
        model.get_parameter("0.weight").register_post_accumulate_grad_hook(trouble)
    first = outcome(lambda: engine.backward(losses_of(model, part(rank)), uneven), model)
    handle = engine.observe(lambda *_: trouble() if rank == 0 else None)
    fresh = mlp()
    second = outcome(lambda: engine.compute_gramian(losses_of(model, part(rank))), fresh)
    handle.remove()
    found, reference = good_step(rank)
    return first, second, torch.allclose(found, reference, rtol=1e-12)


def test_what_raises_when_the_step_is_complete_concerns_one_rank(two_ranks: Ranks) -> None:
    answers = two_ranks.run(hook_at_the_end)
    assert [first[0] for first, _, _ in answers] == ["", "LookupError"]
    assert [second[0] for _, second, _ in answers] == ["LookupError", ""]
    assert [goes_on for _, _, goes_on in answers] == [True, True]


def caught_and_left_out(rank: int, world_size: int) -> list[tuple[Tensor, Tensor]]:
    """A forward pass that raises on both ranks is skipped by both."""
    model = mlp()
    engine = Engine(model, batch_dim=0)
    found = []
    for number in range(3):
        x = part(rank) if number != 1 else torch.ones(2, 5).double()
        try:
            losses = losses_of(model, x)
        except RuntimeError:
            continue
        engine.compute_gramian(losses)
        found.append(good_step(rank, engine, model))
    return found


def test_a_batch_that_all_skip(two_ranks: Ranks) -> None:
    for answer in two_ranks.run(caught_and_left_out):
        assert len(answer) == 2
        for found, reference in answer:
            assert_close(found, reference)
