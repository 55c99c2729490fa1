"""Tests of observers: they see what the engine returns, change nothing, and cost nothing."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from engines.aggregation import UPGradWeighting
from engines.autogram import Engine
from tests.support.architectures import ARCHITECTURES, Architecture
from tests.support.reference import reference_gramian
from tests.support.steps import assert_same_gradients, both_modes, draw, spread
from tests.support.tolerances import assert_close

FORMS = ["compute_gramian", "backward"]


class Seen:
    """A callback that keeps what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __call__(self, *values: object) -> None:
        self.calls.append(values)


def _run(engine: Engine, losses: Tensor, form: str) -> Tensor:
    if form == "backward":
        return engine.backward(losses, spread, retain_graph=True).gramian
    return engine.compute_gramian(losses)


@pytest.fixture
def model(pair: tuple[nn.Linear, nn.Linear]) -> nn.Sequential:
    return nn.Sequential(pair[0], nn.Tanh(), pair[1])


@pytest.fixture
def losses(model: nn.Sequential) -> Tensor:
    return model(draw(6, 4)).square().sum(1)


def test_it_sees_what_a_fused_step_returns(model: nn.Sequential, losses: Tensor) -> None:
    engine, seen = Engine(model, batch_dim=0), Seen()
    engine.observe(seen)
    step = engine.backward(losses, UPGradWeighting())
    ((found, gramian, weights),) = seen.calls
    assert torch.equal(found, losses)
    assert not found.requires_grad
    assert gramian is step.gramian
    assert weights is step.weights


def test_it_sees_what_compute_gramian_returns(model: nn.Sequential, losses: Tensor) -> None:
    engine, seen = Engine(model, batch_dim=0), Seen()
    engine.observe(seen)
    gramian = engine.compute_gramian(losses)
    ((found, observed, weights),) = seen.calls
    assert torch.equal(found, losses)
    assert observed is gramian
    assert weights is None


@pytest.mark.parametrize("form", FORMS)
def test_generalized_gramians_stay_generalized(form: str, model: nn.Sequential) -> None:
    engine, seen = Engine(model, batch_dim=0), Seen()
    engine.observe(seen, by_module=True)
    y = model(draw(6, 4)).square()
    _run(engine, y, form)
    found, gramian, _, shares = seen.calls[0]
    assert found.shape == (6, 3)
    assert gramian.shape == (6, 3, 3, 6)
    assert [share.shape for share in shares.values()] == [gramian.shape] * 2


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_written_before_it_is_called(
    form: str, model: nn.Sequential, losses: Tensor
) -> None:
    engine = Engine(model, batch_dim=0)
    written = []
    engine.observe(lambda *_: written.append(model[0].weight.grad is not None))
    _run(engine, losses, form)
    assert written == [form == "backward"]


@pytest.mark.parametrize(
    "architecture", [a for a in ARCHITECTURES if not a.random], ids=lambda a: a.id
)
def test_shares_of_a_fused_step_are_those_of_compute_gramian(architecture: Architecture) -> None:
    gradients, seen = [], Seen()
    for observed in (True, False):
        model, inputs = architecture.build(torch.float64)
        engine = Engine(model, batch_dim=0)
        if observed:
            engine.observe(seen, by_module=True)
            expected = Engine(model, batch_dim=0).compute_gramian(
                architecture.losses(model, inputs), by_module=True
            )
        # Twice, as the second step follows a plan that was kept.
        for _ in range(2):
            model.zero_grad()
            step = engine.backward(architecture.losses(model, inputs), spread)
        gradients.append([parameter.grad for parameter in model.parameters()])
    whole = reference_gramian(architecture.losses(model, inputs), model.parameters())
    assert len(seen.calls) == 2
    for _, gramian, weights, shares in seen.calls:
        assert list(shares) == list(expected)
        scale = gramian.norm()
        for name, share in shares.items():
            assert float((share - expected[name]).norm() / scale) <= 1e-12, name
        assert torch.equal(sum(shares.values()), gramian)
        assert torch.equal(gramian, gramian.T)
        assert_close(gramian, whole)
        assert_close(weights, step.weights)
    assert_same_gradients(gradients[0], gradients[1])


@both_modes
def test_parameters_on_the_general_path_have_their_share(batch_dim: int | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.PReLU(), nn.Linear(5, 3)).double()
    seen, engine = Seen(), Engine(model, batch_dim=batch_dim)
    engine.observe(seen, by_module=True)
    losses = model(draw(6, 4)).square().sum(1)
    engine.backward(losses, spread, retain_graph=True)
    shares = seen.calls[0][3]
    for name, layer in zip(("0", "1", "2"), model, strict=True):
        assert_close(shares[name], reference_gramian(losses, layer.parameters()))


def test_one_node_may_serve_parameters_of_two_modules() -> None:
    torch.manual_seed(0)
    one, other = nn.Linear(4, 3).double(), nn.Linear(1, 3).double()
    seen, engine = Seen(), Engine(nn.ModuleDict({"w": one, "b": other}), batch_dim=0)
    engine.observe(seen, by_module=True)
    losses = nn.functional.linear(draw(6, 4), one.weight, other.bias).square().sum(1)
    engine.backward(losses, spread, retain_graph=True)
    _, _, weights, shares = seen.calls[0]
    assert_close(shares["w"], reference_gramian(losses, [one.weight]))
    assert_close(shares["b"], reference_gramian(losses, [other.bias]))
    expected = torch.autograd.grad(losses, [one.weight, other.bias], weights)
    assert_same_gradients([one.weight.grad, other.bias.grad], expected)


@pytest.mark.parametrize("form", FORMS)
def test_a_function_decides_at_every_call(form: str, model: nn.Sequential, losses: Tensor) -> None:
    answers = iter([True, False, True])
    engine, asking, plain, always = Engine(model, batch_dim=0), Seen(), Seen(), Seen()
    engine.observe(asking, by_module=lambda: next(answers))
    engine.observe(plain)
    for _ in range(2):
        _run(engine, losses, form)
    assert [call[3] is not None for call in asking.calls] == [True, False]
    handle = engine.observe(always, by_module=True)
    _run(engine, losses, form)
    handle.remove()
    assert next(answers, None) is None
    assert [len(call) for call in plain.calls] == [3, 3, 3]
    # Who did not ask gets none though another did; who did has a dict of its own.
    assert list(asking.calls[2][3]) == list(always.calls[0][3])
    assert asking.calls[2][3] is not always.calls[0][3]


def test_only_who_asked_gets_shares(model: nn.Sequential, losses: Tensor) -> None:
    engine, never, always = Engine(model, batch_dim=0), Seen(), Seen()
    engine.observe(never, by_module=lambda: False)
    engine.observe(always, by_module=True)
    gramian = engine.compute_gramian(losses)
    assert never.calls[0][3] is None
    assert torch.equal(sum(always.calls[0][3].values()), gramian)


def test_shares_that_a_caller_asked_for_are_returned_whole(
    model: nn.Sequential, losses: Tensor
) -> None:
    engine, plain, split = Engine(model, batch_dim=0), Seen(), Seen()
    expected = engine.compute_gramian(losses, by_module=True)
    engine.observe(plain)
    engine.observe(split, by_module=True)
    shares = engine.compute_gramian(losses, by_module=True)
    assert list(shares) == ["0", "2"]
    for name, share in shares.items():
        assert torch.equal(share, expected[name])
        assert split.calls[0][3][name] is share
    assert torch.equal(plain.calls[0][1], shares["0"] + shares["2"])


def test_steps_without_a_split_are_the_same_to_the_bit(model: nn.Sequential) -> None:
    x = draw(6, 4)
    steps, gradients = [], []
    for observed in (False, True):
        engine = Engine(model, batch_dim=0)
        if observed:
            engine.observe(lambda *_: None, by_module=lambda: False)
        model.zero_grad()
        steps.append(engine.backward(model(x).square().sum(1), UPGradWeighting()))
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert torch.equal(steps[0].gramian, steps[1].gramian)
    assert torch.equal(steps[0].weights, steps[1].weights)
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_a_plain_plan_is_not_mistaken_for_a_split_one(model: nn.Sequential) -> None:
    # The same graph, fused, with and without labels: two entries among what the engine keeps.
    engine, seen, x = Engine(model, batch_dim=0), Seen(), draw(6, 4)
    answers = iter([False, True, False, True])
    engine.observe(seen, by_module=lambda: next(answers))
    for _ in range(4):
        engine.backward(model(x).square().sum(1), spread)
    assert [call[3] is not None for call in seen.calls] == [False, True, False, True]
    assert torch.equal(seen.calls[0][1], seen.calls[2][1])
    assert torch.equal(seen.calls[1][1], seen.calls[3][1])
    assert_close(seen.calls[0][1], seen.calls[1][1])


@pytest.mark.parametrize("form", FORMS)
def test_no_sample_at_all(form: str, model: nn.Sequential) -> None:
    engine, seen = Engine(model, batch_dim=0), Seen()
    engine.observe(seen, by_module=True)
    _run(engine, model(draw(0, 4)).sum(1), form)
    found, gramian, _, shares = seen.calls[0]
    assert found.shape == (0,)
    assert gramian.shape == (0, 0)
    assert {name: tuple(share.shape) for name, share in shares.items()} == {
        "0": (0, 0),
        "2": (0, 0),
    }


def test_observers_are_called_in_order_until_they_are_removed(
    model: nn.Sequential, losses: Tensor
) -> None:
    engine, order = Engine(model, batch_dim=0), []
    first = engine.observe(lambda *_: order.append("first"))
    with engine.observe(lambda *_: order.append("second")):
        engine.compute_gramian(losses)
    engine.compute_gramian(losses)
    first.remove()
    first.remove()
    engine.compute_gramian(losses)
    assert order == ["first", "second", "first"]


def test_one_that_removes_another_spares_it_this_call(model: nn.Sequential, losses: Tensor) -> None:
    engine, seen = Engine(model, batch_dim=0), Seen()
    handles: list[RemovableHandle] = []
    engine.observe(lambda *_: handles[0].remove())
    handles.append(engine.observe(seen))
    engine.compute_gramian(losses)
    assert seen.calls == []


@pytest.mark.parametrize("form", FORMS)
def test_an_exception_leaves_the_call_and_the_engine_goes_on(
    form: str, model: nn.Sequential, losses: Tensor
) -> None:
    engine, seen = Engine(model, batch_dim=0), Seen()

    def fail(*_: object) -> None:
        raise OSError("no space")

    handle = engine.observe(fail)
    engine.observe(seen)
    with pytest.raises(OSError, match=r"^no space$"):
        _run(engine, losses, form)
    assert seen.calls == []
    assert (model[0].weight.grad is not None) == (form == "backward")
    handle.remove()
    _run(engine, losses, form)
    assert len(seen.calls) == 1


def test_copies_have_no_observers(model: nn.Sequential, losses: Tensor) -> None:
    engine, seen = Engine(model, batch_dim=0), Seen()
    # A lambda can be neither pickled nor copied by value.
    engine.observe(lambda *values: seen(*values))
    copies = (copy.copy(engine), copy.deepcopy(engine), pickle.loads(pickle.dumps(engine)))
    for other in copies:
        twin = other._modules[0]
        other.compute_gramian(twin(draw(6, 4)).square().sum(1))
    assert seen.calls == []
    engine.compute_gramian(losses)
    assert len(seen.calls) == 1


@pytest.mark.parametrize("form", FORMS)
def test_no_graph_is_kept_alive(form: str, model: nn.Sequential) -> None:
    engine, shapes = Engine(model, batch_dim=0), []
    engine.observe(lambda losses, *_: shapes.append(losses.shape), by_module=True)
    gc.collect()
    gc.disable()
    try:
        h = model[0](draw(6, 4))
        alive = weakref.ref(h)
        losses = model[2](h.tanh()).square().sum(1)
        _run(engine, losses, form)
        del h, losses
        assert alive() is None
    finally:
        gc.enable()
    assert shapes == [(6,)]


def test_what_is_removed_is_let_go(model: nn.Sequential) -> None:
    engine, seen = Engine(model, batch_dim=0), Seen()
    alive = weakref.ref(seen)
    handle = engine.observe(seen)
    del seen
    assert alive() is not None
    handle.remove()
    assert alive() is None


def test_refusals(model: nn.Sequential) -> None:
    engine = Engine(model, batch_dim=0)
    with pytest.raises(
        TypeError, match=r"^got NoneType as callback, expected a function of losses"
    ):
        engine.observe(None)
    with pytest.raises(
        TypeError, match=r"^got by_module='all', expected True, False or a function"
    ):
        engine.observe(print, by_module="all")
