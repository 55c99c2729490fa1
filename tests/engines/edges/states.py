"""Edge cases of the Gramian: what happens to a model between calls, and around them."""

import copy
import io
import pickle
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from engines.autogram import Engine
from engines.errors import UnsupportedGraphError
from tests.engines.edges.autogram import data, gradient_of, losses_of, mlp, pair
from tests.engines.edges.data_parallel import pairs_in_a_child
from tests.engines.edges.record import Pairs, exact, refused
from tests.support.reference import reference_gramian, reference_jacobian


@exact("autogram", "Parameters frozen and unfrozen after the engine was made")
def frozen_later(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    engine = Engine(model, batch_dim=0)
    for trained in (False, True):
        model[0].weight.requires_grad_(trained)
        yield pair(losses_of(model, x), model, engine=engine)


@exact("autogram", "A layer or a parameter replaced after the engine was made")
def replaced_later(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    engine = Engine(model, batch_dim=0)
    yield pair(losses_of(model, x), model, engine=engine)
    model[2] = nn.Linear(5, 2, dtype=dtype)
    yield pair(losses_of(model, x), model, engine=engine)
    model[0].weight = nn.Parameter(data(dtype, 5, 4))
    yield pair(losses_of(model, x), model, engine=engine)


@exact("autogram", "A parameter frozen, or its `requires_grad` set, between forward and Gramian")
def frozen_between(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    losses = losses_of(model, data(dtype))
    model[0].weight.requires_grad_(False)
    engine = Engine(model, batch_dim=0)
    yield pair(losses, model, engine=engine)
    model[0].weight.requires_grad_(True)
    yield pair(losses, model, engine=engine)


@exact("autogram", "Gradient accumulation, `zero_grad` between forward and backward")
def accumulation(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    engine = Engine(model, batch_dim=0)
    expected = torch.zeros(sum(p.numel() for p in model.parameters()), dtype=dtype)
    for step in range(3):
        losses = losses_of(model, data(dtype))
        if step == 0:
            model.zero_grad()
        weights = torch.rand(6, dtype=dtype)
        expected += weights @ reference_jacobian(losses, model.parameters())
        yield pair(losses, model, engine=engine)
        losses.backward(weights)
    yield gradient_of(model.parameters()), expected


@exact("autogram", "`deepcopy` and pickling of model and engine, idle")
def copied_idle(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    engine = Engine(model, batch_dim=0)
    engine.compute_gramian(losses_of(model, x))
    for other, its in (copy.deepcopy((model, engine)), _pickled((model, engine))):
        yield pair(losses_of(other, x), other, engine=its)


def _pickled(pair_: tuple[nn.Module, Engine]) -> tuple[nn.Module, Engine]:
    stored = io.BytesIO()
    pickle.dump(pair_, stored)
    stored.seek(0)
    loaded: tuple[nn.Module, Engine] = pickle.load(stored)
    return loaded


@exact("autogram", "The call inside `no_grad`, `inference_mode` or autocast")
def called_inside_modes(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    losses = losses_of(model, data(dtype))
    engine, expected = Engine(model, batch_dim=0), reference_gramian(losses, model.parameters())
    for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        with mode:
            found = engine.compute_gramian(losses)
        yield found.clone(), expected


@exact(
    "autogram",
    "Activation checkpointing, non-reentrant",
    note="uses inside take the general path, and `explain` says so",
)
def checkpointed(dtype: torch.dtype) -> Pairs:
    inner, outer = mlp(dtype), nn.Linear(3, 2, dtype=dtype)
    h = checkpoint(inner, data(dtype), use_reentrant=False)
    losses = outer(torch.tanh(h)).square().sum(1)
    yield pair(losses, inner, outer)
    plans = Engine(inner, outer, batch_dim=0).explain(losses)
    reasons = {plan.reason for plan in plans if plan.path.startswith("Sequential")}
    assert any("behind hooks, as in a checkpoint" in reason for reason in reasons)


@refused(
    "autogram",
    "Activation checkpointing, re-entrant",
    UnsupportedGraphError,
    says="checkpoint with use_reentrant=False",
    why="The parameters inside are not in the graph. Exact with `use_reentrant=False`.",
)
def checkpointed_reentrant(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    h = checkpoint(model, data(dtype).requires_grad_(), use_reentrant=True)
    yield pair(h.square().sum(1), model)


@refused(
    "autogram",
    "Losses whose graph was freed by an earlier backward",
    UnsupportedGraphError,
    says="retain_graph=True",
    why="Nothing is left to read. Call the engine first, or keep the graph.",
)
def freed_graph(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    losses = losses_of(model, data(dtype))
    losses.sum().backward()
    yield pair(losses, model)


@refused(
    "autogram",
    "A parameter changed in place between forward and Gramian",
    UnsupportedGraphError,
    says="step the optimizer and change tensors only afterwards",
    why="The gradients of the old values cannot be had any more.",
)
def changed_in_place(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    losses = losses_of(model, data(dtype))
    with torch.no_grad():
        next(model[2].parameters()).add_(1)
    yield pair(losses, model)


@exact(
    "autogram",
    "`torch.compile`d model, engine on it or on what it wraps",
    note="what was compiled into one node takes the general path",
)
def compiled(dtype: torch.dtype) -> Pairs:
    model, x = mlp(dtype), data(dtype)
    expected = reference_gramian(losses_of(model, x), model.parameters())
    for backend in ("eager", "aot_eager"):
        torch.compiler.reset()
        fast: Any = torch.compile(model, backend=backend)
        losses = losses_of(fast, x)
        for module in (model, fast):
            yield Engine(module, batch_dim=0).compute_gramian(losses), expected
    torch.compiler.reset()


@exact(
    "autogram",
    "Model wrapped by `DistributedDataParallel` (one process)",
    note="the weighted backward reduces once, as ever",
)
def data_parallel(dtype: torch.dtype) -> Pairs:
    return pairs_in_a_child(dtype)


def _clamped(_: nn.Module, gradients: Any, __: Any) -> Any:
    return (gradients[0].clamp(-0.1, 0.1),)


@exact(
    "autogram",
    "Backward hooks that change gradients, on modules, activations, parameters and their views",
)
def changing_hooks(dtype: torch.dtype) -> Pairs:
    for place in ("module", "tensor", "parameter"):
        model, x = mlp(dtype), data(dtype)
        if place == "module":
            model[2].register_full_backward_hook(_clamped)
        if place == "parameter":
            next(model[2].parameters()).register_hook(lambda gradient: 3 * gradient)
        h = model[0](x)
        if place == "tensor":
            h.register_hook(lambda gradient: gradient / (gradient.norm() + 1))
        losses = model[2](torch.relu(h)).square().sum(1)
        yield pair(losses, model)
        yield pair(losses, model, batch_dim=None)
    layer = nn.Linear(4, 3, dtype=dtype)
    transposed = layer.weight.T
    transposed.register_hook(lambda gradient: 3 * gradient)
    yield pair((data(dtype) @ transposed).square().sum(1), layer)


@exact("autogram", "Backward hooks on modules that only look, full and of the old kind")
def looking_hooks(dtype: torch.dtype) -> Pairs:
    for register in ("register_full_backward_hook", "register_backward_hook"):
        model = mlp(dtype)
        getattr(model[2], register)(lambda *_: None)
        yield pair(losses_of(model, data(dtype)), model)
