"""Reference tests on random models: the engine against one autograd call per loss."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engines.autogram import Engine
from tests.support.random_layers import LAYERS, MIXING, TABLES
from tests.support.random_models import RandomModel, Step, random_models
from tests.support.reference import reference_gramian
from tests.support.tolerances import assert_close

# The same examples on every run; to look for new ones, set `derandomize=False`.
fixed = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def expected_gramian(losses: Tensor, module: nn.Module) -> Tensor:
    """The reference, which an empty batch leaves without a row to differentiate."""
    if losses.numel() == 0:
        return losses.new_zeros((*losses.shape, *reversed(losses.shape)))
    return reference_gramian(losses, module.parameters())


def check_float64(model: RandomModel) -> None:
    module = model.module(torch.float64)
    losses = model.objectives(module, model.inputs(torch.float64))
    drawn = torch.get_rng_state()
    found = Engine(module, batch_dim=model.batch_dim).compute_gramian(losses)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert found.dtype == torch.float64
    assert_close(found, expected_gramian(losses, module))


def check_float32(model: RandomModel) -> None:
    module, x = model.module(torch.float32), model.inputs(torch.float32)
    found = Engine(module, batch_dim=model.batch_dim).compute_gramian(model.objectives(module, x))
    exact, wide = model.module(torch.float64), model.inputs(torch.float64)
    expected = expected_gramian(model.objectives(exact, wide), exact)
    assert found.dtype == torch.float32
    assert_close(found, expected, torch.float32)


@fixed
@given(model=random_models())
def test_reference_in_float64(model: RandomModel) -> None:
    check_float64(model)


@fixed
@given(model=random_models(random=False))
def test_reference_in_float32_of_the_float64_model(model: RandomModel) -> None:
    check_float32(model)


@pytest.mark.parametrize("kind", [*TABLES, *LAYERS, *MIXING])
@settings(fixed, max_examples=12)
@given(data=st.data())
def test_reference_of_every_kind_of_layer(kind: str, data: st.DataObject) -> None:
    check_float64(data.draw(random_models(kind=kind), label="model"))


@settings(fixed, max_examples=50)
@given(model=random_models())
def test_structure_of_a_description(model: RandomModel) -> None:
    # What a failure prints can be pasted and run.
    assert eval(repr(model), {"RandomModel": RandomModel, "Step": Step}) == model
