"""Reference tests of random models over two ranks, against autograd."""

from dataclasses import replace

import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engines.autogram import Engine
from tests.support.random_models import RandomModel, random_models
from tests.support.ranks import Ranks
from tests.support.reference import reference_gramian
from tests.support.spread import (
    Outcome,
    assert_same_bits,
    assert_same_outcome,
    outcome_of,
    steady,
    travelling,
)
from tests.support.steps import spread

WAYS = ["", "gradients", "factors 0", "factors 1", "ring"]
# The same examples on every run; to look for new ones, set `derandomize=False`.
fixed = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # looking for smaller examples would start new processes for each
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def _objectives(model: RandomModel, module: nn.Module, first: int, rank: int) -> Tensor:
    """Losses of the first samples, or of the rest."""
    size = (first, model.batch - first)[rank]
    start = (0, first)[rank]
    x = model.inputs(torch.float64)[start : start + size]
    own = replace(model, batch=size, silent=model.silent and rank == 0)
    torch.manual_seed(rank)
    losses = own.objectives(module, x)
    # In two dimensions ranks with other numbers of samples would have other shapes.
    return losses.flatten() if model.batch_dim is None else losses


def stepped(
    rank: int, world_size: int, model: RandomModel, first: int, way: str, cap: int | None
) -> Outcome:
    """A step of one rank."""
    with steady(), travelling(way):
        module = model.module(torch.float64)
        losses = _objectives(model, module, first, rank)
        engine = Engine(module, batch_dim=model.batch_dim, memory_cap=cap)
        return outcome_of(engine.backward(losses, spread), module)


def _expected(model: RandomModel, first: int) -> Outcome:
    """The same with the losses of both in a row."""
    module = model.module(torch.float64)
    parts = [_objectives(model, module, first, rank) for rank in range(2)]
    losses = torch.cat(parts, model.batch_dim or 0)
    gramian = reference_gramian(losses, module.parameters()) if losses.numel() else None
    if gramian is None:
        gramian = torch.zeros(*losses.shape, *reversed(losses.shape), dtype=torch.float64)
    weights = spread(gramian)
    losses.backward(weights)
    return Outcome(gramian, weights, [p.grad for p in module.parameters()])


@fixed
@given(
    model=random_models(),
    share=st.floats(0, 1),
    way=st.sampled_from(WAYS),
)
def test_random_models(two_ranks: Ranks, model: RandomModel, share: float, way: str) -> None:
    assume(model.batch > 1)  # torch has layers that take no empty batch
    first = 1 + round(share * (model.batch - 2))
    least = min(first, model.batch - first)
    assume(least > 1 or all("batch norm" not in step.kind for step in model.steps))
    outcomes = two_ranks.run(stepped, model, first, way, None)
    assert_same_bits(outcomes)
    assert_same_outcome(outcomes[0], _expected(model, first))
