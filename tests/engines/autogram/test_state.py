"""Structure tests: an engine leaves nothing behind, in a model, a graph or the memory."""

import contextlib
import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine
from engines.autogram.graph import read_graph
from engines.errors import BatchMixedError


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.LSTM(5, 3)).double()


def _losses(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Losses by way of an operation that is asked by numbers, and an activation in their graph."""
    model[1].eval()
    h = model[0](torch.randn(6, 4, dtype=torch.float64))
    return model[2](model[1](h.flip(1)).unsqueeze(0))[0].square().sum((0, 2)), h


@pytest.mark.parametrize("call", ["compute_gramian", "explain", "refused"])
def test_no_cycle_keeps_a_graph_alive(model: nn.Module, call: str) -> None:
    engine = Engine(model, batch_dim=0)
    gc.collect()
    gc.disable()
    try:
        losses, h = _losses(model)
        alive = weakref.ref(h)
        if call == "refused":
            mixed = losses - losses.mean()
            # A context that keeps the exception would keep the frame, and with it the graph.
            with contextlib.suppress(BatchMixedError):
                engine.compute_gramian(mixed)
            del mixed
        else:
            getattr(engine, call)(losses)
        del losses, h
        assert alive() is None
    finally:
        gc.enable()


def _hooks(module: nn.Module) -> dict[str, int]:
    """Number of hooks of every kind on a module and all below it."""
    return {
        f"{path}.{name}": len(value)
        for path, child in module.named_modules()
        for name, value in vars(child).items()
        if "hook" in name and isinstance(value, dict)
    }


def test_a_model_has_no_hook_that_it_had_not_before(model: nn.Module) -> None:
    model[0].register_forward_hook(lambda *_: None)
    before = _hooks(model)
    attributes = {path: set(vars(child)) for path, child in model.named_modules()}
    engine = Engine(model, batch_dim=0)
    losses, _ = _losses(model)
    engine.compute_gramian(losses)
    assert _hooks(model) == before
    assert {path: set(vars(child)) for path, child in model.named_modules()} == attributes
    assert all(p._backward_hooks is None and p.grad is None for p in model.parameters())


def test_a_graph_has_no_hook_afterwards(model: nn.Module) -> None:
    losses, _ = _losses(model)
    Engine(model, batch_dim=0).compute_gramian(losses)
    for node in read_graph(losses, list(model.parameters())).nodes:
        for register in (node.register_prehook, node.register_hook):
            handle = register(lambda *_: None)
            others = handle.hooks_dict_ref()
            assert others is not None
            assert len(others) == 1
            handle.remove()


def test_random_numbers_and_modes_are_left_alone(model: nn.Module) -> None:
    losses, _ = _losses(model)
    state = torch.get_rng_state()
    Engine(model, batch_dim=0).compute_gramian(losses)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")
