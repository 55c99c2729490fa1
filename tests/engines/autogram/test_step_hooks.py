"""Reference tests of hooks in the fused step: what they see, and what they change."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engines.autogram import Engine
from engines.errors import UnsupportedGraphError
from tests.support.steps import (
    Scene,
    assert_same_gradients,
    assert_same_step,
    both_modes,
    draw,
    spread,
    two_pass,
)

HOOKS: dict[str, Callable[[Tensor], Tensor | None]] = {
    "scales": lambda gradient: 3 * gradient,
    "clamps": lambda gradient: gradient.clamp(-0.1, 0.1),
    "divides by its norm": lambda gradient: gradient / (gradient.norm() + 1),
    "looks": lambda gradient: gradient.clone() if gradient.ndim == 7 else None,
    "ignores": lambda gradient: None,
}
every_hook = pytest.mark.parametrize("hook", HOOKS)


def _pair() -> tuple[nn.Linear, nn.Linear]:
    return nn.Linear(4, 5).double(), nn.Linear(5, 3).double()


@every_hook
@both_modes
def test_a_hook_on_a_parameter(hook: str, batch_dim: int | None) -> None:
    def make() -> Scene:
        first, second = _pair()
        first.weight.register_hook(HOOKS[hook])
        second.bias.register_hook(HOOKS[hook])
        return Scene((first, second), second(first(draw(6, 4)).tanh()).square().sum(1))

    assert_same_step(make, batch_dim)


@every_hook
def test_a_hook_on_a_parameter_outside(hook: str) -> None:
    def make() -> Scene:
        first, second = _pair()
        first.weight.register_hook(HOOKS[hook])
        losses = second(first(draw(6, 4)).tanh()).square().sum(1)
        return Scene((second,), losses, tuple(first.parameters()))

    assert_same_step(make)


@every_hook
@both_modes
@pytest.mark.parametrize("samples", [1, 6])
def test_a_hook_on_an_activation(hook: str, batch_dim: int | None, samples: int) -> None:
    def make() -> Scene:
        first, second = _pair()
        h = first(draw(samples, 4)).tanh()
        h.register_hook(HOOKS[hook])
        return Scene((first, second), second(h).square().sum(1))

    assert_same_step(make, batch_dim)


@every_hook
@both_modes
@pytest.mark.parametrize("before", [True, False])
def test_a_hook_on_a_node(hook: str, batch_dim: int | None, before: bool) -> None:
    def on_node(*gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        changed = HOOKS[hook](gradients[0][0])
        return None if changed is None else (changed, *gradients[0][1:])

    def make() -> Scene:
        first, second = _pair()
        h = first(draw(6, 4)).tanh()
        register = h.grad_fn.register_prehook if before else h.grad_fn.register_hook
        register(on_node)
        return Scene((first, second), second(h).square().sum(1))

    assert_same_step(make, batch_dim)


@every_hook
@both_modes
def test_a_hook_on_the_losses(hook: str, batch_dim: int | None) -> None:
    def make() -> Scene:
        first, second = _pair()
        losses = second(first(draw(6, 4)).tanh()).square().sum(1)
        losses.register_hook(HOOKS[hook])
        return Scene((first, second), losses)

    assert_same_step(make, batch_dim)


@both_modes
def test_a_hook_on_one_of_several_results(batch_dim: int | None) -> None:
    def make() -> Scene:
        first, second = _pair()
        left, right = first(draw(6, 4)).split([2, 3], dim=1)
        right.register_hook(lambda gradient: gradient.clamp(-0.1, 0.1))
        h = torch.cat([right.tanh(), left], 1)
        return Scene((first, second), second(h).square().sum(1))

    assert_same_step(make, batch_dim)


@both_modes
def test_a_hook_between_a_transposition_and_the_weight(batch_dim: int | None) -> None:
    def make() -> Scene:
        first, second = _pair()
        turned = first.weight.T
        turned.register_hook(lambda gradient: gradient.clamp(-0.1, 0.1))
        return Scene((first, second), second((draw(6, 4) @ turned).tanh()).square().sum(1))

    assert_same_step(make, batch_dim)


@both_modes
def test_hooks_that_follow_the_accumulation_run_once(batch_dim: int | None) -> None:
    torch.manual_seed(0)
    seen: list[list[int]] = []
    gradients = []
    for fused in (True, False):
        torch.manual_seed(0)
        first, second, outside = *_pair(), nn.Linear(4, 4).double()
        parameters = [p for m in (first, second, outside) for p in m.parameters()]
        called = [0] * len(parameters)

        def count(parameter: Tensor, parameters=parameters, called=called) -> None:
            index = next(i for i, p in enumerate(parameters) if p is parameter)
            assert parameter.grad is not None
            called[index] += 1
            parameter.grad *= 2

        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(count)
        scene = Scene((first, second), second(first(outside(draw(6, 4))).tanh()).square().sum(1))
        if fused:
            Engine(first, second, batch_dim=batch_dim).backward(scene.losses, spread)
        else:
            two_pass(scene, batch_dim, spread)
        seen.append(called)
        gradients.append([p.grad for p in parameters])
    assert seen == [[1] * 6, [1] * 6]
    assert_same_gradients(*gradients)


@both_modes
def test_hooks_of_accumulation_nodes_run_once(batch_dim: int | None) -> None:
    calls: list[str] = []
    kept: list[object] = []

    def make() -> Scene:
        first, second = _pair()
        node = first.weight.view_as(first.weight).grad_fn.next_functions[0][0]
        node.register_prehook(lambda gradients: (calls.append("before"), (2 * gradients[0],))[1])
        node.register_hook(lambda *_: calls.append("after"))
        kept.append(node)
        return Scene((first, second), second(first(draw(6, 4)).tanh()).square().sum(1))

    assert_same_step(make, batch_dim)
    assert calls == ["before", "after"] * 2


def test_hooks_over_several_parameters_are_refused() -> None:
    # They ask which nodes of the pass will run, and torch cannot tell outside `backward`.
    first, second = _pair()
    parameters = [*first.parameters(), *second.parameters()]
    torch.autograd.graph.register_multi_grad_hook(parameters, lambda gradients: None)
    losses = second(first(draw(6, 4)).tanh()).square().sum(1)
    with pytest.raises(UnsupportedGraphError, match="register_multi_grad_hook"):
        Engine(first, second, batch_dim=0).backward(losses, spread)
    assert all(parameter.grad is None for parameter in parameters)


@both_modes
@pytest.mark.parametrize("kind", ["full", "pre"])
def test_backward_hooks_of_modules(batch_dim: int | None, kind: str) -> None:
    def make() -> Scene:
        first, second = _pair()
        if kind == "full":
            second.register_full_backward_hook(
                lambda module, sent, received: (sent[0].clamp(-0.1, 0.1),)
            )
        else:
            second.register_full_backward_pre_hook(
                lambda module, received: (received[0].clamp(-0.1, 0.1),)
            )
        return Scene((first, second), second(first(draw(6, 4)).tanh()).square().sum(1))

    assert_same_step(make, batch_dim)


@both_modes
def test_retained_gradients_of_activations_change_nothing(batch_dim: int | None) -> None:
    def make() -> Scene:
        first, second = _pair()
        h = first(draw(6, 4)).tanh()
        h.retain_grad()
        return Scene((first, second), second(h).square().sum(1))

    assert_same_step(make, batch_dim)
