"""Reference tests of fused steps on random models, with plans drawn at random."""

import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.autogram import Engine
from engines.errors import MemoryCapError
from tests.support.plans import force
from tests.support.random_models import RandomModel, random_models
from tests.support.steps import assert_same_gradients, spread
from tests.support.tolerances import assert_close

# The same examples on every run; to look for new ones, set `derandomize=False`.
fixed = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def check_step(
    model: RandomModel, dtype: torch.dtype, seed: int | None, memory_cap: int | None = None
) -> None:
    """Compare a fused step with its two-pass form on one graph."""
    module = model.module(dtype)
    losses = model.objectives(module, model.inputs(dtype))
    if losses.numel() == 0:
        return
    gramian = Engine(module, batch_dim=model.batch_dim).compute_gramian(losses)
    weights = spread(gramian).to(losses.dtype)
    module.zero_grad()
    losses.backward(weights, retain_graph=True)
    expected = [p.grad for p in module.parameters()]
    module.zero_grad()
    engine = Engine(module, batch_dim=model.batch_dim, memory_cap=memory_cap)
    draw = random.Random(seed)
    with pytest.MonkeyPatch.context() as patched:
        if seed is not None:
            force(patched, lambda _, ways: draw.choice(ways))
        try:
            step = engine.backward(losses, lambda _: weights)
        except MemoryCapError:
            assert memory_cap is not None
            assert all(p.grad is None for p in module.parameters())
            return
    assert_close(step.gramian, gramian, dtype)
    # Below a normalisation of few entries, float32 gradients are mostly what cancelled.
    cancelled = 1.0 if dtype == torch.float32 else 1e-3
    assert_same_gradients([p.grad for p in module.parameters()], expected, dtype, cancelled)


@fixed
@given(model=random_models())
def test_a_step_as_planned(model: RandomModel) -> None:
    check_step(model, torch.float64, None)


@fixed
@given(model=random_models(), seed=st.integers(0, 10**6))
def test_a_step_with_a_random_plan(model: RandomModel, seed: int) -> None:
    check_step(model, torch.float64, seed)


@fixed
@given(model=random_models(), seed=st.integers(0, 10**6))
def test_a_step_with_a_random_plan_in_float32(model: RandomModel, seed: int) -> None:
    check_step(model, torch.float32, seed)


@settings(fixed, max_examples=150)
@given(model=random_models(), cap=st.integers(0, 20_000))
def test_a_step_under_a_cap(model: RandomModel, cap: int) -> None:
    check_step(model, torch.float64, None, cap)
