"""Tests of `mtl_backward`: reference, structure and refusals."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engines.aggregation import Mean, Sum, UPGrad
from engines.autojac import jac_to_grad, mtl_backward
from engines.errors import NonFiniteGradientError
from tests.support.reference import reference_jacobian
from tests.support.tolerances import assert_close


class Tasks(nn.Module):
    """A trunk and two heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.heads = nn.ModuleList([nn.Linear(4, 1), nn.Linear(4, 2)])
        self.double()
        self.x = torch.randn(5, 3, dtype=torch.float64)

    def features(self) -> Tensor:
        return self.trunk(self.x)

    def losses(self, features: Tensor) -> list[Tensor]:
        return [self.heads[0](features).square().mean(), self.heads[1](features).sin().sum()]

    def shared(self) -> list[Tensor]:
        return list(self.trunk.parameters())

    def own(self) -> list[list[Tensor]]:
        return [list(head.parameters()) for head in self.heads]


@pytest.fixture
def model() -> Tasks:
    return Tasks()


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])


def _check(
    losses: list[Tensor],
    shared: list[Tensor],
    own: list[list[Tensor]],
    call: Callable[[], None],
) -> None:
    """Compare `.jac` of the shared parameters and `.grad` of the tasks' with plain autograd."""
    jacobian = reference_jacobian(torch.stack(losses), shared)
    expected: dict[Tensor, Tensor] = {}
    for loss, parameters in zip(losses, own, strict=True):
        for p in parameters:
            gradient = torch.autograd.grad(loss, p, retain_graph=True)[0]
            expected[p] = expected.get(p, 0) + gradient
    call()
    assert_close(torch.cat([p.jac.flatten(1) for p in shared], 1), jacobian)
    assert all(p.grad is None for p in shared)
    for p, gradient in expected.items():
        assert_close(p.grad, gradient)


@pytest.mark.parametrize("chunk", [None, 1, 2])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_reference(model: Tasks, chunk: int | None, named: bool, listed: bool) -> None:
    features = model.features()
    losses = model.losses(features)
    given = {"tasks_params": model.own(), "shared_params": model.shared()} if named else {}
    _check(
        losses,
        model.shared(),
        model.own(),
        lambda: mtl_backward(
            losses, [features] if listed else features, parallel_chunk_size=chunk, **given
        ),
    )


def test_aggregated_at_once_or_later(model: Tasks) -> None:
    features = model.features()
    losses = model.losses(features)
    mtl_backward(losses, features, retain_graph=True)
    weights = jac_to_grad(model.shared(), UPGrad())
    found = _flat([p.grad for p in model.parameters()])
    model.zero_grad()
    mtl_backward(losses, features, UPGrad())
    assert weights is not None
    assert weights.shape == (2,)
    assert_close(found, _flat([p.grad for p in model.parameters()]))


def test_sum_is_plain_training(model: Tasks) -> None:
    features = model.features()
    losses = model.losses(features)
    sum(losses).backward(retain_graph=True)
    expected = _flat([p.grad for p in model.parameters()])
    for p in model.parameters():
        p.grad.fill_(1.0)  # existing gradients are added to
    mtl_backward(losses, features, Sum())
    assert_close(_flat([p.grad for p in model.parameters()]), expected + 1)


@pytest.mark.parametrize("retain", [True, False])
def test_tasks_with_a_common_head(model: Tasks, retain: bool) -> None:
    features = model.features()
    hidden = model.heads[1](features)
    losses = [hidden[:, 0].square().sum(), hidden[:, 1].exp().sum()]
    own = list(model.heads[1].parameters())
    _check(
        losses,
        model.shared(),
        [own, own],
        lambda: mtl_backward(losses, features, retain_graph=retain),
    )


def test_a_loss_that_ignores_the_features(model: Tasks) -> None:
    features = model.features()
    alone = torch.ones(2, dtype=torch.float64, requires_grad=True)
    losses = [model.losses(features)[0], alone.square().sum()]
    mtl_backward(losses, features)
    assert torch.equal(model.trunk[0].weight.jac[1], torch.zeros(4, 3, dtype=torch.float64))
    assert model.trunk[0].weight.jac[0].abs().sum() > 0
    assert alone.grad.tolist() == [2.0, 2.0]
    assert model.heads[1].weight.grad is None


def test_no_loss_reaches_the_features(model: Tasks) -> None:
    alone = torch.ones(2, dtype=torch.float64, requires_grad=True)
    mtl_backward([alone.sum(), alone.prod()], model.features(), Mean())
    assert alone.grad.tolist() == [2.0, 2.0]
    assert torch.equal(model.trunk[0].weight.grad, torch.zeros(4, 3, dtype=torch.float64))


def test_several_features(model: Tasks) -> None:
    one, two = model.features(), model.trunk(model.x.square())
    losses = [model.heads[0](one + two).mean(), model.heads[1](two).square().sum()]
    _check(losses, model.shared(), model.own(), lambda: mtl_backward(losses, [one, two]))


@pytest.mark.parametrize("retain", [True, False])
@pytest.mark.parametrize("order", [1, -1])
def test_features_computed_from_one_another(model: Tasks, retain: bool, order: int) -> None:
    # As the levels of a pyramid: what arrives at the lower one includes what arrived at the upper.
    lower = model.features()
    between = torch.full((4,), 0.5, dtype=torch.float64, requires_grad=True)
    upper = lower.square() * between
    losses = [model.heads[0](upper).mean(), model.heads[1](lower).sum() + upper.sum()]
    _check(
        losses,
        [*model.shared(), between],
        model.own(),
        lambda: mtl_backward(losses, [lower, upper][::order], retain_graph=retain),
    )


def test_a_loss_that_is_a_feature(model: Tasks) -> None:
    features = model.features()
    total = features.sum()
    losses = [total, model.losses(features)[1]]
    _check(
        losses,
        model.shared(),
        [[], model.own()[1]],
        lambda: mtl_backward(losses, [features, total]),
    )


def test_another_output_of_the_operation_that_gives_a_feature() -> None:
    torch.manual_seed(0)
    gru, head = nn.GRU(3, 4, batch_first=True).double(), nn.Linear(4, 1).double()
    outputs, last = gru(torch.randn(2, 5, 3, dtype=torch.float64))
    losses = [head(outputs).sum(), last.square().sum()]
    with pytest.raises(ValueError, match="both shared and of a task"):
        mtl_backward(losses, outputs)
    shared, own = list(gru.parameters()), [list(head.parameters()), []]
    _check(losses, shared, own, lambda: mtl_backward(losses, [outputs, last]))


def _penalized(model: Tasks) -> tuple[list[Tensor], Tensor]:
    features = model.features()
    losses = model.losses(features)
    return [losses[0], losses[1] + model.trunk[0].weight.square().sum()], features


def test_penalty_on_shared_weights_is_refused_with_a_remedy(model: Tasks) -> None:
    losses, features = _penalized(model)
    with pytest.raises(ValueError, match=r"shape \(4, 3\) of task 1.*name tasks_params"):
        mtl_backward(losses, features, Mean())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("shared_too", [True, False])
def test_the_remedy_counts_the_penalty(model: Tasks, shared_too: bool) -> None:
    losses, features = _penalized(model)
    given = {"shared_params": model.shared()} if shared_too else {}
    _check(
        losses,
        model.shared(),
        model.own(),
        lambda: mtl_backward(losses, features, tasks_params=model.own(), **given),
    )


def test_a_task_parameter_below_the_features(model: Tasks) -> None:
    features = model.features()
    losses = model.losses(features)
    first, last = model.trunk[0].weight, model.trunk[0].bias
    expected = torch.autograd.grad(losses[0], last, retain_graph=True)[0]
    jacobian = reference_jacobian(torch.stack(losses), [first])
    mtl_backward(losses, features, tasks_params=[[last], []], shared_params=[first])
    assert_close(last.grad, expected)
    assert_close(first.jac.flatten(1), jacobian)


def test_frozen_parameters_are_skipped(model: Tasks) -> None:
    model.heads[0].requires_grad_(False)
    model.trunk[0].bias.requires_grad_(False)
    features = model.features()
    losses = model.losses(features)
    _check(
        losses,
        [model.trunk[0].weight],
        [[], model.own()[1]],
        lambda: mtl_backward(
            losses, features, tasks_params=model.own(), shared_params=model.shared()
        ),
    )
    assert model.heads[0].weight.grad is None


def test_factors_of_losses(model: Tasks) -> None:
    features = model.features()
    vector = model.heads[1](features)
    factor = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    scalar = model.losses(features)[0]
    equivalent = [3 * scalar, (factor * vector).sum()]
    factors = [torch.tensor(3.0), factor]
    _check(
        equivalent,
        model.shared(),
        model.own(),
        lambda: mtl_backward([scalar, vector], features, grad_tensors=factors),
    )


def test_factors_where_the_rows_start_from_the_losses(model: Tasks) -> None:
    losses, features = _penalized(model)
    factors = [torch.tensor(3.0), torch.tensor(-2.0)]
    scaled = [3 * losses[0], -2 * losses[1]]
    _check(
        scaled,
        model.shared(),
        model.own(),
        lambda: mtl_backward(losses, features, tasks_params=model.own(), grad_tensors=factors),
    )


def test_complex_features(model: Tasks) -> None:
    features = torch.fft.fft(model.features())
    losses = [features.abs().sum(), features.imag.square().sum()]
    _check(losses, model.shared(), [[], []], lambda: mtl_backward(losses, features))


def test_sparse_gradient_of_a_task(model: Tasks) -> None:
    features = model.features()
    table = nn.Embedding(7, 4, sparse=True).double()
    task = (table(torch.tensor([1, 2, 1, 0, 3])) * features).sum()
    losses = [task, model.losses(features)[1]]
    expected = torch.autograd.grad(task, table.weight, retain_graph=True)[0].to_dense()
    mtl_backward(losses, features, Mean(), retain_graph=True)
    mtl_backward(losses, features, Mean())
    assert table.weight.grad.is_sparse
    assert_close(table.weight.grad.to_dense(), 2 * expected)


@pytest.mark.parametrize("retain", [True, False])
def test_graph_is_freed_or_kept(model: Tasks, retain: bool) -> None:
    features = model.features()
    losses = model.losses(features)
    mtl_backward(losses, features, Mean(), retain_graph=retain)
    if retain:
        mtl_backward(losses, features, Mean())
    with pytest.raises(ValueError, match="freed"):
        mtl_backward(losses, features, Mean())


def test_failure_leaves_gradients(model: Tasks) -> None:
    features = model.features()
    losses = model.losses(features)
    infinite = [losses[0], (model.heads[1](features) / 0).sum()]
    for given, aggregator, error in [
        (losses, lambda j: j.mean(0) / 0, NonFiniteGradientError),
        (infinite, Mean(), NonFiniteGradientError),
        (losses, lambda j: j, ValueError),
        (losses, lambda j: 1 / 0, ZeroDivisionError),
    ]:
        with pytest.raises(error):
            mtl_backward(given, features, aggregator, retain_graph=True)
    assert all(p.grad is None for p in model.parameters())


def test_refusals(model: Tasks) -> None:
    f = model.features()
    y = model.losses(f)
    own, shared = model.own(), model.shared()
    one = torch.tensor(1.0)
    for call, error, says in [
        (lambda: mtl_backward([], f), ValueError, "no loss"),
        (lambda: mtl_backward(y, []), ValueError, "no feature"),
        (lambda: mtl_backward([y[0], y[0]], f), ValueError, "loss at position 1 twice"),
        (lambda: mtl_backward(y, [f, f]), ValueError, "feature at position 1 twice"),
        (lambda: mtl_backward([y[0], y[1][None]], f), ValueError, r"shape \(1,\) at position 1"),
        (lambda: mtl_backward(torch.stack(y), f), ValueError, "unbind"),
        (lambda: mtl_backward([y[0], y[1].detach()], f), ValueError, "loss without a graph"),
        (lambda: mtl_backward(y, f.detach()), ValueError, "feature without a graph"),
        (lambda: mtl_backward(y, model.trunk[0].weight), ValueError, "a leaf as the feature"),
        (lambda: mtl_backward(y, f, tasks_params=own[:1]), ValueError, "for 2 losses"),
        (lambda: mtl_backward(y, f, tasks_params=own[0]), TypeError, "put it in a list"),
        (lambda: mtl_backward(y, f, tasks_params=[shared, []]), ValueError, "both shared and"),
        (lambda: mtl_backward(y, f, shared_params=shared[0]), TypeError, "put it in a list"),
        (lambda: mtl_backward(y, f, shared_params=[one]), ValueError, "requires no grad"),
        (lambda: mtl_backward(y, f, 0.5), TypeError, "float as aggregator"),
        (lambda: mtl_backward(y, f, own), TypeError, "list as aggregator"),
        (lambda: mtl_backward(y, f, parallel_chunk_size=0), ValueError, "at least 1"),
        (lambda: mtl_backward([1.0], f), TypeError, "loss at position 0"),
        (lambda: mtl_backward([y[0] * 1j], f), TypeError, "complex loss"),
        (lambda: mtl_backward(y, f, grad_tensors=[one]), ValueError, "1 grad_tensors for 2"),
        (lambda: mtl_backward(y, f, grad_tensors=[one, one[None]]), ValueError, "position 1"),
    ]:
        with pytest.raises(error, match=says):
            call()
    assert all(p.grad is None and not hasattr(p, "jac") for p in model.parameters())
    mtl_backward(y, f)  # the graph was not touched
