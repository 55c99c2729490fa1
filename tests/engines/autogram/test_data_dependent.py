"""Reference tests where the graph looks the same and the samples lie elsewhere at the next call."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.autogram import Engine
from engines.errors import BatchMixedError
from tests.support.reference import reference_gramian
from tests.support.tolerances import assert_close

Losses = Callable[[nn.Module, Tensor, object], Tensor]


def _draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _exact_at_every_call(
    losses: Losses, shape: tuple[int, ...], variants: Sequence[object], outputs: int = 4
) -> None:
    """One engine, one layer, other data and another variant at every call."""
    torch.manual_seed(0)
    layer = nn.Linear(shape[-1], outputs).double()
    engine = Engine(layer, batch_dim=0)
    for seed, variant in enumerate(variants):
        found = losses(layer, _draw(*shape, seed=seed), variant)
        expected = reference_gramian(found, layer.parameters())
        assert_close(engine.compute_gramian(found), expected)


def _refused_at_every_call(
    losses: Losses, shape: tuple[int, ...], variants: Sequence[object]
) -> None:
    """Mixing is found whether or not it acts on this call's data."""
    torch.manual_seed(0)
    layer = nn.Linear(shape[-1], 4).double()
    engine = Engine(layer, batch_dim=0)
    for seed, variant in enumerate(variants):
        with pytest.raises(BatchMixedError):
            engine.compute_gramian(losses(layer, _draw(*shape, seed=seed), variant))


def test_hinge_on_a_batch_mean_before_and_after_it_opens() -> None:
    def losses(layer: nn.Module, x: Tensor, shift: object) -> Tensor:
        y = layer(x).sum(1)
        return y.square() + F.relu(y.mean() + shift)

    _refused_at_every_call(losses, (6, 3), [-100.0, 100.0, -100.0])


def test_mixing_behind_a_gate_that_is_shut() -> None:
    def losses(layer: nn.Module, x: Tensor, gate: object) -> Tensor:
        y = layer(x).square().sum(1)
        return y + gate * y.mean()

    _refused_at_every_call(losses, (6, 3), [0.0, 1.0])


def test_samples_in_another_order() -> None:
    def losses(layer: nn.Module, x: Tensor, order: object) -> Tensor:
        return (layer(x).sum(1)[torch.tensor(order)] - torch.arange(4.0)).square()

    _exact_at_every_call(losses, (4, 3), [[0, 1, 2, 3], [2, 0, 3, 1]])


def test_sorted_losses() -> None:
    def losses(layer: nn.Module, x: Tensor, _: object) -> Tensor:
        return layer(x).sum(1).sort().values.square()

    _exact_at_every_call(losses, (2, 3), [None] * 6)
    _exact_at_every_call(losses, (7, 3), [None] * 3)


@pytest.mark.parametrize("scatter", ["index_add", "split"])
def test_rows_of_a_graph_batch(scatter: str) -> None:
    def losses(layer: nn.Module, x: Tensor, sizes: object) -> Tensor:
        y = layer(x).tanh().sum(1)
        if scatter == "split":
            return torch.stack([part.sum() for part in y.split(sizes)])
        owner = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
        return torch.zeros(3, dtype=y.dtype).index_add(0, owner, y).square()

    _exact_at_every_call(losses, (9, 3), [[3, 3, 3], [5, 3, 1], [4, 3, 2]])


def test_sum_over_other_dimensions_of_a_square() -> None:
    def losses(layer: nn.Module, x: Tensor, dims: object) -> Tensor:
        return layer(x).tanh().sum(dims)

    _exact_at_every_call(losses, (4, 4, 3), [(1, 2), (0, 2)])


def test_time_first_after_batch_first() -> None:
    def losses(layer: nn.Module, x: Tensor, time_first: object) -> Tensor:
        x = x.transpose(0, 1).contiguous() if time_first else x
        return layer(x).tanh().sum((0, 2) if time_first else (1, 2))

    _exact_at_every_call(losses, (4, 6, 3), [False, True])


def test_experts_with_other_samples() -> None:
    def losses(layer: nn.Module, x: Tensor, chosen: object) -> Tensor:
        index = torch.tensor(chosen)
        rest = torch.tensor([row for row in range(6) if row not in chosen])
        y = torch.zeros(6, 4, dtype=x.dtype).index_copy(0, index, layer(x[index]))
        return y.index_copy(0, rest, layer(x[rest]).tanh()).sum(1)

    _exact_at_every_call(losses, (6, 3), [[0, 1, 2], [1, 3, 5], [0, 4, 5], [2, 3, 4]])


def test_in_batch_negatives_that_become_active() -> None:
    def losses(layer: nn.Module, x: Tensor, margin: object) -> Tensor:
        y = layer(x)
        distance = torch.cdist(y, y) + 1e3 * torch.eye(6, dtype=x.dtype)
        return y.square().sum(1) + F.relu(margin - distance.min(1).values)

    _refused_at_every_call(losses, (6, 4), [0.0, 5.0])


def test_objectives_of_another_dimension() -> None:
    layer = nn.Linear(3, 4).double()
    for batch_dim, shape in [(0, (4, 3)), (1, (3, 4)), (-1, (2, 4))]:
        y = layer(_draw(4, 3)).tanh()
        losses = y[:, : shape[1]] if batch_dim == 0 else y.T[: shape[0]]
        found = Engine(layer, batch_dim=batch_dim).compute_gramian(losses)
        assert_close(found, reference_gramian(losses, layer.parameters()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("strength", [0.5, 0.1, 0.01])
def test_half_precision_does_not_hide_mixing(dtype: torch.dtype, strength: float) -> None:
    # The matrix sums over samples and no operation reads the layer's rows by sample: exact.
    for seed in range(5):
        torch.manual_seed(seed)
        layer = nn.Linear(8, 8).to(dtype)
        mix = torch.eye(4)
        mix[1, 0] = strength
        losses = (mix @ layer(torch.randn(4, 8).to(dtype)).float()).square().sum(1)
        # The gradients of the parameters are made in half precision, row by row in both.
        found = Engine(layer, batch_dim=0).compute_gramian(losses)
        expected = reference_gramian(losses, layer.parameters()).float()
        assert_close(found, expected, dtype)


def test_small_gradients_beside_a_half_precision_layer() -> None:
    torch.manual_seed(1)
    wide, half = nn.Linear(8, 8), nn.Linear(8, 1).half()
    x = torch.randn(4, 8)
    y = wide(x)
    for scale in (1.0, 1e-7, 1e-9):
        own = scale * y.square().sum(1)
        losses = own + 0 * half(x.half()).squeeze(1).float()
        found = Engine(wide, half, batch_dim=0).compute_gramian(losses)
        assert_close(found, reference_gramian(losses, wide.parameters()), torch.float32)
        centred = scale * (y - y.mean(0)).square().sum(1)
        with pytest.raises(BatchMixedError, match="Mean over the batch"):
            Engine(wide, half, batch_dim=0).compute_gramian(centred)


HOOKS: dict[str, Callable[[Tensor], Tensor | None]] = {
    "clamps": lambda gradient: gradient.clamp(-0.1, 0.1),
    "divides by the norm of the batch": lambda gradient: gradient / (gradient.norm() + 1),
    "acts on large gradients only": lambda g: g / g.norm() if g.norm() > 0.5 else None,
    "looks": lambda gradient: gradient.clone() if gradient.ndim == 3 else None,
    "ignores": lambda gradient: None,
}


@pytest.mark.parametrize("where", ["tensor", "prehook", "hook"])
@pytest.mark.parametrize("hook", HOOKS)
def test_hook_on_an_activation(hook: str, where: str) -> None:
    torch.manual_seed(2)
    first, second = nn.Linear(4, 5).double(), nn.Linear(5, 3).double()
    h = first(_draw(6, 4)).tanh()

    def on_node(gradients: tuple[Tensor, ...], *_: object) -> tuple[Tensor, ...] | None:
        changed = HOOKS[hook](gradients[0])
        return None if changed is None else (changed, *gradients[1:])

    if where == "tensor":
        h.register_hook(HOOKS[hook])
    elif where == "prehook":
        h.grad_fn.register_prehook(on_node)
    else:
        h.grad_fn.register_hook(on_node)
    losses = second(h).square().sum(1)
    found = Engine(first, second, batch_dim=0).compute_gramian(losses)
    expected = reference_gramian(losses, [*first.parameters(), *second.parameters()])
    assert_close(found, expected)


def test_a_hook_that_keeps_gradients_keeps_tensors() -> None:
    layer, kept = nn.Linear(4, 5).double(), []
    h = layer(_draw(6, 4))
    h.register_hook(kept.append)
    losses = h.square().sum(1)
    found = Engine(layer, batch_dim=0).compute_gramian(losses)
    assert_close(found, reference_gramian(losses, layer.parameters()))
    assert [float(gradient.norm()) > 0 for gradient in kept].count(False) == 1


def test_retained_gradients_do_not_matter() -> None:
    layer = nn.Linear(4, 5).double()
    h = layer(_draw(6, 4))
    h.retain_grad()
    losses = h.square().sum(1)
    found = Engine(layer, batch_dim=0).compute_gramian(losses)
    assert_close(found, reference_gramian(losses, layer.parameters()))
    assert all(parameter.grad is None for parameter in layer.parameters())
