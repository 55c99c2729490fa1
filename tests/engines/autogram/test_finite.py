"""Refusal tests: gradients that are not finite end before any `.grad` is touched."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine
from engines.errors import NonFiniteGradientError
from tests.support.steps import (
    Scene,
    assert_same_gradients,
    assert_same_step,
    both_modes,
    draw,
    spread,
)


def _linear(inputs: int = 4, outputs: int = 3, dtype: torch.dtype = torch.float64) -> nn.Linear:
    return nn.Linear(inputs, outputs).to(dtype)


def _nan_loss() -> Scene:
    layer = _linear()
    return Scene((layer,), layer(draw(6, 4)).sum(1) * torch.tensor([1, 1, torch.nan, 1, 1, 1]))


def _infinite_input() -> Scene:
    layer = _linear()
    x = draw(6, 4)
    x[2, 1] = torch.inf
    return Scene((layer,), layer(x).sum(1))


def _nan_inside() -> Scene:
    # The loss is finite: the square root's derivative at 0 is not.
    layer = _linear()
    x = draw(6, 4)
    x[2] = 0
    nn.init.zeros_(layer.bias)
    return Scene((layer,), layer(x).square().sum(1).sqrt())


def _outside() -> Scene:
    inside, outside = _linear(), nn.Parameter(torch.zeros(3, dtype=torch.float64))
    losses = inside(draw(6, 4)).sum(1) + outside.abs().sum().sqrt()
    return Scene((inside,), losses, (outside,))


def _outside_hooked() -> Scene:
    scene = _outside()
    scene.leaves[0].register_hook(lambda gradient: 2 * gradient)
    return scene


def _outside_sparse() -> Scene:
    inside, table = _linear(), nn.Embedding(5, 3, sparse=True).double()
    factors = torch.tensor([1.0, 1, 1, torch.inf, 1, 1], dtype=torch.float64)
    h = table(torch.tensor([0, 1, 2, 3, 4, 0])) * factors[:, None]
    return Scene((inside,), inside(draw(6, 4)).sum(1) + h.sum(1), (table.weight,))


def _complex_outside() -> Scene:
    inside = _linear()
    outside = nn.Parameter(torch.zeros(3, dtype=torch.complex128))
    losses = inside(draw(6, 4)).sum(1) + (outside * complex(0, torch.inf)).real.sum()
    return Scene((inside,), losses, (outside,))


def _on_the_general_path() -> Scene:
    layer = nn.PReLU(3).double()
    x = draw(6, 3)
    x[1, 2] = -torch.inf
    return Scene((layer,), layer(x).sum(1))


def _table_without_a_rule() -> Scene:
    bag = nn.EmbeddingBag(5, 3, mode="sum").double()
    factors = torch.tensor([1.0, 1, torch.nan], dtype=torch.float64)
    return Scene((bag,), bag(torch.randint(5, (3, 2))).sum(1) * factors)


def _squares_beyond_float32() -> Scene:
    layer = _linear(dtype=torch.float32)
    return Scene((layer,), layer(torch.randn(6, 4)).sum(1) * 1e30)


SCENES: dict[str, Callable[[], Scene]] = {
    "NaN in one loss": _nan_loss,
    "infinite input": _infinite_input,
    "NaN on the way": _nan_inside,
    "parameter outside": _outside,
    "hooked parameter outside": _outside_hooked,
    "sparse parameter outside": _outside_sparse,
    "complex parameter outside": _complex_outside,
    "general path": _on_the_general_path,
    "table without a rule": _table_without_a_rule,
    "squares beyond float32": _squares_beyond_float32,
}


def _ones(gramian: Tensor) -> Tensor:
    return torch.ones_like(gramian.diagonal())


def _assert_untouched(
    scene: Scene, weights: Callable[[Tensor], Tensor], batch_dim: int | None = 0
) -> str:
    """Step with and without earlier gradients; returns what the error says."""
    engine = Engine(*scene.modules, batch_dim=batch_dim)
    with pytest.raises(NonFiniteGradientError) as caught:
        engine.backward(scene.losses, weights, retain_graph=True)
    assert all(leaf.grad is None for leaf in scene.everything)
    for leaf in scene.everything:
        leaf.grad = torch.randn_like(leaf)
    before = [(leaf.grad, leaf.grad.clone()) for leaf in scene.everything]
    with pytest.raises(NonFiniteGradientError):
        engine.backward(scene.losses, weights)
    for leaf, (tensor, copy) in zip(scene.everything, before, strict=True):
        assert leaf.grad is tensor
        assert torch.equal(tensor, copy)
    return str(caught.value)


@both_modes
@pytest.mark.parametrize("scene", SCENES)
def test_non_finite_gradients_leave_everything_as_it_was(scene: str, batch_dim: int | None) -> None:
    torch.manual_seed(0)
    says = _assert_untouched(SCENES[scene](), _ones, batch_dim)
    assert "no .grad was touched" in says


def test_the_error_names_the_objectives() -> None:
    torch.manual_seed(0)
    assert "the gradients of objectives 2, expected" in _assert_untouched(_nan_loss(), _ones)


def test_the_error_names_objectives_in_the_order_of_the_losses() -> None:
    # Inside the engine samples are contiguous; the reader counts along `losses.flatten()`.
    torch.manual_seed(0)
    layer = _linear()
    factors = torch.ones(4, 3, dtype=torch.float64)
    # Zero times NaN reaches the other losses of sample 1 too: numbers 3, 4 and 5.
    factors[1, 2] = torch.nan
    scene = Scene((layer,), layer(draw(4, 4)) * factors)
    weights = torch.ones(4, 3, dtype=torch.float64)
    assert "objectives 3, 4, 5, expected" in _assert_untouched(scene, lambda _: weights)


@pytest.mark.parametrize("weight", [torch.nan, torch.inf])
@both_modes
def test_non_finite_weights(weight: float, batch_dim: int | None) -> None:
    torch.manual_seed(0)
    layer = _linear()
    scene = Scene((layer,), layer(draw(6, 4)).sum(1))
    weights = torch.tensor([1, 1, weight, 1, 1, 1], dtype=torch.float64)
    assert "weights" in _assert_untouched(scene, lambda _: weights, batch_dim)


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_a_weighted_gradient_beyond_half_precision(place: str) -> None:
    torch.manual_seed(0)
    layer, other = _linear(dtype=torch.float16), _linear(dtype=torch.float32)
    x = torch.randn(6, 4)
    losses = layer(x.half()).float().sum(1) + other(x).sum(1)
    inside, outside = (layer, other) if place == "inside" else (other, layer)
    scene = Scene((inside,), losses, tuple(outside.parameters()))
    _assert_untouched(scene, lambda gramian: 1e5 * _ones(gramian))


def test_a_product_that_leaves_the_range_on_its_way() -> None:
    # D·w is infinite, X·D·w would not be; autograd's own gradient is infinite too.
    torch.manual_seed(0)
    layer = nn.Linear(4, 3, bias=False)
    scene = Scene((layer,), layer(1e-30 * torch.randn(6, 4)).sum(1) * 1e30)
    engine = Engine(layer, batch_dim=0)
    try:
        engine.backward(scene.losses, lambda gramian: 1e10 * _ones(gramian))
    except NonFiniteGradientError:
        assert layer.weight.grad is None
    else:
        assert layer.weight.grad.isfinite().all()


@both_modes
@pytest.mark.parametrize("loss_scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("input_scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("positions", [1, 3])
def test_scales_in_float64(
    loss_scale: float, input_scale: float, positions: int, batch_dim: int | None
) -> None:
    def make() -> Scene:
        layer = _linear()
        y = layer(input_scale * draw(6, positions, 4)).flatten(1)
        return Scene((layer,), (y.tanh().sum(1) + y.sum(1)) * loss_scale)

    assert_same_step(make, batch_dim, weights=_ones)


@both_modes
@pytest.mark.parametrize(("loss_scale", "input_scale"), [(1e-30, 1e30), (1e-15, 1.0), (1e15, 1.0)])
@pytest.mark.parametrize("positions", [1, 3])
def test_scales_in_float32(
    loss_scale: float, input_scale: float, positions: int, batch_dim: int | None
) -> None:
    def make() -> Scene:
        layer = _linear(dtype=torch.float32)
        y = layer(input_scale * torch.randn(6, positions, 4)).flatten(1)
        return Scene((layer,), y.sum(1) * loss_scale)

    assert_same_step(make, batch_dim, weights=_ones, dtype=torch.float32)


def test_large_gradients_of_float64_parameters_outside_are_finite() -> None:
    def make() -> Scene:
        inside, outside = _linear(), _linear()
        x = draw(6, 4)
        losses = (inside(x) + 1e60 * outside(x)).sum(1)
        return Scene((inside,), losses, tuple(outside.parameters()))

    assert_same_step(make, weights=_ones)


def test_parameters_outside_of_every_dtype() -> None:
    def make() -> Scene:
        layers = [_linear(dtype=d) for d in (torch.float64, torch.float16, torch.bfloat16)]
        inside, x = _linear(dtype=torch.float32), torch.randn(6, 4)
        y = inside(x) + sum(layer(x.to(layer.weight.dtype)).float() for layer in layers)
        outside = [p for layer in layers for p in layer.parameters()]
        return Scene((inside,), y.square().sum(1), tuple(outside))

    assert_same_step(make, dtype=torch.bfloat16)


def test_a_step_after_a_refused_one() -> None:
    torch.manual_seed(0)
    layer = _linear()
    engine, x = Engine(layer, batch_dim=0), draw(6, 4)
    factors = torch.ones(6, dtype=torch.float64)
    broken = factors.clone()
    broken[3] = torch.nan
    found = []
    for each in (factors, broken, factors):
        layer.zero_grad()
        losses = layer(x).square().sum(1) * each
        if each is broken:
            with pytest.raises(NonFiniteGradientError):
                engine.backward(losses, spread)
        else:
            engine.backward(losses, spread)
            found.append([p.grad for p in layer.parameters()])
    assert_same_gradients(*found)
