"""Edge cases of the Jacobian."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engines.aggregation import Mean
from engines.autojac import backward, jac, jac_to_grad, mtl_backward
from engines.errors import UnsupportedGraphError
from tests.engines.edges.autogram import data, gradient_of, losses_of, mlp
from tests.engines.edges.record import Pairs, exact, refused
from tests.support.reference import reference_jacobian


def _rows(model: nn.Module) -> Tensor:
    """The Jacobian that a call left on the parameters, shape [m, n]."""
    left = [getattr(p, "jac", None) for p in model.parameters()]
    jacobians = [jacobian for jacobian in left if jacobian is not None]
    return torch.cat([j.flatten(1) for j in jacobians], 1)


@refused(
    "autojac",
    "A loss without a graph",
    UnsupportedGraphError,
    says="without a graph at position 1",
    why="There is nothing to differentiate.",
)
def loss_without_graph(dtype: torch.dtype) -> Pairs:
    losses = losses_of(mlp(dtype), data(dtype))
    backward([losses[0], losses[1].detach()], Mean())
    return ()


@refused(
    "autojac",
    "The same loss twice",
    ValueError,
    says="twice",
    why="A repeated objective is a slip more often than a wish; multiply by 1 to insist.",
)
def loss_twice(dtype: torch.dtype) -> Pairs:
    losses = losses_of(mlp(dtype), data(dtype))
    backward([losses, losses], Mean())
    return ()


@exact("autojac", "An input that no loss reaches", note="zeros")
def unused_input(dtype: torch.dtype) -> Pairs:
    model, unused = mlp(dtype), nn.Parameter(torch.ones(2, dtype=dtype))
    losses = losses_of(model, data(dtype))
    expected = reference_jacobian(losses, model.parameters())
    found = jac(losses, [unused, *model.parameters()])
    yield found[0], torch.zeros(6, 2, dtype=dtype)
    rest = torch.cat([jacobian.flatten(1) for jacobian in found[1:]], 1)
    yield rest, expected


@exact("autojac", "`jac_to_grad(model.parameters(), …)` with frozen and unused parameters")
def jac_to_grad_of_all_parameters(dtype: torch.dtype) -> Pairs:
    model = nn.Sequential(*mlp(dtype), nn.Linear(3, 3, dtype=dtype))
    model[0].bias.requires_grad_(False)
    losses = model[:3](data(dtype)).square().sum(1)
    expected = reference_jacobian(losses, model[:3].parameters()).mean(0)
    backward(losses)
    jac_to_grad(model.parameters(), Mean())
    yield gradient_of(model.parameters()), expected


class _Looking(torch.autograd.Function):
    """Identity whose backward looks at values, which vmap cannot."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * (2.0 if gradient.sum().item() > -1e9 else 1.0)


@contextmanager
def _one_warning(name: str) -> Iterator[None]:
    """Exactly one warning, which names the operation."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [name in str(w.message) for w in caught if "one by one" in str(w.message)] == [True]


@exact(
    "autojac",
    "`.item()` in a custom backward",
    note="row by row after one warning that names the operation",
)
def looks_at_values(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    losses = _Looking.apply(model[:2](data(dtype))).square().sum(1)
    expected = reference_jacobian(losses, model[0].parameters())
    with _one_warning("_LookingBackward"):
        backward(losses)
    yield _rows(model), expected


@exact("autojac", "Autocast and LayerNorm", dtypes=(torch.bfloat16,))
def autocast_layer_norm(dtype: torch.dtype) -> Pairs:
    model, x = nn.Sequential(*mlp(torch.float32), nn.LayerNorm(3)), data(torch.float32)
    weights = torch.tensor([1.0, 2.0, -1.0])
    with torch.autocast("cpu", dtype):
        losses = (model(x).float() * weights).sum(1)
    backward(losses)
    yield _rows(model), reference_jacobian((model(x) * weights).sum(1), model.parameters())


@exact("autojac", "`torch.compile`d model")
def compiled_jacobian(dtype: torch.dtype) -> Pairs:
    torch.compiler.reset()
    model, x = mlp(dtype), data(dtype)
    expected = reference_jacobian(losses_of(model, x), model.parameters())
    fast: Any = torch.compile(model, backend="aot_eager")
    backward(losses_of(fast, x))
    torch.compiler.reset()
    yield _rows(model), expected


@exact("autojac", "Activation checkpointing, non-reentrant")
def checkpointed_jacobian(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    losses = checkpoint(model, data(dtype), use_reentrant=False).square().sum(1)
    expected = reference_jacobian(losses, model.parameters())
    backward(losses)
    yield _rows(model), expected


@refused(
    "autojac",
    "Activation checkpointing, re-entrant",
    UnsupportedGraphError,
    says="checkpoint with use_reentrant=False",
    why="`torch.autograd.grad` cannot pass it.",
)
def checkpointed_reentrant_jacobian(dtype: torch.dtype) -> Pairs:
    losses = checkpoint(mlp(dtype), data(dtype).requires_grad_(), use_reentrant=True)
    backward(losses.square().sum(1), Mean())
    return ()


@exact("autojac", "`mtl_backward` with a loss that ignores the features", note="a row of zeros")
def loss_ignores_features(dtype: torch.dtype) -> Pairs:
    trunk, heads = nn.Linear(4, 3, dtype=dtype), nn.ModuleList([mlp(dtype, 1), mlp(dtype, 1)])
    x = data(dtype)
    features = torch.tanh(trunk(x))
    padded = torch.cat([features, torch.zeros(6, 1, dtype=dtype)], 1)
    losses = [heads[0](padded).square().mean(), heads[1](x).square().mean()]
    expected = reference_jacobian(torch.stack(losses), trunk.parameters())
    mtl_backward(losses, features=features)
    yield _rows(trunk), expected
    yield _rows(trunk)[1], torch.zeros(15, dtype=dtype)


@refused(
    "autojac",
    "`mtl_backward` with a penalty on shared weights in one loss",
    ValueError,
    says="tasks_params",
    why="The weights would be shared and a task's own. Exact with `tasks_params` given.",
)
def penalty_on_shared_weights(dtype: torch.dtype) -> Pairs:
    trunk, head = nn.Linear(4, 3, dtype=dtype), nn.Linear(3, 1, dtype=dtype)
    features = torch.tanh(trunk(data(dtype)))
    first = head(features).square().mean() + trunk.weight.square().sum()
    mtl_backward([first, features.square().mean()], features, Mean())
    return ()


@exact("autojac", "Hooks on parameters")
def parameter_hooks(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    next(model.parameters()).register_hook(lambda gradient: 3 * gradient)
    losses = losses_of(model, data(dtype))
    expected = reference_jacobian(losses, model.parameters())
    backward(losses)
    yield _rows(model), expected


@exact("autojac", "Parameters of several dtypes", dtypes=(torch.float32,))
def mixed_dtypes(dtype: torch.dtype) -> Pairs:
    first, second = nn.Linear(4, 5, dtype=dtype), nn.Linear(5, 3, dtype=torch.float64)
    losses = second(first(data(dtype)).double()).square().sum(1)
    parameters = [*first.parameters(), *second.parameters()]
    expected = reference_jacobian(losses, parameters).mean(0)
    backward(losses)
    jac_to_grad(parameters, Mean())
    yield torch.cat([gradient_of([p]).double() for p in parameters]), expected


@exact(
    "autojac",
    "`retain_grad` on an activation",
    note="its own `.grad` can be read with `parallel_chunk_size=1`",
)
def retained(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    h = model[0](data(dtype))
    h.retain_grad()
    losses = model[2](torch.relu(h)).square().sum(1)
    expected = reference_jacobian(losses, model.parameters())
    (by_loss,) = torch.autograd.grad(losses.sum(), h, retain_graph=True)
    h.grad = None
    backward(losses, parallel_chunk_size=1)
    yield _rows(model), expected
    assert h.grad is not None
    yield h.grad, by_loss


@exact("autojac", "`modules` and `batch_dim`: one loss per sample, `[m, k]` losses")
def batched_losses(dtype: torch.dtype) -> Pairs:
    model = mlp(dtype)
    for losses in (losses_of(model, data(dtype)), model(data(dtype)).square()):
        expected = reference_jacobian(losses, model.parameters())
        backward(losses, modules=model, batch_dim=0)
        yield _rows(model), expected
        for parameter in model.parameters():
            delattr(parameter, "jac")


@exact("autojac", "`modules` and `batch_dim`: leaves outside the modules", note="row by row")
def batched_losses_and_other_leaves(dtype: torch.dtype) -> Pairs:
    model, scale = mlp(dtype), nn.Parameter(torch.ones(4, dtype=dtype))
    losses = losses_of(model, data(dtype) * scale)
    expected = reference_jacobian(losses, [scale, *model.parameters()])
    backward(losses, modules=model, batch_dim=0)
    yield torch.cat([_rows(nn.ParameterList([scale])), _rows(model)], 1), expected
