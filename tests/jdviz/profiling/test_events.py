"""What the profiler's tree of events says of a step: every block, the parts and the layers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from engines.autogram import Engine, accumulation
from jdviz.profiling.events import Recorded, read_profile
from jdviz.profiling.marks import STEP, PhaseMarks, layer_marks
from jdviz.profiling.memory import Timeline, read_timeline
from jdviz.profiling.results import Source


def recorded(step: Callable[[], object]) -> Recorded:
    with (
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof,
        record_function(STEP),
    ):
        step()
    return read_profile(prof)


def timeline_of(step: Callable[[], object]) -> Timeline:
    return read_timeline(recorded(step))


def test_every_block_is_there() -> None:
    def step() -> None:
        first = torch.empty(1024)
        second = torch.empty(2048)
        del first
        third = torch.empty(256)
        del second, third

    found = recorded(step)
    # 1024, 2048 and 256 numbers of 4 bytes.
    assert [change.size for change in found.changes] == [4096, 8192, -4096, 1024, -8192, -1024]
    times_ms = [0.0, *(change.time_ms for change in found.changes), found.end_ms]
    assert times_ms == sorted(times_ms)
    addresses = [change.address for change in found.changes]
    assert addresses[0] == addresses[2]
    assert addresses[1] == addresses[4]
    assert addresses[3] == addresses[5]


def test_what_stays_alive_stays_in_the_curve() -> None:
    kept = []
    assert timeline_of(lambda: kept.append(torch.empty(512))).live_bytes == [0, 2048, 2048]


def test_the_peak_names_its_part_and_the_operation_that_computes() -> None:
    a, b = torch.randn(64, 64), torch.randn(64, 64)
    marks = PhaseMarks()

    def step() -> None:
        marks.begin("small")
        torch.ones(4)
        marks.switch("large")
        a @ b
        marks.close()

    timeline = timeline_of(step)
    assert timeline.peak_bytes == 64 * 64 * 4
    assert (timeline.peak_phase, timeline.peak_source) == ("large", Source("", "aten::mm"))
    small, large = timeline.phases
    assert (small.name, large.name) == ("small", "large")
    assert 0 < small.start_ms < small.end_ms <= large.start_ms < timeline.peak_ms < large.end_ms


def test_memory_that_an_operation_asks_another_to_reserve_is_its_own() -> None:
    # ones() lets empty() reserve; the name that says something is ones().
    assert timeline_of(lambda: torch.ones(64)).peak_source.operation == "aten::ones"
    assert timeline_of(lambda: torch.empty(64)).peak_source.operation == "aten::empty"


@pytest.mark.parametrize("steps", [0, 2])
def test_one_step_per_profile(steps: int) -> None:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        for _ in range(steps):
            with record_function(STEP):
                torch.ones(3)
        torch.ones(3)
    with pytest.raises(ValueError, match=f"got {steps} steps in the profile, expected one"):
        read_profile(prof)


def model() -> nn.Sequential:
    """The two convolutions' blocks have sizes of their own."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(80, 2)
    )


def layers_by_part(differentiate: Callable[[nn.Module, Tensor], object]) -> dict[str, set[str]]:
    """Which layers allocated in which part of a step."""
    net, x, marks = model(), torch.randn(7, 1, 8, 8), PhaseMarks()

    def step() -> None:
        marks.begin("forward")
        losses = net(x).square().sum(1)
        marks.switch("after")
        differentiate(net, losses)
        marks.close()

    step()
    net.zero_grad()
    with layer_marks(net):
        found = recorded(step)
    layers: dict[str, set[str]] = {phase.name: set() for phase in found.phases}
    for change in found.changes:
        for phase in found.phases:
            if phase.start_ms <= change.time_ms <= phase.end_ms and change.size > 0:
                layers[phase.name].add(change.source.layer)
    return layers


# The loss is made outside of all layers; a flattened tensor is a view.
LAYERS = {"", "0", "1", "2", "4"}


def gramian(net: nn.Module, losses: Tensor) -> object:
    return Engine(net, batch_dim=0).compute_gramian(losses)


def jacobian(net: nn.Module, losses: Tensor) -> object:
    return torch.autograd.grad(losses, list(net.parameters()), torch.eye(7), is_grads_batched=True)


@pytest.mark.parametrize(
    "differentiate",
    [lambda _, losses: losses.mean().backward(), gramian, jacobian],
    ids=["backward", "gramian", "jacobian"],
)
def test_every_layer_is_named_on_the_way_there_and_back(
    differentiate: Callable[[nn.Module, Tensor], object],
) -> None:
    found = layers_by_part(differentiate)
    assert found == {"forward": LAYERS, "after": LAYERS}


def test_gradients_are_made_by_the_layers_that_own_them() -> None:
    net, x = model(), torch.randn(7, 1, 8, 8)

    def step() -> None:
        net(x).square().sum(1).mean().backward()

    step()
    net.zero_grad()
    with layer_marks(net):
        found = recorded(step)
    made = {change.address: change for change in found.changes if change.size > 0}
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        change = made[parameter.grad.untyped_storage().data_ptr()]
        assert change.source.layer == name.rpartition(".")[0]
        assert change.size == parameter.grad.untyped_storage().nbytes()


def test_contractions_are_named_after_the_layer_whose_parameters_they_are_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "0" in layers_by_part(gramian)["after"]
    # Nothing but its contraction is done for the first layer, and that lies in a hook.
    monkeypatch.setattr(accumulation, "label_of", lambda node: "")
    assert "0" not in layers_by_part(gramian)["after"]


@pytest.mark.parametrize(
    "differentiate",
    [lambda _, losses: losses.mean().backward(), gramian, jacobian],
    ids=["backward", "gramian", "jacobian"],
)
def test_marks_of_layers_cost_no_byte(
    differentiate: Callable[[nn.Module, Tensor], object],
) -> None:
    net, x = model(), torch.randn(7, 1, 8, 8)

    def step() -> None:
        differentiate(net, net(x).square().sum(1))
        net.zero_grad()

    step()
    plain = timeline_of(step)
    with layer_marks(net):
        marked = timeline_of(step)
    assert marked.live_bytes == plain.live_bytes
    assert marked.peak_bytes == plain.peak_bytes
    assert marked.peak_source.operation == plain.peak_source.operation
