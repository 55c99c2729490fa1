"""What the worker does with a run, in this process."""

import queue
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jdviz.runs import RunStore, StoreError
from jdviz.training import RunConfig, RunLimits
from jdviz.training import worker as worker_module
from jdviz.training.checkpoints import CHECKPOINT_EVERY
from jdviz.training.loop import SHARES_EVERY, Trainer
from jdviz.training.worker import Worker
from tests.jdviz.training.test_pool import ENDLESS

# From a configuration and further entries of the job to the run's name and the worker's events.
Run = Callable[..., tuple[str, list[dict[str, Any]]]]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs.sqlite")


@pytest.fixture
def run(store: RunStore) -> Run:
    def made(config: RunConfig, **job: Any) -> tuple[str, list[dict[str, Any]]]:
        events: list[dict[str, Any]] = []
        commands: queue.Queue[Any] = queue.Queue()
        run_id = store.create_run(config.to_dict())
        whole = {"run": run_id, "config": config.to_dict(), "store": str(store.path), **job}
        Worker(whole, commands, events.append).run()
        return run_id, events

    return made


def test_a_paused_run_stays_paused_when_a_heartbeat_fails(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = store.create_run(ENDLESS.to_dict())
    commands, events, beats = queue.Queue(), [], []

    def refuse(self: RunStore, run: str) -> None:
        beats.append(run)
        if len(beats) == 2:
            commands.put({"command": "stop"})
        raise StoreError("The run store is locked by another program.")

    monkeypatch.setattr(worker_module, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(RunStore, "beat", refuse)
    job = {"run": run_id, "config": ENDLESS.to_dict(), "store": str(store.path), "paused": True}
    Worker(job, commands, events.append).run()
    assert beats == [run_id, run_id]
    assert [event["status"] for event in events] == ["paused", "stopped"]


def test_a_run_keeps_checkpoints_that_lead_to_its_steps(
    store: RunStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "CHECKPOINT_S", 0.0)
    config = replace(ENDLESS, aggregator="GradVac", steps=CHECKPOINT_EVERY + 3)
    run_id, events = run(config)
    assert [event["status"] for event in events] == ["running", "finished"]
    assert store.checkpoint_steps(run_id).tolist() == [0, CHECKPOINT_EVERY]
    step, state = store.checkpoint(run_id, CHECKPOINT_EVERY + 2)
    assert step == CHECKPOINT_EVERY
    again = Trainer.at(config, state, CHECKPOINT_EVERY + 2).advance()
    record = store.record(run_id, CHECKPOINT_EVERY + 2)
    for name in ("losses", "gramian", "weights", "inner"):
        np.testing.assert_array_equal(getattr(record, name), getattr(again, name))
    assert store.share_steps(run_id).tolist() == list(range(0, config.steps, SHARES_EVERY))


def test_a_state_that_is_too_large_is_kept_before_the_first_step_only(
    store: RunStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With one gradient each for 16 images the state is 16 times as large as the model and more.
    config = replace(
        ENDLESS,
        problem="digits_mlp",
        engine="autojac",
        aggregator="ExcessMTL",
        steps=CHECKPOINT_EVERY + 1,
    )
    monkeypatch.setattr(worker_module, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(worker_module, "MOST_BYTES", 20_000)
    run_id, _ = run(config)
    assert store.checkpoint_steps(run_id).tolist() == [0]
    assert store.run(run_id).steps == CHECKPOINT_EVERY + 1


def test_a_fast_run_keeps_fewer_checkpoints(
    store: RunStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "CHECKPOINT_S", 1e6)
    run_id, _ = run(replace(ENDLESS, steps=2 * CHECKPOINT_EVERY))
    assert store.checkpoint_steps(run_id).tolist() == [0]


def test_lockstep_is_recorded(store: RunStore, run: Run) -> None:
    run_id, _ = run(replace(ENDLESS, engine="both", steps=2))
    scalars = store.series(run_id).scalars
    assert sorted(scalars) == ["gradient difference", "gramian difference", "rounding"]
    assert (scalars["gramian difference"] <= 1e-5).all()


def test_a_run_whose_time_is_up_is_stopped_with_a_sentence(store: RunStore, run: Run) -> None:
    run_id, events = run(ENDLESS, max_seconds=0.05)
    sentence = RunLimits(max_seconds=0.05).time_is_up
    assert events[-1] == {"event": "status", "status": "stopped", "message": sentence}
    ended = store.run(run_id)
    assert (ended.status, ended.message) == ("stopped", sentence)
    assert ended.steps == store.latest(run_id).step + 1 > 0


def test_steps_and_states_wait_for_a_store_that_refuses(
    store: RunStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, refusals = RunStore.save_checkpoint, []

    def refuse_once(self: RunStore, run_id: str, step: int, data: bytes) -> None:
        if not refusals:
            refusals.append(step)
            raise StoreError("The run store is locked by another program.")
        original(self, run_id, step, data)

    monkeypatch.setattr(worker_module, "RETRY_S", 0.01)
    monkeypatch.setattr(RunStore, "save_checkpoint", refuse_once)
    run_id, events = run(replace(ENDLESS, steps=3))
    assert refusals == [0]
    assert store.checkpoint_steps(run_id).tolist() == [0]
    assert store.series(run_id).steps.tolist() == [0, 1, 2]
    assert [event["status"] for event in events] == ["running", "waiting", "running", "finished"]
