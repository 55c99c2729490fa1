"""Reference tests of unusual models, graphs and callers beyond the table of edge cases."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.autogram import Engine
from engines.errors import BatchMixedError
from tests.support.cases import Residual
from tests.support.reference import reference_gramian
from tests.support.tolerances import assert_close


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def losses_of(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).square().flatten(1).sum(1)


def assert_exact(engine: Engine, losses: Tensor, *modules: nn.Module) -> None:
    parameters = [p for module in modules for p in module.parameters()]
    assert_close(engine.compute_gramian(losses), reference_gramian(losses, parameters))


def test_twice_on_the_same_losses(model: nn.Module, x: Tensor) -> None:
    engine, losses = Engine(model, batch_dim=0), losses_of(model, x)
    assert torch.equal(engine.compute_gramian(losses), engine.compute_gramian(losses))


def test_exception_inside_the_pass_leaves_no_hook(model: nn.Module, x: Tensor) -> None:
    engine = Engine(model, batch_dim=0)
    h = model[1](model[0](x))
    handle = h.register_hook(lambda gradient: 1 / 0)
    losses = model[2](h).square().sum(1)
    with pytest.raises(ZeroDivisionError):
        engine.compute_gramian(losses)
    handle.remove()
    assert_exact(engine, losses, model)


@pytest.mark.parametrize("strength", [1e-3, 1e-9, 0.0])
def test_losses_centred_a_little(model: nn.Module, x: Tensor, strength: float) -> None:
    losses = losses_of(model, x)
    with pytest.raises(BatchMixedError, match=r"after 2 +Mean over the batch"):
        Engine(model, batch_dim=0).compute_gramian(losses - strength * losses.mean())


def test_zero_branch_that_begins_to_act(x: Tensor) -> None:
    torch.manual_seed(1)
    model = Residual().double()
    engine = Engine(model, batch_dim=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        losses = losses_of(model, x)
        assert_exact(engine, losses, model)
        losses.mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_zero_branch_that_mixes_is_refused_before_it_acts(x: Tensor) -> None:
    torch.manual_seed(1)
    first, down = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
    nn.init.zeros_(down.weight)
    both = nn.ModuleList([first, down])
    for mixed in (lambda h: h - h.mean(0, keepdim=True), lambda h: h.cumsum(0)):
        losses = (x + first(x) + down(mixed(first(x)))).square().sum(1)
        with pytest.raises(BatchMixedError, match="after 0"):
            Engine(both, batch_dim=0).compute_gramian(losses)


def test_zero_loss_of_one_sample(model: nn.Module, x: Tensor) -> None:
    engine = Engine(model, batch_dim=0)
    mask = torch.ones(6, dtype=torch.float64)
    for position in (2, 3, 3):
        mask[position] = 1 - mask[position]
        assert_exact(engine, losses_of(model, x) * mask, model)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_in_eval_mode(x: Tensor, affine: bool) -> None:
    torch.manual_seed(2)
    norm = nn.BatchNorm1d(5, affine=affine)
    model = nn.Sequential(nn.Linear(4, 5), norm, nn.Linear(5, 2)).double()
    model(x)
    model.eval()
    assert_exact(Engine(model, batch_dim=0), losses_of(model, x), model)


def test_head_after_batch_norm(x: Tensor) -> None:
    # No gradient towards the head passes the normalisation.
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)).double()
    assert_exact(Engine(model[2], batch_dim=0), losses_of(model, x), model[2])


def test_empty_batch(model: nn.Module) -> None:
    losses = losses_of(model, torch.empty(0, 4, dtype=torch.float64))
    for batch_dim in (0, None):
        assert Engine(model, batch_dim=batch_dim).compute_gramian(losses).shape == (0, 0)


def test_autograd_is_unaffected(model: nn.Module, x: Tensor) -> None:
    losses = losses_of(model, x)
    weights = torch.rand(6, dtype=torch.float64)
    losses.backward(weights, retain_graph=True)
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    Engine(model, batch_dim=0).compute_gramian(losses)
    assert all(p.grad is None for p in model.parameters())
    losses.backward(weights)
    assert all(torch.equal(p.grad, e) for p, e in zip(model.parameters(), expected, strict=True))


def test_within_no_grad_and_autocast(model: nn.Module, x: Tensor) -> None:
    single = model.float()
    losses = losses_of(single, x.float())
    expected = reference_gramian(losses, single.parameters())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = Engine(single, batch_dim=0).compute_gramian(losses)
    assert_close(found, expected, torch.float32)


def test_hook_on_a_parameter(model: nn.Module, x: Tensor) -> None:
    model[0].weight.register_hook(lambda gradient: gradient * 3)
    assert_exact(Engine(model, batch_dim=0), losses_of(model, x), model)


class _Doubled(torch.autograd.Function):
    """Doubles its input and its gradient."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * 2


class _Cut(_Doubled):
    """Doubles its input and says nothing about its gradient."""

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> None:
        return None


@pytest.mark.parametrize("function", [_Doubled, _Cut])
def test_custom_function(model: nn.Module, x: Tensor, function: type[_Doubled]) -> None:
    h = function.apply(model[1](model[0](x)))
    assert_exact(Engine(model, batch_dim=0), model[2](h).square().sum(1), model)


def test_parameter_is_the_output() -> None:
    module = nn.Linear(3, 2).double()
    for output in (module.weight, module.weight.T, module.bias):
        assert_exact(Engine(module, batch_dim=None), output, module)


def test_parametrized_weight(x: Tensor) -> None:
    model = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3).double())
    assert_exact(Engine(model, batch_dim=0), losses_of(model, x), model)


def test_layouts_that_coincide_at_first(x: Tensor) -> None:
    # Only the rows that are the same sample's in both layouts have a gradient at first.
    torch.manual_seed(3)
    layer = nn.Linear(4, 3).double()
    engine = Engine(layer, batch_dim=0)
    rows = torch.randn(2, 3, 4, dtype=torch.float64)
    masks = [torch.zeros(2, 3, 1, dtype=torch.float64), torch.ones(2, 3, 1, dtype=torch.float64)]
    masks[0][0, 0] = masks[0][1, 2] = 1
    for mask in masks:
        losses = (layer(rows.flatten(0, 1)).unflatten(0, (2, 3)) * mask).square().sum((1, 2))
        assert_exact(engine, losses, layer)


def test_huge_spread_between_samples(model: nn.Module, x: Tensor) -> None:
    scale = torch.logspace(-9, 9, 6, dtype=torch.float64)
    losses = losses_of(model, x) * scale
    found = Engine(model, batch_dim=0).compute_gramian(losses)
    expected = reference_gramian(losses, model.parameters())
    outer = scale.outer(scale)
    assert_close(found / outer, expected / outer)


def test_gradient_mixed_far_below_the_largest(model: nn.Module, x: Tensor) -> None:
    # A sample whose own gradient is tiny must not hide a coupling of that size.
    h = torch.tanh(model[0](x))
    factor = torch.ones(6, 1, dtype=torch.float64)
    factor[0] = 1e-13
    out = model[2](h) * factor
    losses = out.square().sum(1) + 1e-14 * out.sum()
    with pytest.raises(BatchMixedError):
        Engine(model, batch_dim=0).compute_gramian(losses)


def test_bias_broadcast_over_rows(x: Tensor) -> None:
    torch.manual_seed(5)
    module = nn.Module()
    module.weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    module.rows = nn.Parameter(torch.randn(6, 3, dtype=torch.float64))
    module.one = nn.Parameter(torch.randn(1, dtype=torch.float64))
    y = torch.addmm(module.rows, x, module.weight.T, beta=0.5) * 2
    y = torch.tanh(y) + torch.addmm(module.one, x, module.weight.T)
    assert_exact(Engine(module, batch_dim=0), y.square().sum(1), module)


def test_attention_across_sequences() -> None:
    torch.manual_seed(6)
    attention = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True).double()
    query, key = torch.randn(3, 4, 8).double(), torch.randn(3, 5, 8).double()
    losses = attention(query, key, key)[0].square().sum((1, 2))
    assert_exact(Engine(attention, batch_dim=0), losses, attention)


def test_unbatched_convolution() -> None:
    torch.manual_seed(7)
    conv = nn.Conv2d(2, 3, 2).double()
    losses = conv(torch.randn(2, 4, 4, dtype=torch.float64)).square().sum((1, 2))
    for batch_dim in (0, None):
        assert_exact(Engine(conv, batch_dim=batch_dim), losses, conv)


def test_cross_entropy_of_logits_cast() -> None:
    torch.manual_seed(8)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    losses = F.cross_entropy(
        model(torch.randn(16, 1, 8, 8)), torch.randint(10, (16,)), reduction="none"
    )
    found = Engine(model, batch_dim=0).compute_gramian(losses)
    assert_close(found, reference_gramian(losses, model.parameters()), torch.float32)
