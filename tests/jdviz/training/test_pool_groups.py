"""Groups, owners and limits in the pool, with processes that only take notes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jdviz.runs import RunStore
from jdviz.training import ConfigError, RunLimits
from jdviz.training import pool as pool_module
from jdviz.training.pool import WorkerPool
from tests.jdviz.training.test_pool import ENDLESS, SHORT
from tests.support.waiting import wait_until


class Notes:
    """Stands in for a worker process: keeps what it is sent, and ends when it is told to stop."""

    made: "list[Notes]"

    def __init__(
        self,
        on_ready: Callable[["Notes"], None],
        on_status: Callable[["Notes", str, str], None],
        on_end: Callable[["Notes", int], None],
    ) -> None:
        # It has nothing to load.
        self.ready = True
        self.on_status, self.on_end = on_status, on_end
        self.sent: list[dict[str, Any]] = []
        self.made.append(self)

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        if message.get("command") == "stop":
            self.end("stopped")

    def end(self, status: str) -> None:
        self.on_status(self, status, "")
        self.on_end(self, 0)

    def close(self) -> None:
        """Nothing is open."""

    def join(self, timeout_s: float) -> None:
        """Nothing runs."""


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs.sqlite")


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[Notes]:
    monkeypatch.setattr(Notes, "made", [], raising=False)
    monkeypatch.setattr(pool_module, "WorkerProcess", Notes)
    return Notes.made


@pytest.fixture
def pool(store: RunStore, workers: list[Notes]) -> WorkerPool:
    return WorkerPool(store, max_workers=2, warm=False)


def status(pool: WorkerPool, run_id: str) -> str:
    state = pool.state(run_id)
    assert state is not None
    return state.status


def test_a_group_is_queued_in_its_order_and_ends_what_the_visitor_had(
    pool: WorkerPool, store: RunStore, workers: list[Notes]
) -> None:
    former = pool.start(ENDLESS, owner="a", name="mine")
    other = pool.start(ENDLESS, owner="b")
    configs = [replace(SHORT, aggregator=method) for method in ("UPGrad", "Mean", "PCGrad")]
    group = pool.start_group(configs, owner="a", name="three", pace=5.0, paused=True)
    assert [status(pool, run) for run in (former, other)] == ["stopped", "queued"]
    # The other visitor has one of two workers.
    assert [worker.sent[0]["run"] for worker in workers] == [former, other, group[0]]
    assert [pool.state(run).place for run in group] == [0, 1, 2]
    workers[2].end("finished")
    assert workers[3].sent[0]["run"] == group[1]
    for job, config in zip((workers[2].sent[0], workers[3].sent[0]), configs, strict=False):
        assert job["config"] == config.to_dict()
        assert (job["pace"], job["paused"], job["max_seconds"]) == (5.0, True, None)
    runs = [store.run(run_id) for run_id in group]
    assert [run.config["aggregator"] for run in runs] == ["UPGrad", "Mean", "PCGrad"]
    assert len({run.group for run in runs}) == 1
    assert runs[0].group != store.run(other).group == ""
    assert {(run.name, run.owner) for run in runs} == {("three", "a")}
    assert (store.run(former).name, store.run(former).owner) == ("mine", "a")
    assert runs[0].objectives == ("task 1", "task 2", "task 3", "task 4")


def test_samples_are_not_named_once_for_all_steps(pool: WorkerPool, store: RunStore) -> None:
    run_id = pool.start(replace(SHORT, problem="digits_mlp"), owner="a")
    assert store.run(run_id).objectives == ()


def test_a_group_with_one_wrong_run_starts_none_and_ends_none(
    pool: WorkerPool, store: RunStore
) -> None:
    former = pool.start(ENDLESS, owner="a")
    with pytest.raises(ConfigError, match="no aggregator 'Best'"):
        pool.start_group([SHORT, replace(SHORT, aggregator="Best")], owner="a")
    with pytest.raises(ValueError, match="got no configuration"):
        pool.start_group([], owner="a")
    assert status(pool, former) == "queued"
    assert len(store.runs()) == 1


def test_whoever_is_back_gets_all_runs_of_a_group(pool: WorkerPool) -> None:
    first, second = pool.start_group([ENDLESS, ENDLESS], owner="a")
    other = pool.start(ENDLESS, owner="c")
    assert not pool.adopt(first, "b")
    pool.depart("a", grace_s=60.0)
    assert pool.adopt(second, "b")
    assert [pool.state(run).owner for run in (first, second, other)] == ["b", "b", "c"]
    pool.release("a")
    assert [status(pool, run) for run in (first, second)] == ["queued", "queued"]
    pool.depart("b", grace_s=0.0)
    for run in (first, second):
        wait_until(lambda run=run: status(pool, run) == "stopped", "the end")
    assert status(pool, other) == "queued"


def test_a_run_beyond_a_limit_does_not_start(store: RunStore, workers: list[Notes]) -> None:
    limits = RunLimits(max_steps=5, max_seconds=90.0)
    pool = WorkerPool(store, max_workers=1, warm=False, limits=limits)
    with pytest.raises(ConfigError, match="has 6 steps, and the limit is 5, set by whoever"):
        pool.start_group([SHORT, replace(SHORT, steps=6)], owner="a")
    assert store.runs() == []
    assert workers == []
    pool.start(SHORT, owner="a")
    assert workers[0].sent[0]["max_seconds"] == 90.0
