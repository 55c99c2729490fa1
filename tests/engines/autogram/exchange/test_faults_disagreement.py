"""Ranks that do not take the same step, or make other weights: told before anything is wrong."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engines.aggregation import RandomWeighting
from engines.autogram import Engine
from tests.engines.autogram.exchange.faulty import (
    Outcome,
    good_step,
    losses_of,
    mlp,
    outcome,
    part,
    uneven,
)
from tests.support.ranks import Ranks
from tests.support.reference import reference_jacobian
from tests.support.tolerances import assert_close


def another_width(other: bool) -> Outcome:
    return stepped(mlp(7 if other else 6))


def another_parameter(other: bool) -> Outcome:
    return stepped(mlp()[:2] if other else mlp())


def a_frozen_parameter(other: bool) -> Outcome:
    model = mlp()
    model[2].bias.requires_grad_(not other)
    return stepped(model)


def another_dimension(other: bool) -> Outcome:
    return stepped(mlp(), batch_dim=None if other else 0)


def another_dtype(other: bool) -> Outcome:
    return stepped(mlp(dtype=torch.float32 if other else torch.float64))


def losses_of_another_shape(other: bool) -> Outcome:
    model = mlp()
    losses = model(part(0)).square()
    engine = Engine(model, batch_dim=0)
    return outcome(lambda: engine.compute_gramian(losses if other else losses[:, :2]), model)


def another_call(other: bool) -> Outcome:
    model = mlp()
    engine, losses = Engine(model, batch_dim=0), losses_of(model, part(0))
    if other:
        return outcome(lambda: engine.compute_gramian(losses), model)
    return outcome(lambda: engine.backward(losses, uneven), model)


def one_outside(other: bool) -> Outcome:
    """A leaf that nobody tracks, on one rank only."""
    model = mlp()
    scale = nn.Parameter(torch.ones(3).double(), requires_grad=other)
    engine = Engine(model, batch_dim=0)
    losses = (model(part(0)) * scale).square().sum(1)
    return outcome(lambda: engine.backward(losses, uneven), model)


def stepped(*modules: nn.Module, batch_dim: int | None = 0) -> Outcome:
    """A step of modules in turn."""
    out = part(0).to(next(modules[0].parameters()).dtype)
    for module in modules:
        out = module(out)
    engine = Engine(*modules, batch_dim=batch_dim)
    return outcome(lambda: engine.backward(out.square().sum(1), uneven), *modules)


TOGETHER: dict[Callable[[bool], Outcome], str] = {
    another_width: "trains 0.weight (7, 4) float64 where rank 0 has 0.weight (6, 4) float64",
    another_parameter: "trains nothing more (2) where rank 0 has 2.weight (3, 6) float64",
    a_frozen_parameter: "trains nothing more (3) where rank 0 has 2.bias (3,) float64",
    another_dimension: "calls backward with batch_dim=None where rank 0 has backward with batch_",
    another_dtype: "adds up in torch.float32 on cpu where rank 0 has torch.float64 on cpu",
    losses_of_another_shape: "has losses of shape, beside the samples, (3,) where rank 0 has (2,)",
    another_call: "calls compute_gramian with batch_dim=0 where rank 0 has backward with batch_",
    one_outside: "reaches outside the engine's modules a parameter (3,) float64 where rank 0 has",
}


def disagreeing(
    rank: int, world_size: int, step: Callable[[bool], Outcome]
) -> tuple[Outcome, tuple[Tensor, Tensor]]:
    found = step(rank == 1)
    return found, good_step(rank)


@pytest.mark.parametrize("step", TOGETHER, ids=lambda step: step.__name__)
def test_ranks_that_disagree_are_told_so(two_ranks: Ranks, step: Callable[[bool], Outcome]) -> None:
    for (kind, message, clean), (found, reference) in two_ranks.run(disagreeing, step):
        assert (kind, clean) == ("RanksDisagreeError", True)
        assert f": rank 1 {TOGETHER[step]}" in message
        assert_close(found, reference)


class Moody(torch.autograd.Function):
    """Passes a gradient on, or none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gives: bool) -> Tensor:
        ctx.gives = gives
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0] if ctx.gives else None, None


def moody(rank: int, world_size: int, batch_dim: int | None) -> list[tuple[Tensor, Tensor]]:
    """Rank 1 alone gives no gradient, in its backward pass; rank 2 has no samples."""
    first, second = mlp(), mlp()
    engine = Engine(first, second, batch_dim=batch_dim)
    parts = [part(other, (2, 2, 0, 2)) for other in range(4)]

    def losses(other: int) -> Tensor:
        passed = Moody.apply(second(parts[other]), other != 1)
        assert isinstance(passed, Tensor)
        return (first(parts[other]) + passed).square().sum(1)

    step = engine.backward(losses(rank), uneven)
    parameters = [*first.parameters(), *second.parameters()]
    found = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    jacobian = reference_jacobian(torch.cat([losses(other) for other in range(4)]), parameters)
    gramian = jacobian @ jacobian.T
    return [(step.gramian, gramian), (found, uneven(gramian) @ jacobian)]


@pytest.mark.parametrize("batch_dim", [0, None])
def test_reference_a_backward_that_gives_no_gradient_on_one_rank(
    four_ranks: Ranks, batch_dim: int | None
) -> None:
    for answer in four_ranks.run(moody, batch_dim):
        for found, reference in answer:
            assert_close(found, reference)


def weighed_apart(rank: int, world_size: int, how: str) -> tuple[Outcome, tuple[Tensor, Tensor]]:
    """Weights that differ by rank, though the Gramian does not."""
    generator = torch.Generator().manual_seed(rank)
    ways: dict[str, Any] = {
        "by rank": lambda gramian: torch.full((5,), 1.0 + rank),
        "by seed": lambda gramian: torch.rand(5, generator=generator),
        "by dtype": lambda gramian: torch.ones(5, dtype=(torch.float32, torch.float64)[rank]),
    }
    model = mlp()
    ddp = DistributedDataParallel(model)
    engine = Engine(ddp, batch_dim=0)
    found = outcome(lambda: engine.backward(losses_of(ddp, part(rank)), ways[how]), model)
    return found, good_step(rank, engine, ddp)


@pytest.mark.parametrize("how", ["by rank", "by seed", "by dtype"])
def test_weights_that_differ_are_refused(two_ranks: Ranks, how: str) -> None:
    for (kind, message, clean), (found, reference) in two_ranks.run(weighed_apart, how):
        assert (kind, clean) == ("RanksDisagreeError", True)
        assert message.startswith("got other weights on rank 1 than on rank 0 for the same Gramian")
        assert_close(found, reference)


def drawn(rank: int, world_size: int) -> tuple[list[Tensor], bool]:
    """A random method draws what rank 0 would; the state of rank 1 stays its own."""
    model = mlp()
    engine, found = Engine(model, batch_dim=0), []
    torch.manual_seed(rank)
    before = torch.get_rng_state()
    for _ in range(2):
        found.append(engine.backward(losses_of(model, part(rank)), RandomWeighting()).weights)
    return found, torch.equal(before, torch.get_rng_state())


def test_random_weights_are_those_of_rank_0(two_ranks: Ranks) -> None:
    answers = two_ranks.run(drawn)
    torch.manual_seed(0)
    for first, second in zip(*(found for found, _ in answers), strict=True):
        expected = RandomWeighting()(torch.eye(5).double())
        assert torch.equal(first, expected)
        assert torch.equal(second, expected)
    assert [untouched for _, untouched in answers] == [False, True]
