"""Tests of `backward`: reference, pinned, structure and refusals."""

import copy

import pytest
import torch
from torch import Tensor, nn

from engines import autojac
from engines.autogram import Engine
from engines.autojac import backward
from engines.errors import EngineError, NonFiniteGradientError, UnsupportedGraphError
from tests.support.cases import CASES, Case
from tests.support.reference import reference_jacobian
from tests.support.tolerances import assert_close

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using padding=.same.",
    # vmap says so where it runs an operation sample by sample; the result is the same.
    "ignore:There is a performance drop",
)


class Recording(nn.Module):
    """Aggregator that keeps the Jacobian it saw and returns a fixed combination."""

    def forward(self, jacobian: Tensor) -> Tensor:
        self.jacobian = jacobian.clone()
        weights = torch.linspace(-1, 1, len(jacobian), dtype=jacobian.dtype)
        return weights @ jacobian


def _flat_gradients(parameters: list[Tensor]) -> Tensor:
    return torch.cat([p.grad.flatten() for p in parameters])


@pytest.mark.parametrize("chunk", [None, 1, 2])
@pytest.mark.parametrize("case", [c for c in CASES if "sparse" not in c.id])
@pytest.mark.filterwarnings("ignore:got an operation that cannot be differentiated")
def test_reference(case: Case, chunk: int | None) -> None:
    model, x = case.build()
    parameters = [p for p in model.parameters() if p.requires_grad]
    losses = case.losses(model, x)
    expected = reference_jacobian(losses, parameters)
    aggregator = Recording()
    backward(losses, aggregator, inputs=parameters, parallel_chunk_size=chunk, retain_graph=True)
    assert_close(aggregator.jacobian, expected)
    weights = torch.linspace(-1, 1, len(expected), dtype=torch.float64)
    assert_close(_flat_gradients(parameters), weights @ expected)
    gramian = Engine(model, batch_dim=0).compute_gramian(losses)
    assert_close(aggregator.jacobian @ aggregator.jacobian.T, gramian)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _mean(jacobian: Tensor) -> Tensor:
    return jacobian.mean(0)


@pytest.mark.parametrize("chunk", [None, 1, 3, 100])
def test_several_tensors_in_order_of_flattening(
    model: nn.Module, x: Tensor, chunk: int | None
) -> None:
    y = model(x)
    tensors = [y[0, 0], y.square()[:2], y.sum(0)]
    expected = torch.cat([reference_jacobian(t, model.parameters()) for t in tensors])
    aggregator = Recording()
    backward(tensors, aggregator, inputs=model.parameters(), parallel_chunk_size=chunk)
    assert_close(aggregator.jacobian, expected)


def test_default_inputs_are_the_leaves(model: nn.Module, x: Tensor) -> None:
    model[0].bias.requires_grad_(False)
    extra = torch.ones(3, dtype=torch.float64, requires_grad=True)
    unused = torch.ones(3, dtype=torch.float64, requires_grad=True)
    backward((model(x) * extra).sum(0), _mean)
    assert model[0].bias.grad is None
    assert unused.grad is None
    found = [extra, *(p for p in model.parameters() if p.requires_grad)]
    assert all(leaf.grad is not None for leaf in found)


def test_accumulates(model: nn.Module, x: Tensor) -> None:
    backward(model(x).sum(0), _mean)
    first = {name: p.grad.clone() for name, p in model.named_parameters()}
    backward(model(x).sum(0), _mean)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, 2 * first[name])


def test_frozen_inputs_are_skipped(model: nn.Module, x: Tensor) -> None:
    model[0].requires_grad_(False)
    aggregator = Recording()
    losses = model(x).square().sum(1)
    expected = reference_jacobian(losses, model[2].parameters())
    backward(losses, aggregator, inputs=model.parameters())
    assert_close(aggregator.jacobian, expected)
    assert model[0].weight.grad is None


def test_a_repeated_input_counts_once(model: nn.Module, x: Tensor) -> None:
    aggregator = Recording()
    backward(model(x).sum(0), aggregator, inputs=[*model.parameters(), *model.parameters()])
    assert aggregator.jacobian.shape == (3, 43)


@pytest.mark.parametrize("chunk", [None, 1])
def test_computed_input_that_retains_its_gradient(
    model: nn.Module, x: Tensor, chunk: int | None
) -> None:
    hidden = model[:2](x)
    hidden.retain_grad()
    losses = model[2](hidden).square().sum(1)
    inputs = [hidden, *model[0].parameters()]
    expected = reference_jacobian(losses, inputs).mean(0)
    hidden.grad = None  # the reference went through it
    backward(losses, _mean, inputs=inputs, parallel_chunk_size=chunk)
    # Not the cotangents of the passes, which autograd collects there too.
    assert_close(_flat_gradients(inputs), expected)


def test_a_leaf_is_differentiated_where_it_is_named() -> None:
    p = torch.tensor([3.0, 5.0], requires_grad=True)
    backward(p, lambda jacobian: jacobian.sum(0), inputs=[p])
    assert p.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("chunk", [None, 1])
def test_hooks_of_parameters_run(model: nn.Module, x: Tensor, chunk: int | None) -> None:
    losses = model(x).square().sum(1)
    expected = reference_jacobian(losses, [model[0].weight])
    model[0].weight.register_hook(lambda gradient: 2 * gradient)
    aggregator = Recording()
    backward(losses, aggregator, inputs=[model[0].weight], parallel_chunk_size=chunk)
    assert_close(aggregator.jacobian, 2 * expected)


def test_unreached_input_gets_zeros(model: nn.Module, x: Tensor) -> None:
    unused = nn.Parameter(torch.ones(2, 2))
    backward(model(x).sum(0), _mean, inputs=[unused, *model.parameters()])
    assert torch.equal(unused.grad, torch.zeros(2, 2))
    assert unused.grad.dtype == torch.float32


@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_graph_is_freed_or_kept(model: nn.Module, x: Tensor, chunk: int | None) -> None:
    losses = model(x).square().sum(1)
    backward(losses, _mean, retain_graph=True, parallel_chunk_size=chunk)
    backward(losses, _mean, parallel_chunk_size=chunk)
    with pytest.raises(UnsupportedGraphError, match="freed"):
        backward(losses, _mean, parallel_chunk_size=chunk)


def test_hooks_of_the_aggregator_run(model: nn.Module, x: Tensor) -> None:
    shapes = []
    aggregator = Recording()
    aggregator.register_forward_hook(lambda _, inputs, output: shapes.append(inputs[0].shape))
    backward(model(x).sum(0), aggregator)
    assert shapes == [(3, 43)]


def test_sparse_gradients() -> None:
    torch.manual_seed(2)
    model = nn.Embedding(7, 4, sparse=True).double()
    losses = model(torch.randint(7, (5, 3))).square().sum((1, 2))
    expected = reference_jacobian(losses, model.parameters())
    aggregator = Recording()
    backward(losses, aggregator, parallel_chunk_size=1)
    assert_close(aggregator.jacobian, expected)


def test_mixed_dtypes() -> None:
    first, second = nn.Linear(3, 2), nn.Linear(2, 2).double()
    backward(second(first(torch.randn(4, 3)).double()).sum(0), _mean)
    assert first.weight.grad.dtype == torch.float32
    assert second.weight.grad.dtype == torch.float64


def test_pinned() -> None:
    # f = (a + 2b, a·b) at a = 3, b = 5: rows (1, 2) and (5, 3), their mean (3, 2.5).
    a = torch.tensor(3.0, requires_grad=True)
    b = torch.tensor(5.0, requires_grad=True)
    backward([a + 2 * b, a * b], _mean, inputs=[a, b])
    assert (a.grad.item(), b.grad.item()) == (3.0, 2.5)


def _untouched(model: nn.Module, error: type[Exception], aggregator: object, x: Tensor) -> None:
    backward(model(x).sum(0), _mean)
    before = copy.deepcopy([p.grad for p in model.parameters()])
    with pytest.raises(error):
        backward(model(x).sum(0), aggregator)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


def test_sparse_gradient_of_an_earlier_pass() -> None:
    torch.manual_seed(2)
    model = nn.Embedding(7, 4, sparse=True).double()
    rows = torch.tensor([1, 2])
    model(rows).sum().backward()
    before = model.weight.grad.to_dense()
    backward(model(rows).square().sum(1), _mean)
    losses = model(rows).square().sum(1)
    added = reference_jacobian(losses, model.parameters()).mean(0).view(7, 4)
    assert_close(model.weight.grad, before + added)


def test_failure_leaves_gradients(model: nn.Module, x: Tensor) -> None:
    _untouched(model, NonFiniteGradientError, lambda j: j.mean(0) / 0, x)
    _untouched(model, ValueError, lambda j: j, x)
    _untouched(model, TypeError, lambda j: [0.0] * j.shape[1], x)
    _untouched(model, TypeError, 0.5, x)
    _untouched(model, ZeroDivisionError, lambda j: 1 / 0, x)


def test_refusals(model: nn.Module, x: Tensor) -> None:
    y = model(x).sum(0)
    for call, error, says in [
        (lambda: backward([], _mean), ValueError, "no tensor"),
        (lambda: backward([y, y], _mean), ValueError, "twice"),
        (lambda: backward(y, _mean, parallel_chunk_size=0), ValueError, "at least 1"),
        (lambda: backward(y, _mean, parallel_chunk_size=2.5), TypeError, "an integer"),
        (lambda: backward(y, _mean, parallel_chunk_size=True), TypeError, "an integer"),
        (lambda: backward(y, 0.5), TypeError, "float as aggregator"),
        (lambda: backward(y, model.parameters()), TypeError, "generator as aggregator"),
        (lambda: backward(1.0, _mean), TypeError, "float as tensor"),
        (lambda: backward(y.detach(), _mean), ValueError, "without a graph"),
        (lambda: backward([1.0], _mean), TypeError, "position 0"),
        (lambda: backward(y, _mean, inputs=[y]), ValueError, "computed"),
        (lambda: backward(y, _mean, inputs=[x]), ValueError, "requires no grad"),
        (lambda: backward(model[0].weight, _mean), ValueError, "a leaf"),
        (lambda: backward(y, _mean, inputs=x), TypeError, "iterable"),
        (lambda: backward(y, _mean, inputs=["w"]), TypeError, "input at position 0"),
        (lambda: backward(y, _mean, inputs=3), TypeError, "int as input"),
    ]:
        with pytest.raises(error, match=says):
            call()
    assert issubclass(UnsupportedGraphError, EngineError)
    assert all(p.grad is None for p in model.parameters())


def test_root_import_is_deprecated() -> None:
    import engines

    for name in ("backward", "mtl_backward"):
        with pytest.warns(DeprecationWarning, match=r"engines\.autojac"):
            old = getattr(engines, name)
        assert old is getattr(autojac, name)
    with pytest.raises(AttributeError, match="nothing"):
        _ = engines.nothing
