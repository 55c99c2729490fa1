"""Names of contractions under torch's profiler, and their absence without one."""

import re

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from engines.aggregation import UPGradWeighting
from engines.autogram import MARK_PREFIX, Engine, accumulation
from engines.autogram.marks import label_of, named


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 2))


def step(net: nn.Module) -> Tensor:
    losses = net(torch.ones(5, 4).cumsum(0)).square().sum(1)
    gramian, _ = Engine(net, batch_dim=0).backward(losses, UPGradWeighting())
    return gramian


def test_every_contraction_and_weighted_gradient_shows_with_its_node() -> None:
    net = model()
    step(net)
    with profile(activities=[ProfilerActivity.CPU]) as prof:
        step(net)
    marks = [event.name for event in prof.events() if event.name.startswith(MARK_PREFIX)]
    assert all(re.fullmatch(rf"{MARK_PREFIX}\w+#\d+", mark) for mark in marks)
    names = [mark.removeprefix(MARK_PREFIX).partition("#")[0] for mark in marks]
    # Once for the inner products and once for the weighted gradient, from the losses backwards
    # and then in whatever order; each node has a number of its own.
    assert sorted(names[:3]) == ["AddmmBackward0", "AddmmBackward0", "NativeLayerNormBackward0"]
    assert names[0] == "AddmmBackward0"
    assert set(names) == {"AddmmBackward0", "NativeLayerNormBackward0"}
    assert len(set(marks)) == 3
    assert all(marks.count(mark) >= 2 for mark in marks)


def test_the_number_is_that_of_the_operation_that_made_the_node() -> None:
    net = nn.Sequential(nn.Linear(4, 8))
    step(net)
    with profile(activities=[ProfilerActivity.CPU]) as prof:
        step(net)
    events = list(prof.events())
    mark = next(event.name for event in events if event.name.startswith(MARK_PREFIX))
    made = [event.sequence_nr for event in events if event.name == "aten::addmm"]
    assert int(mark.rpartition("#")[2]) == made[0]


def test_the_numbers_are_the_same_with_and_without_a_profiler() -> None:
    nets = model(), model()
    plain = step(nets[0])
    with profile(activities=[ProfilerActivity.CPU]):
        profiled = step(nets[1])
    assert torch.equal(plain, profiled)
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_without_a_profiler_there_is_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[str] = []

    def remember(label: str) -> object:
        labels.append(label)
        return named(label)

    monkeypatch.setattr(accumulation, "named", remember)
    step(model())
    assert labels
    assert set(labels) == {""}


def test_a_node_has_a_label_only_under_a_profiler() -> None:
    node = (torch.ones(2, requires_grad=True) * 2).grad_fn
    assert node is not None
    assert label_of(node) == ""
    with profile(activities=[ProfilerActivity.CPU]):
        assert label_of(node) == f"{MARK_PREFIX}MulBackward0#{node._sequence_nr()}"
