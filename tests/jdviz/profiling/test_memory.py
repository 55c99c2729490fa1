"""The memory curve of a step, against bytes worked out by hand."""

from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from jdviz.profiling.memory import PHASE_PREFIX, STEP, Timeline, read_timeline, thin


def timeline_of(step: Callable[[], object]) -> Timeline:
    with (
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof,
        record_function(STEP),
    ):
        step()
    return read_timeline(prof)


def test_allocations_and_frees_are_summed_from_zero() -> None:
    def step() -> None:
        first = torch.empty(1024)
        second = torch.empty(2048)
        del first
        third = torch.empty(256)
        del second, third

    timeline = timeline_of(step)
    # 1024, 2048 and 256 numbers of 4 bytes; the last point is the end of the step.
    assert timeline.live_bytes == [0, 4096, 12288, 8192, 9216, 1024, 0, 0]
    assert timeline.peak_bytes == 12288
    assert timeline.times_ms[0] == 0.0
    assert timeline.times_ms == sorted(timeline.times_ms)
    assert timeline.peak_ms == timeline.times_ms[2]


def test_what_was_there_before_is_not_subtracted() -> None:
    before = [torch.empty(4096)]

    def step() -> None:
        kept = torch.empty(1024)
        before.clear()
        more = torch.empty(1024)
        del kept, more

    assert timeline_of(step).live_bytes == [0, 4096, 8192, 4096, 0, 0]


def test_what_stays_alive_stays_in_the_curve() -> None:
    kept = []
    assert timeline_of(lambda: kept.append(torch.empty(512))).live_bytes == [0, 2048, 2048]


def test_peak_names_phase_and_the_operation_that_computes() -> None:
    a, b = torch.randn(64, 64), torch.randn(64, 64)

    def step() -> None:
        with record_function(PHASE_PREFIX + "small"):
            torch.ones(4)
        with record_function(PHASE_PREFIX + "large"):
            a @ b

    timeline = timeline_of(step)
    assert timeline.peak_bytes == 64 * 64 * 4
    assert (timeline.peak_phase, timeline.peak_operation) == ("large", "aten::mm")
    assert [phase.name for phase in timeline.phases] == ["small", "large"]
    small, large = timeline.phases
    assert 0 < small.start_ms < small.end_ms <= large.start_ms < timeline.peak_ms < large.end_ms


def test_memory_that_an_operation_asks_another_to_reserve_is_its_own() -> None:
    # ones() lets empty() reserve; the name that says something is ones().
    assert timeline_of(lambda: torch.ones(64)).peak_operation == "aten::ones"
    assert timeline_of(lambda: torch.empty(64)).peak_operation == "aten::empty"


def test_linear_model_in_closed_form() -> None:
    m, i, o = 8, 64, 32
    x, weight = torch.randn(m, i), torch.randn(o, i, requires_grad=True)

    def step() -> None:
        losses = (x @ weight.T).square().sum(1)
        losses.mean().backward()

    step()
    weight.grad = None
    timeline = timeline_of(step)
    # While the weight's gradient is made, alive are: that gradient, the output's gradient, the m
    # losses, their mean and the gradient of the mean.
    assert timeline.peak_bytes == 4 * (o * i + m * o + m + 1 + 1)
    assert timeline.live_bytes[-1] == 4 * o * i


def test_one_step_per_profile() -> None:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        torch.ones(3)
    with pytest.raises(ValueError, match="got 0 steps"):
        read_timeline(prof)


def test_a_short_curve_is_not_thinned() -> None:
    curve = ([0.0, 1.0, 2.0, 3.0], [0, 5, 1, 2])
    assert thin(*curve, limit=4) == curve


@pytest.mark.parametrize("count", [2001, 5000, 99991])
def test_a_long_curve_keeps_its_extremes(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    live_bytes = torch.randint(0, 10**6, (count,), generator=generator).tolist()
    peak, trough = count // 3, count // 2
    live_bytes[peak], live_bytes[trough] = 10**7, -1
    times_ms = [float(row) for row in range(count)]
    thin_times_ms, thin_bytes = thin(times_ms, live_bytes)
    assert len(thin_times_ms) == len(thin_bytes) <= 2000
    assert thin_times_ms == sorted(set(thin_times_ms))
    assert (thin_times_ms[0], thin_times_ms[-1]) == (0.0, count - 1.0)
    kept = dict(zip(thin_times_ms, thin_bytes, strict=True))
    assert all(live_bytes[int(time_ms)] == value for time_ms, value in kept.items())
    assert (kept[float(peak)], kept[float(trough)]) == (10**7, -1)


def test_a_curve_cannot_be_thinned_to_nothing() -> None:
    with pytest.raises(ValueError, match="got limit 3"):
        thin([0.0] * 9, [0] * 9, limit=3)
