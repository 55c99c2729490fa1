"""Tests of `jac_to_grad`: reference, pinned, structure and refusals."""

import pytest
import torch
from torch import Tensor, nn

from engines.aggregation import MGDA, Aggregator, DualProj, Mean, PCGrad, Sum, UPGrad
from engines.autojac import backward, jac_to_grad
from engines.errors import NonFiniteGradientError
from tests.support.tolerances import assert_close


class Plain(Aggregator):
    """Has no weights."""

    def forward(self, matrix: Tensor, /) -> Tensor:
        return matrix.median(0).values


class Net(nn.Module):
    """Has a frozen and an unused parameter, a scalar and an empty one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
        self.second.bias.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(2))
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.nothing = nn.Parameter(torch.ones(0, 3))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.tanh(self.first(x))) * self.scale
        return y.square().sum(0) + self.nothing.sum()


def _x() -> Tensor:
    return torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _gradients(model: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in model.parameters()]


def _assert_same(found: nn.Module, expected: nn.Module) -> None:
    for one, other in zip(_gradients(found), _gradients(expected), strict=True):
        assert (one is None) == (other is None)
        if one is not None and one.numel():
            assert_close(one, other)


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("method", [UPGrad, DualProj, MGDA, PCGrad])
def test_two_steps_do_what_one_does(method: type[Aggregator], optimized: bool) -> None:
    expected, found = Net(), Net()
    backward(expected(_x()), method())
    backward(found(_x()))
    weights = jac_to_grad(found.parameters(), method(), optimize_gramian_computation=optimized)
    _assert_same(found, expected)
    assert weights is not None
    assert weights.shape == (3,)
    assert found.unused.grad is None
    assert found.second.bias.grad is None
    assert all(not hasattr(p, "jac") for p in found.parameters())


@pytest.mark.parametrize("aggregator", [Plain(), lambda jacobian: jacobian.max(0).values])
def test_no_weights_without_a_weighting(aggregator: Aggregator) -> None:
    expected, found = Net(), Net()
    backward(expected(_x()), aggregator)
    backward(found(_x()))
    assert jac_to_grad(found.parameters(), aggregator) is None
    _assert_same(found, expected)


@pytest.mark.parametrize("optimized", [False, True])
def test_pinned(optimized: bool) -> None:
    # Rows (1, 0) and (-1, 2), each projected onto the dual cone: (1, 0) + ⅕(-1, 2) = (0.8, 0.4)
    # and (-1, 2) + (1, 0) = (0, 2). Their mean (0.4, 1.2) has the weights (1 + 1)/2 = 1 and
    # (⅕ + 1)/2 = 0.6.
    a = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    backward([a + 0 * b, 2 * b - a])
    weights = jac_to_grad([a, b], UPGrad(), optimize_gramian_computation=optimized)
    assert weights is not None
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.6], dtype=torch.float64))
    torch.testing.assert_close((a.grad.item(), b.grad.item()), (0.4, 1.2))


def test_accumulates_and_may_keep_the_jacobians() -> None:
    model = Net()
    backward(model(_x()))
    before = model.first.weight.jac
    jac_to_grad(model.parameters(), Sum(), retain_jac=True)
    first = model.first.weight.grad.clone()
    assert model.first.weight.jac is before
    jac_to_grad(model.parameters(), Sum())
    assert torch.equal(model.first.weight.grad, 2 * first)
    assert not hasattr(model.first.weight, "jac")


def test_gradients_do_not_share_the_jacobian() -> None:
    p = torch.ones(3, requires_grad=True)
    backward(p * 2)
    jac_to_grad([p], lambda jacobian: jacobian[0], retain_jac=True)
    p.grad.zero_()
    assert p.jac[0].tolist() == [2.0, 0.0, 0.0]


@pytest.mark.parametrize("optimized", [False, True])
def test_mixed_and_half_dtypes(optimized: bool) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(3, 3, dtype=d) for d in (torch.bfloat16, torch.float32, torch.float64)]
    y = torch.randn(4, 3, dtype=torch.bfloat16)
    for layer in layers:
        y = torch.tanh(layer(y.to(layer.weight.dtype)))
    backward(y.sum(0))
    parameters = [p for layer in layers for p in layer.parameters()]
    expected = torch.cat([p.jac.double().mean(0).flatten() for p in parameters])
    aggregator = Mean() if not optimized else UPGrad()
    jac_to_grad(
        parameters, aggregator, optimize_gramian_computation=optimized, retain_jac=optimized
    )
    assert all(p.grad.dtype == p.dtype for p in parameters)
    if not optimized:
        found = torch.cat([p.grad.double().flatten() for p in parameters])
        assert_close(found, expected, torch.bfloat16)


@pytest.mark.parametrize("optimized", [False, True])
def test_complex_parameters_count_as_two_columns(optimized: bool) -> None:
    torch.manual_seed(3)
    start = torch.randn(3, dtype=torch.complex128)
    one = start.clone().requires_grad_()
    parts = torch.view_as_real(start).clone().requires_grad_()
    shared = [torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    for z, r in ((one, shared[0]), (torch.view_as_complex(parts), shared[1])):
        backward([z.abs().sum() * r[0], (z * z).imag.sum() - r.sum(), z.real.sum()])
    jac_to_grad([shared[0], one], UPGrad(), optimize_gramian_computation=optimized)
    jac_to_grad([shared[1], parts], UPGrad(), optimize_gramian_computation=optimized)
    assert_close(torch.view_as_real(one.grad), parts.grad)
    assert_close(shared[0].grad, shared[1].grad)


def test_complex_parameter_in_one_call() -> None:
    z = torch.tensor([3 + 4j], requires_grad=True)
    # |z| has the gradient z/|z| = 0.6 + 0.8i, and 2·Re z has 2.
    backward([z.abs().sum(), 2 * z.real.sum()], Sum())
    torch.testing.assert_close(z.grad, torch.tensor([2.6 + 0.8j]))


@pytest.mark.parametrize("scale", [1e-170, 1.0, 1e150])
def test_blocks_of_very_different_size(scale: float) -> None:
    # The Gramian of each block alone would be scaled into range by another factor.
    a = torch.ones(2, dtype=torch.float64, requires_grad=True)
    b = torch.ones(2, dtype=torch.float64, requires_grad=True)
    backward([a[0] + scale * b[0], a[1] - a[0] + scale * b[1]])
    found = jac_to_grad([a, b], UPGrad(), optimize_gramian_computation=True, retain_jac=True)
    expected = jac_to_grad([a, b], UPGrad())
    assert found is not None
    torch.testing.assert_close(found, expected)


def test_hooks_run() -> None:
    model, calls = Net(), []
    aggregator = UPGrad()
    handle = aggregator.register_forward_hook(lambda *_: calls.append("aggregator"))
    other = aggregator.weighting.register_forward_hook(lambda *_: calls.append("weighting"))
    aggregator.gramian_weighting.register_forward_hook(lambda _m, _i, w: 2 * w)
    backward(model(_x()))
    weights = jac_to_grad(model.parameters(), aggregator, retain_jac=True)
    assert calls == ["weighting", "aggregator"]
    plain = jac_to_grad(model.parameters(), UPGrad(), retain_jac=True)
    assert_close(weights, 2 * plain)
    for remaining in (other, handle):
        with pytest.raises(ValueError, match="forward hook"):
            jac_to_grad(model.parameters(), aggregator, optimize_gramian_computation=True)
        remaining.remove()
    again = jac_to_grad(model.parameters(), aggregator, optimize_gramian_computation=True)
    assert_close(again, 2 * plain)
    assert not aggregator.weighting._forward_hooks


def test_a_parameter_frozen_later_is_skipped() -> None:
    model = Net()
    backward(model(_x()))
    model.first.requires_grad_(False)
    jac_to_grad(model.parameters(), Mean())
    assert model.first.weight.grad is None
    assert model.second.weight.grad is not None


def test_failure_leaves_both_fields() -> None:
    model = Net()
    backward(model(_x()))
    before = [p.jac.clone() for p in (model.first.weight, model.scale)]
    parameters = list(model.parameters())
    for aggregator, error in [
        (lambda j: j.mean(0) / 0, NonFiniteGradientError),
        (lambda j: j, ValueError),
        (lambda j: 1.0, TypeError),
        (lambda j: 1 / 0, ZeroDivisionError),
    ]:
        with pytest.raises(error):
            jac_to_grad(parameters, aggregator)
    model.scale.jac[0] = torch.nan
    with pytest.raises(NonFiniteGradientError):
        jac_to_grad(parameters, UPGrad(), optimize_gramian_computation=True)
    assert torch.equal(model.first.weight.jac, before[0])
    assert all(p.grad is None for p in parameters)


def test_refusals() -> None:
    p, q = (torch.ones(2, requires_grad=True) for _ in range(2))
    backward([p.sum()])
    backward([q.sum(), q.prod()])
    for call, error, says in [
        (lambda: jac_to_grad([], Mean()), ValueError, "0 tensor"),
        (lambda: jac_to_grad([torch.ones(2)], Mean()), ValueError, "none of which has .jac"),
        (lambda: jac_to_grad([p, q], Mean()), ValueError, "2 rows at position 1"),
        (lambda: jac_to_grad([p, p], Mean()), ValueError, "twice"),
        (lambda: jac_to_grad([p], None), TypeError, "NoneType as aggregator"),
        (lambda: jac_to_grad([1.0], Mean()), TypeError, "tensor at position 0"),
        (lambda: jac_to_grad(None, Mean()), TypeError, "NoneType as tensor"),
        (
            lambda: jac_to_grad([p], Mean(), optimize_gramian_computation=True),
            ValueError,
            "with Mean, expected a GramianWeightedAggregator",
        ),
    ]:
        with pytest.raises(error, match=says):
            call()
    assert (p.grad, q.grad) == (None, None)
    p.jac = torch.ones(3)
    with pytest.raises(ValueError, match="on a tensor of shape"):
        jac_to_grad([p], Mean())
