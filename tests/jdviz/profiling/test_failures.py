"""What a measurement says when there is no result, with answers put in the child's mouth."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from jdviz.problems.own import ProblemError
from jdviz.profiling import (
    Limits,
    MeasurementError,
    MeasureSpec,
    child,
    compare,
    measure,
    measure_times,
)
from jdviz.profiling.child import answer
from tests.support.measured import MEASUREMENT

# The package has a function of the same name.
MODULE = sys.modules["jdviz.profiling.measure"]
SPEC = MeasureSpec("digits_cnn", "small", 32, "sgd", "UPGrad", seed=1)
Answered = Callable[..., None]


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Answered:
    """Lets the child's answers be given by a test."""

    def put(reply: dict[str, Any], returncode: int | None = 0) -> None:
        monkeypatch.setattr(MODULE, "_run_child", lambda *_, **__: (reply, returncode))

    return put


def test_measurements_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def run_child(*_: object) -> tuple[dict[str, Any], int]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return {}, 3

    monkeypatch.setattr(MODULE, "_run_child", run_child)
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
    assert sentences == [
        "plain SGD: the measuring process ended at batch 32 without a result (exit status 3); "
        "try again."
    ] * len(threads)


SMALLER = "; choose a smaller batch or model."


@pytest.mark.parametrize(
    ("reply", "returncode", "limit", "sentence", "kind"),
    [
        ({"error": "memory", "message": ""}, 0, None, f"out of memory at batch 32{SMALLER}", "m"),
        (
            {"error": "memory", "message": ""},
            0,
            5 * 2**28,
            f"out of memory at batch 32, limit 1.25 GiB{SMALLER}",
            "m",
        ),
        ({"error": "step", "message": "ValueError: no."}, 0, None, "failed at batch 32 with", "s"),
        (
            {},
            -signal.SIGKILL,
            2**28,
            "ended by the system at batch 32, most likely for lack of memory, limit 256 MiB"
            + SMALLER,
            "m",
        ),
        (
            {},
            -signal.SIGSEGV,
            2**28,
            f"crashed at batch 32, most likely for lack of memory, limit 256 MiB{SMALLER}",
            "m",
        ),
        ({}, -signal.SIGSEGV, None, "without a result (signal 11); try again.", "e"),
        ({}, None, None, f"stopped at batch 32 after 120 s, the time limit{SMALLER}", "t"),
    ],
)
def test_every_failure_is_one_sentence(
    reply: dict[str, Any],
    returncode: int | None,
    limit: int | None,
    sentence: str,
    kind: str,
    answered: Answered,
) -> None:
    answered(reply, returncode)
    with pytest.raises(MeasurementError) as caught:
        measure(SPEC, Limits(memory_bytes=limit))
    said = str(caught.value)
    assert said.startswith("plain SGD: ")
    assert sentence in said
    assert said.endswith(".")
    assert not said.endswith("..")
    assert caught.value.kind[0] == kind


def test_a_refusal_of_the_child_keeps_its_words(answered: Answered) -> None:
    answered({"error": "refused", "message": "torchjd has no such thing."})
    with pytest.raises(MeasurementError, match=r"^torchjd has no such thing\.$") as caught:
        measure(SPEC)
    assert caught.value.kind == "refused"


def test_where_times_fail_the_bytes_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(MEASUREMENT, spec=SPEC)

    def run_child(request: dict[str, Any], *_: object) -> tuple[dict[str, Any], int | None]:
        return ({"found": found.to_dict()}, 0) if request["kind"] == "memory" else ({}, None)

    monkeypatch.setattr(MODULE, "_run_child", run_child)
    compared = compare([SPEC], limits=Limits(timeout_s=3))
    assert compared.measurements == [found]
    assert compared.times is None
    (failure,) = compared.failures
    assert failure.sentence.startswith("Timing: stopped at batch 32 after 3 s, the time limit;")
    assert failure.kind == "time"


def times_reply(disturbed: str = "") -> dict[str, Any]:
    return {
        "found": {
            "specs": [SPEC.to_dict()],
            "durations_ms": {"sgd": [1.0]},
            "errors": {},
            "failures": {},
            "waited_share": 0.0,
            "disturbed": disturbed,
            "machine": {},
        }
    }


def test_times_wait_for_quiet_and_are_not_labelled_then(
    answered: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "TOLD_EVERY_S", 0.0)
    answered(times_reply())
    busy = iter([False, False, True, True])
    told: list[str] = []
    times = measure_times([SPEC], watch=told.append, quiet=lambda: next(busy))
    assert told == ["Timing: waiting for the training runs on this server to end"] * 2
    assert times.disturbed == ""


@pytest.mark.parametrize(
    "answers",
    [[False, False], [True, False]],
    ids=["never quiet", "not quiet any more"],
)
def test_disturbed_times_are_labelled(
    answers: list[bool], answered: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "PATIENCE_S", 0.0)
    answered(times_reply())
    said = iter(answers)
    times = measure_times([SPEC], quiet=lambda: next(said))
    assert times.disturbed == ("Training runs used the cores meanwhile, so times may be longer.")
    # What the system saw says more.
    answered(times_reply("Other processes kept the cores busy."))
    said = iter(answers)
    again = measure_times([SPEC], quiet=lambda: next(said))
    assert again.disturbed == "Other processes kept the cores busy."


@pytest.mark.parametrize(
    ("raised", "reply"),
    [
        (MemoryError(), {"error": "memory", "message": ""}),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] can't allocate memory: you"), "memory"),
        (
            RuntimeError("shapes differ\nmore"),
            {"error": "step", "message": "RuntimeError: shapes differ"},
        ),
        (ProblemError("No such."), {"error": "refused", "message": "No such."}),
        (MeasurementError("Too few."), {"error": "refused", "message": "Too few."}),
        (MeasurementError("Plain.", "step"), {"error": "step", "message": "Plain."}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_child_says_what_kind_of_failure_it_met(
    raised: Exception, reply: dict[str, str] | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise raised

    monkeypatch.setattr(child, "find_subject", fail)
    request = {
        "kind": "memory",
        "spec": SPEC.to_dict(),
        "memory_limit_bytes": None,
        "threads": 1,
    }
    found = answer(request)
    assert found == reply if isinstance(reply, dict) else found["error"] == reply
