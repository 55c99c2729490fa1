"""Measurements in child processes: they repeat exactly, and every failure is a sentence."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jdviz.profiling import (
    STEP_METHODS,
    Measurement,
    MeasurementError,
    MeasureSpec,
    StepMethod,
    measure,
    measuring,
)
from jdviz.training.children import child_environment

SPEC = MeasureSpec("digits_cnn", "small", 32, "autograd", "UPGrad", seed=1, repeats=5)


@pytest.fixture(scope="module")
def pairs() -> dict[StepMethod, tuple[Measurement, Measurement]]:
    """Two measurements of each method, each in a process of its own."""
    return {
        method: (measure(replace(SPEC, method=method)), measure(replace(SPEC, method=method)))
        for method in STEP_METHODS
    }


@pytest.mark.parametrize("method", STEP_METHODS)
def test_two_measurements_agree_in_every_byte(
    pairs: dict[StepMethod, tuple[Measurement, Measurement]], method: StepMethod
) -> None:
    one, other = pairs[method]
    assert one.peak_bytes == other.peak_bytes > 0
    assert one.live_bytes == other.live_bytes
    assert (one.peak_phase, one.peak_operation) == (other.peak_phase, other.peak_operation)


@pytest.mark.parametrize("method", STEP_METHODS)
def test_a_measurement_is_complete_and_survives_json(
    pairs: dict[StepMethod, tuple[Measurement, Measurement]], method: StepMethod
) -> None:
    one, _ = pairs[method]
    assert one.spec == replace(SPEC, method=method)
    assert one.peak_bytes == max(one.live_bytes)
    assert one.peak_ms == one.times_ms[one.live_bytes.index(one.peak_bytes)]
    assert (one.objectives, one.parameters) == (32, 9802)
    assert one.parameter_bytes == 4 * 9802
    assert len(one.durations_ms) == 5
    assert min(one.durations_ms) > 0
    assert one.threads == 1
    assert Measurement.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_the_jacobian_costs_more_memory_than_the_gramian(
    pairs: dict[StepMethod, tuple[Measurement, Measurement]],
) -> None:
    plain, jac, gram = (pairs[method][0].peak_bytes for method in STEP_METHODS)
    assert jac >= 4 * 32 * 9802
    assert plain < gram < jac


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"problem": "mnist"}, "no problem 'mnist'; choose one of digits_mlp"),
        ({"method": "sgd"}, "no method 'sgd'; choose one of autograd, autojac, autogram"),
        ({"aggregator": "Best"}, "no aggregator 'Best'"),
        ({"size": "huge"}, "no model size 'huge'; choose one of small"),
        ({"batch_size": 5000}, "larger than the 1,797 .* choose at most 256"),
        ({"threads": 0}, "Number of threads 0 is out of range; choose from 1"),
        ({"repeats": 0}, "Number of timed steps 0 is out of range"),
        ({"seed": -1}, "Seed -1 is out of range"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_specification_is_refused_before_a_process_starts(
    change: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(MeasurementError, match=sentence):
        measure(replace(SPEC, **change))


@pytest.mark.parametrize("kind", [MeasureSpec, Measurement])
def test_a_dictionary_of_the_wrong_form_is_refused(kind: Any) -> None:
    with pytest.raises(MeasurementError, match="must have"):
        kind.from_dict({"colour": "blue"})


def test_a_child_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def remember(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        children.append(popen(*args, **options))
        return children[-1]

    monkeypatch.setattr(subprocess, "Popen", remember)
    with pytest.raises(MeasurementError, match=r"longer than 0\.2 s and was ended; choose a sm"):
        measure(SPEC, timeout_s=0.2)
    assert children[0].returncode == -signal.SIGKILL
    assert not measuring()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the limit is Linux's")
def test_a_step_that_needs_more_memory_than_allowed_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing in the folder of the server may stand in for a package of the child.
    (tmp_path / "torch.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    large = replace(SPEC, size="large", batch_size=256, method="autojac")
    with pytest.raises(MeasurementError, match="more memory than the 32 MiB allowed; choose"):
        measure(large, memory_limit_bytes=32 * 2**20)


def test_a_child_whose_parent_is_gone_ends() -> None:
    request = {"spec": replace(SPEC, repeats=1000).to_dict(), "memory_limit_bytes": None}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "jdviz.profiling.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(threads=1),
        start_new_session=True,
    ) as child:
        assert child.stdin is not None
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.close()
        assert child.wait(timeout=30) == 1
        assert child.stdout is not None
        assert child.stdout.read() == b""


def test_measurements_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def child(*_: object) -> tuple[dict[str, Any], int]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return {}, 3

    monkeypatch.setattr(sys.modules["jdviz.profiling.measure"], "_run_child", child)
    sentences: list[str] = []

    def ask() -> None:
        try:
            measure(SPEC)
        except MeasurementError as error:
            sentences.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert (
        sentences
        == ["The measuring process ended without a result (exit status 3); try again."] * 3
    )


@pytest.mark.parametrize(
    ("answer", "returncode", "sentence"),
    [
        ({"error": "memory", "message": ""}, 0, "The step needs more memory than there is"),
        ({"error": "step", "message": "ValueError: no"}, 0, "The step failed with ValueError: no."),
        ({}, -signal.SIGKILL, "The system ended the measurement, most likely for lack of memory"),
        ({}, -signal.SIGSEGV, "ended without a result (exit status -11); try again."),
    ],
    ids=["memory", "step", "killed", "crashed"],
)
def test_every_failure_is_one_sentence(
    answer: dict[str, Any], returncode: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["jdviz.profiling.measure"]
    monkeypatch.setattr(module, "_run_child", lambda *_: (answer, returncode))
    with pytest.raises(MeasurementError) as caught:
        measure(SPEC)
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".")
