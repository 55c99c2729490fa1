"""Measurements in child processes: they repeat exactly, and every failure is a sentence."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jdviz.profiling import (
    OURS,
    SGD,
    Comparison,
    Limits,
    Measurement,
    MeasurementError,
    MeasureSpec,
    StepMethod,
    compare,
    inspect,
    measure,
    measure_times,
    measuring,
)
from jdviz.profiling.child import measure_here
from jdviz.training.children import child_environment

# The package has a function of the same name.
MODULE = sys.modules["jdviz.profiling.measure"]
SPEC = MeasureSpec("digits_cnn", "small", 32, "sgd", "UPGrad", seed=1)
METHODS: tuple[StepMethod, ...] = (*OURS, SGD)
ROUNDS = 2

# Starting a child takes seconds, so one comparison serves several tests.
pytestmark = pytest.mark.timeout(240)


def spec_of(method: StepMethod) -> MeasureSpec:
    return replace(SPEC, method=method)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Each method in a process of its own, and the times in another."""
    return compare([spec_of(method) for method in METHODS], rounds=ROUNDS)


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def peak_of(found: Measurement) -> tuple[object, ...]:
    """All that is said about the peak but when it was."""
    return (
        found.peak_bytes,
        found.peak_phase,
        found.peak_source,
        found.peak_split,
        found.peak_layers,
    )


def course_of(found: Measurement) -> tuple[object, ...]:
    """All that does not depend on the clock."""
    sources = [found.sources[place] for place in found.changed_by]
    return found.live_bytes, sources, [phase.name for phase in found.phases], peak_of(found)


@pytest.mark.parametrize("method", ["fused", "autojac"])
def test_two_measurements_agree_in_every_byte(comparison: Comparison, method: StepMethod) -> None:
    one = comparison.of(method)
    assert one is not None
    assert course_of(one) == course_of(measure(spec_of(method)))


@pytest.mark.parametrize("method", METHODS)
def test_a_peak_does_not_depend_on_what_its_process_did_before(
    comparison: Comparison, method: StepMethod
) -> None:
    one = comparison.of(method)
    assert one is not None
    # Before it, the engine may look for what it remembers here; that is a few bytes, one by one.
    assert peak_of(one) == peak_of(measure_here(spec_of(method)))


def test_a_comparison_has_the_bytes_and_the_times_of_every_method(comparison: Comparison) -> None:
    assert [one.spec for one in comparison.measurements] == [spec_of(one) for one in METHODS]
    assert comparison.failures == []
    for one in comparison.measurements:
        assert (one.objectives, one.parameters) == (32, 9802)
        assert one.parameter_bytes == 4 * 9802
        # Images of 8 x 8 in float32 and classes in int64.
        assert one.batch_bytes == 32 * (4 * 64 + 8)
        assert one.machine["threads"] == "1"
    assert comparison.times is not None
    assert list(comparison.times.durations_ms) == list(METHODS)
    assert all(len(taken) == ROUNDS for taken in comparison.times.durations_ms.values())
    assert Comparison.from_dict(json.loads(json.dumps(comparison.to_dict()))) == comparison


def test_the_jacobian_costs_more_memory_than_the_gramian(comparison: Comparison) -> None:
    fused, two_pass, jac, plain = (one.peak_bytes for one in comparison.measurements)
    assert jac >= 4 * 32 * 9802
    assert plain < fused < jac
    assert plain < two_pass < jac


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"problem": "mnist"}, "no problem 'mnist'; choose one of digits_mlp"),
        ({"method": "adam"}, "no method 'adam'; choose one of fused, two-pass, autojac, sgd"),
        ({"aggregator": "Best"}, "no aggregator 'Best'"),
        ({"device": "tpu"}, "no device 'tpu'; choose one of cpu, cuda"),
        ({"size": "huge"}, "no model size 'huge'; choose one of small"),
        ({"batch_size": 0}, "Batch 0 is out of range; choose from 1 to 131,072"),
        ({"threads": 0}, "Number of threads 0 is out of range; choose from 1"),
        ({"seed": -1}, "Seed -1 is out of range"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_specification_is_refused_before_a_process_starts(
    change: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    wrong = replace(SPEC, **change)
    for ask in (measure, lambda spec: measure_times([spec]), lambda spec: compare([SPEC, spec])):
        with pytest.raises(MeasurementError, match=sentence) as caught:
            ask(wrong)
        assert caught.value.kind == "refused"


@pytest.mark.parametrize(
    "specs",
    [[], [SPEC, replace(SPEC, batch_size=8)], [SPEC, replace(SPEC, aggregator="Mean")]],
    ids=["none", "batches", "aggregators"],
)
def test_times_are_of_one_step(specs: list[MeasureSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(MeasurementError, match=f"^got {len(specs)} specifications, expected"):
        measure_times(specs)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Every child that is started."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def remember(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", remember)
    return started


def test_a_child_that_takes_too_long_is_ended(children: list[subprocess.Popen[bytes]]) -> None:
    with pytest.raises(MeasurementError) as caught:
        measure(SPEC, Limits(timeout_s=0.2))
    assert str(caught.value) == (
        "plain SGD: stopped at batch 32 after 0.2 s, the time limit; "
        "choose a smaller batch or model."
    )
    assert caught.value.kind == "time"
    assert [one.returncode for one in children] == [-signal.SIGKILL]
    assert not measuring()


def test_who_watches_can_end_a_measurement(children: list[subprocess.Popen[bytes]]) -> None:
    told: list[str] = []

    def watch(sentence: str) -> None:
        assert measuring()
        told.append(sentence)
        if len(told) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        measure(SPEC, watch=watch)
    assert len(told) == 2
    assert all(one.startswith("plain SGD: measuring at batch 32, ") for one in told)
    assert [one.returncode for one in children] == [-signal.SIGKILL]
    assert not measuring()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the limit is Linux's")
def test_a_step_that_needs_more_memory_than_allowed_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing in the folder of the server may stand in for a package of the child.
    (tmp_path / "torch.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    # 512 rows of 8.6 million numbers are 16 GiB.
    huge = MeasureSpec("mlp", "2048", 512, "autojac", "UPGrad")
    small = MeasureSpec("digits_mlp", "small", 8, "sgd", "UPGrad")
    found = compare([huge, small], rounds=0, limits=Limits(memory_bytes=2**30))
    (failure,) = found.failures
    assert (failure.spec, failure.kind) == (huge, "memory")
    assert failure.sentence == (
        "autojac: out of memory at batch 512, limit 1 GiB; choose a smaller batch or model."
    )
    # The others stand.
    assert [one.spec for one in found.measurements] == [small]
    assert found.times is None


OWN = """
import os, signal, torch
from torch import nn

model, x = nn.Linear(3, 1), torch.ones(4, 3)

def good():
    return model, (x,), lambda outputs: outputs.square().sum(1)

def wrong():
    return model, (x,)

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise ArithmeticError("no way back.")

def failing():
    return model, (x,), lambda outputs: Fails.apply(outputs).sum(1)
"""


@pytest.mark.parametrize(
    ("path", "kind", "sentence"),
    [
        (
            "mine_measured:wrong",
            "refused",
            "mine_measured:wrong could not be loaded: the factory returned 2 values, expected "
            "(model, inputs, loss_fn) or (model, inputs, loss_fn, batch_dim); return three or "
            "four values.",
        ),
        (
            "mine_measured:killed",
            "memory",
            "plain SGD: ended by the system at batch 4, most likely for lack of memory; choose a "
            "smaller batch or model.",
        ),
        (
            "mine_measured:failing",
            "step",
            "plain SGD: failed at batch 4 with ArithmeticError: no way back.",
        ),
    ],
)
def test_what_a_visitors_own_model_does_is_a_sentence(
    path: str, kind: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_measured.py").write_text(OWN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MeasurementError) as caught:
        measure(MeasureSpec(path, "own", 4, "sgd", "UPGrad"))
    assert (str(caught.value), caught.value.kind) == (sentence, kind)
    assert not measuring()


def test_a_visitors_own_model_is_inspected_in_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_measured.py").write_text(OWN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = inspect("mine_measured:good")
    assert "mine_measured" not in sys.modules
    assert {use.parameter for use in found.uses} == {"weight", "bias"}
    assert (found.batch_size, found.objectives, found.parameters) == (4, 4, 4)
    assert not found.resizable


def test_a_child_whose_parent_is_gone_ends() -> None:
    request = {
        "kind": "times",
        "specs": [SPEC.to_dict()],
        "rounds": 10**6,
        "memory_limit_bytes": None,
        "threads": 1,
    }
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "jdviz.profiling.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(threads=1),
        start_new_session=True,
    ) as started:
        assert started.stdin is not None
        started.stdin.write(json.dumps(request).encode() + b"\n")
        started.stdin.close()
        assert started.wait(timeout=60) == 1
        assert started.stdout is not None
        assert started.stdout.read() == b""
