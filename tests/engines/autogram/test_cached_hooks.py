"""Reference tests of hooks that come and go between calls of one engine, and of threads."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine
from tests.support.reference import reference_gramian, reference_jacobian
from tests.support.steps import assert_same_gradients, both_modes, draw, spread
from tests.support.tolerances import assert_close
from tests.support.watched import Watched

# What a call leaves behind may help the next one, so each form is tried without the other.
both_forms = pytest.mark.parametrize("fused_only", [False, True])


def _shrink(gradient: Tensor | None) -> Tensor | None:
    # By the norm of it all: neither linear nor sample by sample.
    return None if gradient is None else gradient / (1 + gradient.norm())


def _on_tensor(h: Tensor) -> Tensor:
    h.register_hook(_shrink)
    return h


def _on_node(h: Tensor) -> Tensor:
    h.grad_fn.register_hook(lambda sent, _: tuple(_shrink(g) for g in sent))
    return h


def _before_node(h: Tensor) -> Tensor:
    h.grad_fn.register_prehook(lambda gradients: tuple(_shrink(g) for g in gradients))
    return h


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "tensor": _on_tensor,
    "node": _on_node,
    "before the node": _before_node,
    "both": lambda h: _on_node(_on_tensor(h)),
}


@both_modes
@both_forms
@pytest.mark.parametrize("where", ["first", "middle", "losses", "weight"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_hook_in_the_third_step(
    change: str,
    where: str,
    fused_only: bool,
    batch_dim: int | None,
    pair: tuple[nn.Linear, nn.Linear],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = pair
    watched = Watched(monkeypatch, batch_dim, first, second)
    for step in range(4):
        hook = CHANGES[change] if step == 2 else lambda h: h
        weight = first.weight.T
        weight = hook(weight) if where == "weight" else weight
        h = torch.addmm(first.bias, draw(6, 4), weight)
        h = hook(h) if where == "first" else h
        h = h.tanh()
        h = hook(h) if where == "middle" else h
        losses = second(h).square().sum(1)
        watched.exact(hook(losses) if where == "losses" else losses, fused_only=fused_only)


@both_modes
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("hooked", [0, 1, 2])
def test_a_hook_on_one_of_several_results(
    number: int,
    hooked: int,
    batch_dim: int | None,
    pair: tuple[nn.Linear, nn.Linear],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = pair
    watched = Watched(monkeypatch, batch_dim, first, second)
    for step in range(3):
        results = second(first(draw(6, 4)).tanh()).square().unbind(1)
        if step == 2:
            results[hooked].register_hook(lambda g: None if g is None else g.cumsum(0))
        watched.exact(results[number])


@both_modes
@both_forms
def test_a_hook_on_a_graph_that_was_there_before(
    fused_only: bool,
    batch_dim: int | None,
    pair: tuple[nn.Linear, nn.Linear],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = pair
    watched = Watched(monkeypatch, batch_dim, first, second)
    old = first(draw(6, 4)).tanh()
    old.register_hook(_shrink)
    for _ in range(2):
        watched.exact(second(first(draw(6, 4)).tanh()).square().sum(1), fused_only=fused_only)
    watched.exact(second(old).square().sum(1), fused_only=fused_only)
    watched.exact(second(old * 1).square().sum(1), fused_only=fused_only)


@both_modes
@both_forms
@pytest.mark.parametrize("operations", [0, 20_000])
def test_a_graph_of_another_thread(
    operations: int,
    fused_only: bool,
    batch_dim: int | None,
    pair: tuple[nn.Linear, nn.Linear],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nodes are numbered thread by thread, so numbers do not say which one is older.
    first, second = pair
    watched = Watched(monkeypatch, batch_dim, first, second)

    def plain() -> Tensor:
        return second(first(draw(6, 4)).tanh()).square().sum(1)

    watched.exact(plain(), fused_only=fused_only)
    made: list[Tensor] = []

    def work() -> None:
        for _ in range(operations):
            first.bias * 1
        h = first(draw(6, 4)).tanh()
        h.register_hook(_shrink)
        made.append(second(h).square().sum(1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    watched.exact(plain(), fused_only=fused_only)
    watched.exact(made[0], fused_only=fused_only)


@both_modes
@both_forms
def test_a_graph_of_another_thread_with_the_same_numbers(
    fused_only: bool,
    batch_dim: int | None,
    pair: tuple[nn.Linear, nn.Linear],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = pair
    watched = Watched(monkeypatch, batch_dim, first, second)

    def plain() -> Tensor:
        return second(first(draw(6, 4)).tanh()).square().sum(1)

    watched.exact(plain(), fused_only=fused_only)
    ahead = torch.autograd._get_sequence_nr() + 2000
    made: list[Tensor] = []

    def work() -> None:
        while torch.autograd._get_sequence_nr() < ahead:
            first.bias * 1
        h = first(draw(6, 4)).tanh()
        h.register_hook(_shrink)
        made.append(second(h).square().sum(1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    watched.exact(plain(), fused_only=fused_only)
    while torch.autograd._get_sequence_nr() < ahead + 100:
        first.bias * 1
    watched.exact(made[0], fused_only=fused_only)


def test_engines_called_from_several_threads(pair: tuple[nn.Linear, nn.Linear]) -> None:
    first, second = pair
    engine = Engine(first, second, batch_dim=0)
    parameters = [*first.parameters(), *second.parameters()]
    inputs = [draw(6, 4) for _ in range(24)]
    failures: list[BaseException] = []

    def work(own: list[Tensor], hook: bool) -> None:
        try:
            for x in own:
                h = first(x).tanh()
                if hook:
                    h.register_hook(_shrink)
                losses = second(h).square().sum(1)
                found = engine.compute_gramian(losses)
                assert_close(found, reference_gramian(losses, parameters))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(inputs[n::3], n == 1)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@both_modes
def test_a_hook_on_a_parameter_in_the_third_step(
    batch_dim: int | None, pair: tuple[nn.Linear, nn.Linear], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    watched = Watched(monkeypatch, batch_dim, first, second)
    for step in range(4):
        handle = first.weight.register_hook(_shrink) if step == 2 else None
        watched.exact(second(first(draw(6, 4)).tanh()).square().sum(1))
        if handle is not None:
            handle.remove()


def test_weights_of_a_hooked_step_are_those_of_the_rows() -> None:
    # A linear hook in the third step: gradients are weighted sums of rows all the same.
    torch.manual_seed(0)
    first, second = nn.Linear(4, 5).double(), nn.Linear(5, 3).double()
    engine = Engine(first, second, batch_dim=0)
    for step in range(3):
        h = first(draw(6, 4)).tanh()
        if step == 2:
            h.register_hook(lambda gradient: 3 * gradient)
        losses = second(h).square().sum(1)
        rows = reference_jacobian(losses, [*first.parameters(), *second.parameters()])
        first.zero_grad()
        second.zero_grad()
        found = engine.backward(losses, spread)
        grads = [p.grad.flatten() for m in (first, second) for p in m.parameters()]
        assert_close(torch.cat(grads), found.weights @ rows)


def test_steps_of_several_threads() -> None:
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double() for _ in range(3)]
    inputs = [draw(6, 4) for _ in range(10)]
    expected = []
    for model in models:
        for x in inputs:
            losses = model(x).square().sum(1)
            losses.backward(spread(reference_gramian(losses, model.parameters())))
        expected.append([p.grad for p in model.parameters()])
        model.zero_grad()
    failures: list[BaseException] = []

    def work(model: nn.Module) -> None:
        try:
            engine = Engine(model, batch_dim=0)
            for x in inputs:
                engine.backward(model(x).square().sum(1), spread)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for model, gradients in zip(models, expected, strict=True):
        assert_same_gradients([p.grad for p in model.parameters()], gradients)
