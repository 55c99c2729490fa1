"""Durations of several methods in turn: as many of each, and their gradients compared."""

import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from jdviz.profiling import (
    OURS,
    PEERS,
    SGD,
    MeasurementError,
    MeasureSpec,
    StepMethod,
    steps,
    timing,
)
from jdviz.profiling.timing import sentence, time_here
from tests.support.subjects import I, O, linear_spec, linear_subject

SPEC = MeasureSpec("digits_mlp", "small", 8, "fused", "Mean")
ALL: tuple[StepMethod, ...] = (SGD, *OURS)


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def specs(*methods: StepMethod, aggregator: str = "Mean") -> list[MeasureSpec]:
    return [replace(SPEC, method=method, aggregator=aggregator) for method in methods]


def test_every_method_has_one_duration_for_each_round() -> None:
    asked = specs(*OURS, SGD)
    times = time_here(asked, rounds=3)
    assert times.specs == asked
    assert list(times.durations_ms) == [*OURS, SGD]
    assert all(len(taken) == 3 for taken in times.durations_ms.values())
    assert all(ms > 0 for taken in times.durations_ms.values() for ms in taken)
    assert times.failures == {}
    assert times.machine["threads"] == "1"


def test_with_mean_weights_every_gradient_is_that_of_the_plain_step() -> None:
    errors = time_here(specs(*ALL), rounds=1).errors
    assert set(errors) == set(ALL)
    assert errors[SGD] == 0.0
    # Float32, two orders of summation.
    assert max(errors.values()) < 1e-5


def test_errors_are_given_only_where_they_say_something() -> None:
    assert time_here(specs(*ALL, aggregator="UPGrad"), rounds=1).errors == {}
    assert time_here(specs("fused"), rounds=1).errors == {}


class FailsOnce(nn.Module):
    """Raises in its second forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(I, O))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 2:
            raise ValueError("no second step\nwith more on another line")
        return x @ self.weight


def test_a_method_that_fails_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FailsOnce()
    monkeypatch.setattr(timing, "find_subject", lambda name: linear_subject(model))
    asked = [linear_spec("sgd"), linear_spec("two-pass"), linear_spec("fused")]
    times = time_here(asked, rounds=2)
    assert times.failures == {"two-pass": "failed with ValueError: no second step"}
    assert set(times.durations_ms) == {"sgd", "fused"}
    assert set(times.errors) == {"sgd", "fused"}


def test_where_every_method_fails_there_are_no_durations(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FailsOnce()
    model.calls = 1
    monkeypatch.setattr(timing, "find_subject", lambda name: linear_subject(model))
    times = time_here([linear_spec("two-pass")], rounds=None)
    assert times.failures == {"two-pass": "failed with ValueError: no second step"}
    assert (times.durations_ms, times.disturbed) == ({}, "")


def test_without_the_plain_step_there_is_nothing_to_compare_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = FailsOnce()
    model.calls = 1
    monkeypatch.setattr(timing, "find_subject", lambda name: linear_subject(model))
    with pytest.raises(MeasurementError, match=r"^The plain step failed with Val.* second step\.$"):
        time_here([linear_spec("sgd"), linear_spec("fused")], rounds=1)


class BreaksLater(nn.Module):
    """Has gradients that are not finite from its second step on."""

    def __init__(self, first: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(I, O))
        self.scale = first

    def forward(self, x: Tensor) -> Tensor:
        scale, self.scale = self.scale, torch.nan
        return x @ self.weight * scale


def test_gradients_that_are_not_finite_are_no_error_but_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The second plain step stands for any method that passes on what is not finite.
    monkeypatch.setattr(timing, "find_subject", lambda name: linear_subject(BreaksLater(1.0)))
    monkeypatch.setitem(steps._MAKERS, "two-pass", steps._MAKERS["sgd"])
    times = time_here([linear_spec("sgd"), linear_spec("two-pass")], rounds=1)
    assert times.failures == {
        "two-pass": "left gradients that are not finite, unlike the plain step"
    }
    assert times.errors == {"sgd": 0.0}


def test_without_a_finite_plain_step_there_are_no_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "find_subject", lambda name: linear_subject(BreaksLater(torch.nan)))
    times = time_here([linear_spec("sgd")], rounds=1)
    assert (times.failures, times.errors) == ({}, {})
    assert len(times.durations_ms["sgd"]) == 1


def test_a_peer_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd.autogram", None)
    times = time_here(specs(SGD, PEERS[0]), rounds=1)
    assert set(times.durations_ms) == {SGD}
    assert times.failures[PEERS[0]].startswith("torchjd has no autogram.Engine here")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (KeyError(), "KeyError"),
        (RuntimeError("  \n"), "RuntimeError"),
    ],
)
def test_an_exception_is_one_line(error: Exception, said: str) -> None:
    assert sentence(error) == said
