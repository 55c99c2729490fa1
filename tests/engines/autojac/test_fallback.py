"""Reference tests of what cannot be vectorised, or could not be in earlier releases."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engines.autojac import backward, jac, jac_to_grad, mtl_backward
from engines.autojac.passes import default_chunk_rows
from engines.errors import UnsupportedGraphError
from tests.support.reference import reference_jacobian
from tests.support.tolerances import assert_close


class _Stubborn(torch.autograd.Function):
    """Identity that looks at the values of its gradient from some call on, which vmap cannot."""

    calls = 0
    patience = 0

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        _Stubborn.calls += 1
        if _Stubborn.calls > _Stubborn.patience:
            return gradient * (2.0 if gradient.sum().item() > -1e9 else 1.0)
        return gradient * 2.0


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    _Stubborn.calls = _Stubborn.patience = 0
    yield
    torch._dynamo.reset()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def _x(rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 4, dtype=torch.float64, generator=generator)


def _flat(jacobians: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([j.flatten(1) for j in jacobians], 1)


def _one_warning(call: Callable[[], object], says: str) -> object:
    with pytest.warns(UserWarning, match="one by one") as caught:
        found = call()
    assert len(caught) == 1
    assert says in str(caught[0].message)
    assert caught[0].filename == __file__
    return found


@pytest.mark.parametrize("retain", [True, False])
@pytest.mark.parametrize("rows", [3, 40])
@pytest.mark.parametrize("patience", [0, 1, 2])
def test_falls_back_in_any_chunk(model: nn.Module, retain: bool, rows: int, patience: int) -> None:
    losses = model[2](_Stubborn.apply(model[:2](_x(rows)))).square().sum(1)
    parameters = list(model.parameters())
    expected = reference_jacobian(losses, parameters)
    # Chunks of 16 rows: the first, the second or the third is the one that fails; of 3 rows, the
    # first, or none.
    _Stubborn.calls, _Stubborn.patience = 0, patience

    def call() -> Tensor:
        return _flat(jac(losses, parameters, retain_graph=retain))

    if rows == 3 and patience > 0:
        assert_close(call(), expected)
    else:
        assert_close(_one_warning(call, "_StubbornBackward"), expected)


def test_two_rows_that_free_the_graph_are_not_vectorised(model: nn.Module) -> None:
    losses = model[2](_Stubborn.apply(model[:2](_x(2)))).square().sum(1)
    expected = reference_jacobian(losses, model.parameters())
    assert_close(_flat(jac(losses, list(model.parameters()))), expected)


def test_every_function_warns_at_its_caller(model: nn.Module) -> None:
    def losses() -> tuple[Tensor, list[Tensor]]:
        features = _Stubborn.apply(model[:2](_x(8)))
        return features, [*model[2](features).sum(0)]

    def mean(jacobian: Tensor) -> Tensor:
        return jacobian.mean(0)

    calls = [
        lambda: jac(losses()[1], model[0].weight),
        lambda: backward(losses()[1], mean),
        lambda: backward(losses()[1]),
    ]
    for call in calls:
        _one_warning(call, "_StubbornBackward")
    features, tasks = losses()
    _one_warning(lambda: mtl_backward(tasks, features), "_StubbornBackward")
    features, tasks = losses()
    _one_warning(lambda: mtl_backward(tasks, features, mean), "_StubbornBackward")


def test_sequential_rows_need_no_attempt(model: nn.Module) -> None:
    losses = model[2](_Stubborn.apply(model[:2](_x(8)))).square().sum(1)
    expected = reference_jacobian(losses, model.parameters())
    found = jac(losses, list(model.parameters()), parallel_chunk_size=1)
    assert_close(_flat(found), expected)


def test_numpy_in_a_backward_pass(model: nn.Module) -> None:
    class Outside(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            return torch.from_numpy(gradient.numpy() * 3)

    losses = Outside.apply(model(_x(6))).square().sum(1)
    expected = reference_jacobian(losses, model.parameters())
    found = _one_warning(lambda: jac(losses, list(model.parameters())), "OutsideBackward")
    assert_close(_flat(found), expected)


def test_a_failure_that_is_not_vmaps_is_raised_as_it_is(model: nn.Module) -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            raise ZeroDivisionError("mine")

    losses = Broken.apply(model(_x(6))).square().sum(1)
    with pytest.raises(ZeroDivisionError, match="mine"):
        backward(losses)
    assert all(not hasattr(p, "jac") for p in model.parameters())


def test_no_hook_stays_on_the_graph(model: nn.Module) -> None:
    losses = model[2](_Stubborn.apply(model[:2](_x(4)))).square().sum(1)
    _one_warning(lambda: jac(losses, model[0].weight, retain_graph=True), "_StubbornBackward")
    losses.sum().backward()  # a hook that stayed would be called here with tensors it cannot note
    assert model[0].weight.grad is not None


@pytest.mark.filterwarnings("ignore:got .* expected operations that can be differentiated")
def test_autocast_with_layer_norm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(_x(6).float()).float().square().sum(1)
    expected = reference_jacobian(losses, model.parameters())
    assert_close(_flat(jac(losses, list(model.parameters()))), expected, torch.bfloat16)


@pytest.mark.filterwarnings("ignore:got .* expected operations that can be differentiated")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("chunk", [None, 1])
def test_compiled_model(model: nn.Module, chunk: int | None) -> None:
    compiled = torch.compile(model, backend="aot_eager")
    expected = reference_jacobian(model(_x(6)).square().sum(1), model.parameters())
    losses = compiled(_x(6)).square().sum(1)
    found = jac(losses, list(model.parameters()), parallel_chunk_size=chunk)
    assert_close(_flat(found), expected)


def test_checkpoint_without_reentry(model: nn.Module) -> None:
    losses = model[2](checkpoint(model[:2], _x(6), use_reentrant=False)).square().sum(1)
    expected = reference_jacobian(model(_x(6)).square().sum(1), model.parameters())
    assert_close(_flat(jac(losses, list(model.parameters()))), expected)


def test_checkpoint_with_dropout_repeats_the_mask() -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5)).double()
    x = _x(6)
    torch.manual_seed(3)
    losses = checkpoint(inner, x, use_reentrant=False).square().sum(1)
    torch.manual_seed(3)
    expected = reference_jacobian(inner(x).square().sum(1), inner.parameters())
    found = _one_warning(lambda: jac(losses, list(inner.parameters())), "random operations")
    assert_close(_flat(found), expected)


def test_reentrant_checkpoint_is_refused_above_an_input_only(model: nn.Module) -> None:
    features = checkpoint(model[:2], _x(6).requires_grad_(), use_reentrant=True)
    losses = [*model[2](features).sum(0)]
    remedy = "use_reentrant=False"
    with pytest.raises(UnsupportedGraphError, match=remedy):
        backward(losses, retain_graph=True)
    with pytest.raises(UnsupportedGraphError, match=remedy):
        mtl_backward(losses, features, retain_graph=True)
    with pytest.raises(UnsupportedGraphError, match=remedy):
        jac(losses, model[0].weight, retain_graph=True)
    assert all(not hasattr(p, "jac") and p.grad is None for p in model.parameters())
    expected = reference_jacobian(torch.stack(losses), [features])
    assert_close(_flat(jac(losses, features, retain_graph=True)), expected)
    # Finding the name of an operation does not look below the input either.
    tops = [*model[2](_Stubborn.apply(features)).sum(0)]
    found = _one_warning(lambda: jac(tops, features), "_StubbornBackward")
    assert_close(_flat(found), 2 * expected)


def test_sparse_gradients_under_vmap() -> None:
    torch.manual_seed(2)
    model = nn.Embedding(7, 4, sparse=True).double()
    losses = model(torch.randint(7, (5, 3))).square().sum((1, 2))
    expected = reference_jacobian(losses, model.parameters())
    _one_warning(lambda: backward(losses), "EmbeddingBackward0")
    assert_close(model.weight.jac.flatten(1), expected)
    jac_to_grad(model.parameters(), lambda jacobian: jacobian.sum(0))
    assert_close(model.weight.grad.flatten(), expected.sum(0))


def test_default_chunks() -> None:
    # 16 rows of 1000 bytes are small. Of rows of 1 MB, an eighth: 64 / 8 = 8, but at least 1 and
    # at most 16.
    assert default_chunk_rows(64, 1000) == 16
    assert [default_chunk_rows(m, 10**6) for m in (0, 1, 7, 16, 64, 1000)] == [1, 1, 1, 2, 8, 16]
