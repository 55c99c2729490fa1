"""What becomes of a run with other methods: the same batches, one state, and refusals in words."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from engines.aggregation import METHODS
from engines.errors import SolverError
from jdviz.problems import PROBLEMS
from jdviz.training import (
    MAX_STEPS_AHEAD,
    ConfigError,
    Futures,
    FuturesError,
    Refused,
    RunConfig,
    ask_futures,
    asking,
    counterfactual,
)
from jdviz.training.checkpoints import CheckpointError, pack, restore
from jdviz.training.counterfactual import futures
from jdviz.training.futures import EVALUATED
from jdviz.training.loop import Trainer

BASE = RunConfig(
    problem="digits_mlp",
    size="small",
    batch_size=8,
    optimizer="momentum",
    learning_rate=0.05,
    engine="both",
    aggregator="UPGrad",
    seed=3,
    steps=20,
    conflict=0.5,
)
METHODS_ASKED = ["Mean", "UPGrad", "GradDrop"]


@pytest.fixture(scope="module")
def checkpoint() -> bytes:
    run = Trainer(BASE)
    for _ in range(3):
        run.advance()
    return pack(run)


def losses_by_hand(run: Trainer, rows: Any) -> np.ndarray:
    data = run.data
    batch = type(run.problem.batch(data, 0, 8, 3))((data.inputs[rows], data.targets[rows]), None)
    with torch.no_grad():
        found: np.ndarray = run.problem.losses(run.model, batch).double().numpy()
    return found


def test_the_runs_own_method_goes_on_as_the_run_did(checkpoint: bytes) -> None:
    found = futures(BASE, 3, checkpoint, 5, METHODS_ASKED, 3)
    assert [one.method for one in found.futures] == ["UPGrad", "Mean", "GradDrop"]
    assert (found.step, found.steps_ahead, found.evaluated) == (5, 3, EVALUATED)
    assert found.refused == ()
    # Autogram alone gives the run that both engines in lockstep give.
    run = Trainer(replace(BASE, engine="autogram"))
    for _ in range(5):
        run.advance()
    ids = run.problem.batch(run.data, 5, 8, BASE.seed).sample_ids
    np.testing.assert_array_equal(found.sample_ids, ids)
    own = found.futures[0]
    for place in range(4):
        np.testing.assert_array_equal(own.losses[place], losses_by_hand(run, ids))
        mean = losses_by_hand(run, slice(None, 512)).mean()
        assert own.mean_losses[place] == mean
        if place < 3:
            assert own.norms[place] == run.advance().direction_norm


def test_another_method_takes_the_same_batches_without_a_past(checkpoint: bytes) -> None:
    found = futures(BASE, 3, checkpoint, 3, ["NashMTL"], 2)
    own, other = found.futures
    run = Trainer(replace(BASE, aggregator="NashMTL", engine="autogram"))
    state = Trainer.at(BASE, checkpoint, 3)
    run.model.load_state_dict(state.model.state_dict())
    run.optimizer.load_state_dict(state.optimizer.state_dict())
    run.step = 3
    np.testing.assert_array_equal(other.losses[0], own.losses[0])
    for place in (1, 2):
        run.advance()
        np.testing.assert_array_equal(other.losses[place], losses_by_hand(run, found.sample_ids))


def test_a_stateful_method_of_the_run_keeps_its_past() -> None:
    config = replace(BASE, aggregator="CRMOGM", engine="autogram")
    run = Trainer(config)
    for _ in range(4):
        run.advance()
    state = pack(run)
    found = futures(config, 4, state, 4, [], 1)
    forgetful = Trainer(config)
    restore(forgetful, state, with_method=False)
    for one in (run, forgetful):
        one.advance()
    remembered = losses_by_hand(run, found.sample_ids)
    np.testing.assert_array_equal(found.futures[0].losses[1], remembered)
    assert not np.array_equal(losses_by_hand(forgetful, found.sample_ids), remembered)


def test_equal_length_scales_all_steps_by_one_factor(checkpoint: bytes) -> None:
    plain = replace(BASE, optimizer="sgd")
    run = Trainer(plain)
    state = pack(run)
    free = futures(plain, 0, state, 0, ["Sum"], 2)
    bound = futures(plain, 0, state, 0, ["Sum"], 2, equal_length=True)
    assert (free.equal_length, bound.equal_length) == (False, True)
    np.testing.assert_array_equal(bound.futures[0].losses, free.futures[0].losses)
    own, summed = free.futures
    # The direction that is too long by a factor is taken at a learning rate shorter by it.
    factor = own.norms[0] / summed.norms[0]
    slower = replace(plain, aggregator="Sum", learning_rate=plain.learning_rate * factor)
    (expected,) = futures(slower, 0, pack(Trainer(slower)), 0, [], 2).futures
    np.testing.assert_allclose(bound.futures[1].losses, expected.losses, rtol=1e-5)
    assert np.abs(free.futures[1].losses[1] - expected.losses[1]).max() > 0.01


def test_methods_that_refuse_say_why(checkpoint: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, *args: object) -> None:
        raise SolverError("got no bargain, expected one; choose another method.")

    monkeypatch.setattr(type(METHODS["NashMTL"].weighting(8)), "solve", refuse)
    found = futures(BASE, 3, checkpoint, 3, ["NashMTL", "MoDo", "Mean"], 1)
    assert [one.method for one in found.futures] == ["UPGrad", "Mean"]
    nash, modo = found.refused
    assert nash == Refused("NashMTL", "got no bargain, expected one; choose another method.")
    assert modo.method == "MoDo"
    assert "two independent batches" in modo.sentence


def test_a_solver_that_fails_later_ends_its_future_there(
    checkpoint: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(METHODS["NashMTL"].weighting(8))
    original, calls = kind.solve, []

    def fail(self: Any, gramian: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise SolverError("got no bargain, expected one; choose another method.")
        return original(self, gramian)

    monkeypatch.setattr(kind, "solve", fail)
    _, nash = futures(BASE, 3, checkpoint, 3, ["NashMTL"], 4).futures
    assert nash.ending.startswith("got no bargain")
    assert np.isfinite(nash.losses[:3]).all()
    assert np.isnan(nash.losses[3:]).all()
    assert np.isnan(nash.mean_losses[3:]).all()
    assert np.isfinite(nash.norms[:2]).all()
    assert np.isnan(nash.norms[2:]).all()


def test_what_diverges_is_nan_from_there_on() -> None:
    config = replace(
        BASE, problem="conflict_regression", optimizer="sgd", learning_rate=1e18, engine="autogram"
    )
    (own,) = futures(config, 0, pack(Trainer(config)), 0, [], 5).futures
    finite = np.isfinite(own.losses).all(axis=1)
    assert finite[0]
    assert not finite[-1]
    assert "became NaN or infinite at step" in own.ending


def test_tasks_have_no_samples() -> None:
    config = replace(BASE, problem="digits_two_tasks")
    found = futures(config, 0, pack(Trainer(config)), 0, ["Krum"], 1)
    assert found.sample_ids is None
    assert found.futures[0].losses.shape == (2, 2)
    assert [one.method for one in found.refused] == ["Krum"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"step": 20}, "Step 20 is not one of the run; choose from 0 to 19."),
        ({"step": -1}, "Step -1 is not one of the run"),
        ({"k": 0}, "0 steps ahead are out of range; choose 1 to 50."),
        ({"k": MAX_STEPS_AHEAD + 1}, "51 steps ahead are out of range"),
        ({"methods": ["Best"]}, "There is no aggregator 'Best'; choose among UPGrad"),
    ],
    ids=str,
)
def test_wrong_questions_are_refused(
    checkpoint: bytes, change: dict[str, Any], sentence: str
) -> None:
    question: dict[str, Any] = {"step": 5, "methods": ["Mean"], "k": 2, **change}
    with pytest.raises(ConfigError, match=sentence):
        futures(BASE, 3, checkpoint, question["step"], question["methods"], question["k"])


def test_a_later_checkpoint_is_refused(checkpoint: bytes) -> None:
    with pytest.raises(CheckpointError, match="of step 3, which is after step 2"):
        futures(BASE, 3, checkpoint, 2, [], 1)


def test_a_process_of_its_own_finds_the_same(checkpoint: bytes) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = futures(BASE, 3, checkpoint, 4, ["Mean", "MoDo"], 2, equal_length=True)
    finally:
        torch.set_num_threads(before)
    found = ask_futures(BASE, 3, checkpoint, 4, ["Mean", "MoDo"], 2, equal_length=True)
    assert found.to_dict() == expected.to_dict()


def test_futures_survive_json(checkpoint: bytes) -> None:
    found = futures(BASE, 3, checkpoint, 4, ["MoDo"], 1)
    found.futures[0].losses[1, 0] = np.nan
    again = Futures.from_dict(json.loads(json.dumps(found.to_dict())))
    np.testing.assert_array_equal(again.futures[0].losses, found.futures[0].losses)
    np.testing.assert_array_equal(again.sample_ids, found.sample_ids)
    assert again.sample_ids.dtype == np.int64
    assert (again.refused, again.evaluated) == (found.refused, found.evaluated)


def test_a_refusal_in_the_other_process_is_its_sentence(checkpoint: bytes) -> None:
    with pytest.raises(FuturesError, match=r"^The checkpoint cannot be read: it is damaged"):
        ask_futures(BASE, 3, checkpoint[:-1], 5, ["Mean"], 2)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that are started for questions."""
    started: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def noted(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        started.append(original(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    yield started
    assert all(child.returncode is not None for child in started)


def test_a_question_that_takes_too_long_is_ended(
    checkpoint: bytes, children: list[subprocess.Popen[bytes]]
) -> None:
    with pytest.raises(FuturesError, match=r"within 0\.1 s, the time limit; choose fewer methods"):
        ask_futures(BASE, 3, checkpoint, 5, ["Mean"], 2, timeout_s=0.1)
    (child,) = children
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(signal.SIGKILL, "ended by the system, most likely"), (signal.SIGTERM, r"\(signal 15\); try")],
    ids=["killed", "terminated"],
)
def test_a_process_that_ends_early_is_said(
    checkpoint: bytes,
    children: list[subprocess.Popen[bytes]],
    number: signal.Signals,
    sentence: str,
) -> None:
    def end(_: str) -> None:
        os.kill(children[0].pid, number)

    with pytest.raises(FuturesError, match=sentence):
        ask_futures(BASE, 3, checkpoint, 5, ["Mean"], 2, watch=end)


def test_one_question_waits_for_another(checkpoint: bytes) -> None:
    def stop(sentence: str) -> None:
        raise InterruptedError(sentence)

    with (
        asking._QUEUE.turn(),
        pytest.raises(InterruptedError, match="Waiting, 1 question is before this"),
    ):
        ask_futures(BASE, 3, checkpoint, 5, [], 1, watch=stop)
    assert not asking._QUEUE.busy


def test_models_of_ones_own_have_no_future(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunConfig, "validate", lambda _: None)
    with pytest.raises(ConfigError, match="keep no checkpoints, as a model of one's own"):
        counterfactual.check_question(replace(BASE, problem="package.module:factory"), 0, [], 1)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_method_has_a_future_or_a_reason(problem: str) -> None:
    config = replace(BASE, problem=problem, learning_rate=0.001)
    found = futures(config, 0, pack(Trainer(config)), 0, list(METHODS), 1)
    named = [one.method for one in found.futures] + [one.method for one in found.refused]
    assert sorted(named) == sorted(METHODS)
    assert all(np.isfinite(one.losses).all() for one in found.futures)
    assert all(one.sentence.endswith(".") for one in found.refused)
