"""DistributedDataParallel beside other things: hooks, leaves outside, autocast, refusals."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engines.autogram import Engine
from engines.errors import GroupError, UnsupportedGroupError
from tests.engines.autogram.exchange.wrapped import (
    SIZES,
    Pairs,
    batches,
    check,
    counted,
    expected,
    gradient,
    losses_of,
    made,
    pairs_of,
    uneven,
)
from tests.support.ranks import Ranks
from tests.support.reference import reference_jacobian
from tests.support.tolerances import assert_close


def beside(rank: int, world_size: int) -> Pairs:
    """A scale that the engine tracks and another that it does not, both outside the wrapper."""
    plain = made("mlp")
    ddp = DistributedDataParallel(made("mlp"))
    tracked, same = (nn.PReLU(3).double() for _ in range(2))
    other, another = (nn.Parameter(torch.ones(3).double()) for _ in range(2))
    parts = batches((3, 2))
    step = Engine(ddp, tracked, batch_dim=0).backward(
        (tracked(ddp(parts[rank])) * other).square().sum(1), uneven
    )
    losses = (same(plain(torch.cat(parts))) * another).square().sum(1)
    jacobian = reference_jacobian(losses, [*plain.parameters(), *same.parameters()])
    weights = uneven(jacobian @ jacobian.T)
    (outer,) = torch.autograd.grad(losses, another, weights)
    return {
        "weights": (step.weights, weights),
        "tracked": (gradient(iter([*ddp.parameters(), *tracked.parameters()])), weights @ jacobian),
        "not tracked": (gradient(iter([other])), outer),
    }


def test_reference_parameters_outside_the_wrapper(two_ranks: Ranks) -> None:
    check([[pairs] for pairs in two_ranks.run(beside)])


def trained(rank: int, world_size: int) -> Pairs:
    """Five steps of an optimiser with momentum."""
    ends = []
    for alone in (False, True):
        model = made("mlp")
        wrapped = model if alone else DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        engine = Engine(wrapped, batch_dim=0)
        for seed in range(5):
            optimizer.zero_grad()
            x = batches((3, 4), seed)
            if alone:
                losses = losses_of(model, torch.cat(x))
                _, _, total = expected(model, losses)
                for parameter, piece in zip(
                    model.parameters(),
                    total.split([p.numel() for p in model.parameters()]),
                    strict=True,
                ):
                    parameter.grad = piece.view_as(parameter)
            else:
                engine.backward(losses_of(wrapped, x[rank]), uneven)
            optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    return {"parameters": (ends[0], ends[1])}


def test_reference_five_steps_of_an_optimiser(two_ranks: Ranks) -> None:
    check([[pairs] for pairs in two_ranks.run(trained)])


def autocast(rank: int, world_size: int) -> tuple[Pairs, int]:
    """Under autocast one process has the same roundings of activations."""
    model, plain = made("mlp", torch.float32), made("mlp", torch.float32)
    ddp = DistributedDataParallel(model)
    seen, engine = counted(ddp), Engine(ddp, batch_dim=0)
    parts = batches(SIZES, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(ddp, parts[rank]).float()
        whole = losses_of(plain, torch.cat(parts)).float()
    step = engine.backward(losses, uneven)
    return pairs_of(step, model, expected(plain, whole)), len(seen)


def test_reference_autocast(two_ranks: Ranks) -> None:
    answers = two_ranks.run(autocast)
    check([[pairs] for pairs, _ in answers], torch.bfloat16)
    assert [count for _, count in answers] == [1, 1]


def watch(model: nn.Module) -> tuple[nn.Parameter, list[Tensor], list[Tensor]]:
    """Put hooks on a bias: what the first one sees, and who comes to the second one."""
    seen: list[Tensor] = []
    after: list[Tensor] = []

    def clamp(gradient: Tensor) -> Tensor:
        seen.append(gradient.clone())
        return gradient.clamp(-0.01, 0.01)

    bias = model.get_parameter("0.bias")
    bias.register_hook(clamp)
    bias.register_post_accumulate_grad_hook(after.append)
    return bias, seen, after


def hooked(rank: int, world_size: int, wrapped: bool) -> tuple[Tensor, Tensor, Tensor, int]:
    """Weights, what a hook on a parameter saw last, what it made of it, and how many came after."""
    model = made("mlp")
    bias, seen, after = watch(model)
    module = DistributedDataParallel(model) if wrapped else model
    step = Engine(module, batch_dim=0).backward(losses_of(module, batches(SIZES)[rank]), uneven)
    assert bias.grad is not None
    return step.weights, seen[-1], bias.grad, len(after)


def test_reference_hooks_on_parameters(two_ranks: Ranks) -> None:
    whole = torch.cat(batches(SIZES))
    alone, plain = made("mlp"), made("mlp")
    bias, seen, after = watch(alone)
    weights = Engine(alone, batch_dim=0).backward(losses_of(alone, whole), uneven).weights
    assert bias.grad is not None
    # Without a wrapper a hook sees the gradient of the whole batch, as in one process.
    for weighed, saw, kept, count in two_ranks.run(hooked, False):
        assert_close(weighed, weights)
        assert_close(saw, seen[-1])
        assert_close(kept, bias.grad)
        assert count == len(after) == 1
    # With one it sees N times what its own rank has, before the wrapper averages.
    rows = reference_jacobian(losses_of(plain, whole), [plain.get_parameter("0.bias")])
    own = [2 * part.sum(0) for part in (weights[:, None] * rows).split(SIZES)]
    averaged = torch.stack([part.clamp(-0.01, 0.01) for part in own]).mean(0)
    for part, (weighed, saw, kept, count) in zip(own, two_ranks.run(hooked, True), strict=True):
        assert_close(weighed, weights)
        assert_close(saw, part)
        assert_close(kept, averaged)
        assert count == 1


class Silent(torch.autograd.Function):
    """Says that its second input has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        return x * scale.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0], None


class Muted(nn.Module):
    """A parameter that the graph reaches without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        out = Silent.apply(self.linear(x), self.scale)
        assert isinstance(out, Tensor)
        return out


def muted(rank: int, world_size: int) -> tuple[Tensor, int, int]:
    """Two steps: the second finds the wrapper done with the first."""
    torch.manual_seed(0)
    ddp = DistributedDataParallel(Muted().double())
    seen, engine = counted(ddp), Engine(ddp, batch_dim=0)
    for seed in (1, 2):
        step = engine.backward(losses_of(ddp, batches(SIZES, seed)[rank]), uneven)
    assert ddp.module.scale.grad is not None
    return step.weights, int(ddp.module.scale.grad.count_nonzero()), len(seen)


def test_a_parameter_without_a_gradient_does_not_keep_the_wrapper_waiting(
    two_ranks: Ranks,
) -> None:
    answers = two_ranks.run(muted)
    assert torch.equal(answers[0][0], answers[1][0])
    assert [rest for _, *rest in answers] == [[0, 2]] * 2


def static(rank: int, world_size: int) -> str:
    ddp = DistributedDataParallel(made("mlp"), static_graph=True)
    losses = losses_of(ddp, batches(SIZES)[rank])
    with pytest.raises(UnsupportedGroupError) as caught:
        Engine(ddp, batch_dim=0).backward(losses, uneven)
    return str(caught.value)


def test_a_static_graph_is_refused(two_ranks: Ranks) -> None:
    for message in two_ranks.run(static):
        assert message.startswith("got DistributedDataParallel(static_graph=True), expected False")


def of_another_group(rank: int, world_size: int) -> tuple[str, list[Tensor]]:
    """Pairs of ranks have a wrapper each: refused by all ranks, served for the pairs."""
    pairs = [dist.new_group([first, first + 1]) for first in (0, 2)]
    own = pairs[rank // 2]
    model = made("mlp")
    ddp = DistributedDataParallel(model, process_group=own)
    parts = batches((2, 3, 1, 2))
    with pytest.raises(UnsupportedGroupError) as caught:
        Engine(ddp, batch_dim=0).backward(losses_of(ddp, parts[rank]), uneven)
    step = Engine(ddp, batch_dim=0, process_group=own).backward(losses_of(ddp, parts[rank]), uneven)
    return str(caught.value), [step.gramian, step.weights, gradient(model.parameters())]


def test_a_wrapper_of_another_group_is_refused_unless_it_is_the_engines(four_ranks: Ranks) -> None:
    answers = four_ranks.run(of_another_group)
    parts = batches((2, 3, 1, 2))
    for rank, (message, found) in enumerate(answers):
        assert message.startswith("got DistributedDataParallel with another process group")
        first = rank // 2 * 2
        plain = made("mlp")
        known = expected(plain, losses_of(plain, torch.cat(parts[first : first + 2])))
        for one, other, same in zip(found, known, answers[first][1], strict=True):
            assert_close(one, other)
            assert torch.equal(one, same)


def around(rank: int, world_size: int) -> list[tuple[str, int]]:
    """Losses of the module inside, and of a graph that was used before."""
    found = []
    for again in (False, True):
        model = made("mlp")
        ddp = DistributedDataParallel(model)
        engine = Engine(ddp, batch_dim=0)
        losses = losses_of(ddp if again else model, batches(SIZES)[rank])
        if again:
            engine.backward(losses, uneven, retain_graph=True)
        with pytest.raises(GroupError) as caught:
            engine.backward(losses, uneven)
        left = sum(parameter.grad is not None for parameter in model.parameters())
        found.append((str(caught.value), left))
    return found


def test_losses_that_the_wrapper_does_not_know_of_are_refused(two_ranks: Ranks) -> None:
    for answer in two_ranks.run(around):
        for message, left in answer:
            assert message.startswith("got losses that DistributedDataParallel does not know of")
            assert left == 0
