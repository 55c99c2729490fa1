import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from jdviz.runs import RunStore
from jdviz.training import ConfigError, RunConfig, train
from jdviz.training.pool import WorkerPool
from tests.support.waiting import wait_until

ENDLESS = RunConfig(
    problem="conflict_regression",
    size="small",
    batch_size=16,
    optimizer="sgd",
    learning_rate=0.01,
    engine="autogram",
    aggregator="UPGrad",
    seed=3,
    steps=1_000_000,
    conflict=0.5,
)
SHORT = replace(ENDLESS, steps=5)


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs.sqlite")


@pytest.fixture
def pool(store):
    workers = WorkerPool(store, max_workers=1)
    yield workers
    workers.close()


def status(pool, run_id):
    return pool.state(run_id).status


def wait_for(pool, run_id, wanted):
    wait_until(lambda: status(pool, run_id) == wanted, f"{wanted}, is {pool.state(run_id)}")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A killed child that nobody has waited for is as gone as it can be.
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_run_is_recorded_as_the_bare_loop_computes_it(pool, store):
    run_id = pool.start(SHORT, owner="a")
    wait_for(pool, run_id, "finished")
    for expected in train(SHORT):
        record = store.record(run_id, expected.step)
        np.testing.assert_array_equal(record.losses, expected.losses)
        np.testing.assert_array_equal(record.gramian, expected.gramian)
        np.testing.assert_array_equal(record.weights, expected.weights)
    assert store.run(run_id).steps == SHORT.steps
    assert store.run(run_id).status == "finished"


def test_pause_step_resume_stop(pool, store):
    run_id = pool.start(ENDLESS, owner="a", paused=True)
    wait_for(pool, run_id, "paused")
    assert store.run(run_id).steps == 0
    for steps in (1, 2):
        pool.command(run_id, "step")
        wait_until(lambda steps=steps: store.run(run_id).steps == steps, f"step {steps}")
    assert status(pool, run_id) == "paused"
    pool.command(run_id, "resume")
    wait_until(lambda: store.run(run_id).steps > 5, "more steps")
    pool.command(run_id, "pause")
    wait_for(pool, run_id, "paused")
    resting = store.run(run_id).steps
    pool.command(run_id, "step")
    wait_until(lambda: store.run(run_id).steps == resting + 1, "one step more")
    pool.command(run_id, "stop")
    wait_for(pool, run_id, "stopped")
    last = store.run(run_id)
    assert last.status == "stopped"
    assert store.latest(run_id).step == last.steps - 1


def test_runs_wait_in_a_queue(pool, store):
    first = pool.start(ENDLESS, owner="a")
    second = pool.start(SHORT, owner="b")
    third = pool.start(SHORT, owner="c")
    wait_for(pool, first, "running")
    assert [pool.state(run).place for run in (first, second, third)] == [0, 1, 2]
    assert store.run(second).steps == 0
    pool.command(second, "stop")
    assert [pool.state(second).status, pool.state(third).place] == ["stopped", 1]
    pool.command(first, "stop")
    wait_for(pool, third, "finished")
    assert store.run(second).steps == 0


def test_a_command_to_a_queued_run_is_kept(pool, store):
    first = pool.start(ENDLESS, owner="a")
    second = pool.start(ENDLESS, owner="b", paused=True)
    pool.command(second, "step")
    pool.command(first, "stop")
    wait_until(lambda: store.run(second).steps == 1, "the kept step")
    assert status(pool, second) == "paused"


def test_a_run_stopped_before_its_worker_is_ready_leaves_it_as_the_spare(store):
    pool = WorkerPool(store, max_workers=1)
    with pool._lock:
        # Under the lock nobody hears that torch is loaded.
        spare = pool._spare
        first = pool.start(ENDLESS, owner="a")
        pool.command(first, "step")
        queued = pool.start(SHORT, owner="b")
        # No other is loaded beside the one that somebody waits for.
        assert [pool._jobs[first].worker, spare.ready, pool._spare] == [spare, False, None]
        pool.command(first, "stop")
        assert [status(pool, first), pool._jobs[queued].worker] == ["stopped", spare]
        pool.command(queued, "stop")
        assert pool._spare is spare
        third = pool.start(SHORT, owner="c")
        pool.set_pace(third, 500.0)  # as a page does that is drawn before its run has begun
        assert pool._jobs[third].worker is spare
    wait_for(pool, third, "finished")
    assert [store.run(run).status for run in (first, queued)] == ["stopped", "stopped"]
    assert [store.run(run).steps for run in (first, queued)] == [0, 0]
    assert pool._spare is not spare
    pool.close()


def test_a_worker_that_died_while_it_loaded_does_not_become_the_spare(pool):
    with pool._lock:
        run_id = pool.start(SHORT, owner="a")
        worker = pool._jobs[run_id].worker
        worker.popen.kill()
        worker.popen.wait()
        pool.command(run_id, "stop")
        assert [status(pool, run_id), pool._spare is worker] == ["stopped", False]
    again = pool.start(SHORT, owner="a")
    wait_for(pool, again, "finished")


def test_closing_before_a_worker_is_ready_says_so(store):
    pool = WorkerPool(store, max_workers=1)
    with pool._lock:
        run_id = pool.start(ENDLESS, owner="a")
        pool.close()
    assert pool.state(run_id).message == "The server was closed before its turn came."
    assert store.run(run_id).status == "interrupted"


def test_a_second_start_ends_the_visitors_first_run(pool):
    first = pool.start(ENDLESS, owner="a")
    wait_for(pool, first, "running")
    second = pool.start(SHORT, owner="a")
    wait_for(pool, first, "stopped")
    wait_for(pool, second, "finished")


def test_a_departed_visitors_run_ends_and_a_returned_ones_goes_on(pool):
    run_id = pool.start(ENDLESS, owner="a")
    wait_for(pool, run_id, "running")
    pool.depart("a", grace_s=0.3)
    pool.arrive("a")
    pool.depart("b", grace_s=0.0)
    with pytest.raises(TimeoutError):
        wait_until(lambda: status(pool, run_id) != "running", "no end", timeout_s=0.6)
    pool.depart("a", grace_s=0.1)
    wait_for(pool, run_id, "stopped")


def test_a_killed_worker_is_said_and_its_steps_are_kept(pool, store):
    run_id = pool.start(ENDLESS, owner="a")
    wait_until(lambda: store.run(run_id).steps > 3, "some steps")
    os.kill(pool._jobs[run_id].worker.popen.pid, signal.SIGKILL)
    wait_for(pool, run_id, "interrupted")
    assert "ended unexpectedly (signal 9)" in pool.state(run_id).message
    wait_until(lambda: store.run(run_id).status == "interrupted", "the store's status")
    assert store.latest(run_id).step == store.run(run_id).steps - 1
    again = pool.start(SHORT, owner="a")
    wait_for(pool, again, "finished")


def test_a_spare_that_dies_as_it_is_given_a_run_loses_it_with_a_sentence(pool):
    started, lock, spare = [], pool._lock, pool._spare

    class StartsFirst:
        """The lock, as met by the spare's reader just after Start has used the spare."""

        def __enter__(self):
            pool._lock = lock
            started.append(pool.start(SHORT, owner="a"))
            return lock.__enter__()

        def __exit__(self, *error):
            return lock.__exit__(*error)

    pool._lock = StartsFirst()
    os.kill(spare.popen.pid, signal.SIGKILL)
    wait_until(lambda: started, "the spare's end")
    wait_for(pool, started[0], "interrupted")


def test_a_diverging_run_stops_at_that_step(pool, store):
    run_id = pool.start(replace(ENDLESS, learning_rate=1e20), owner="a")
    wait_for(pool, run_id, "diverged")
    message = pool.state(run_id).message
    assert message == store.run(run_id).message
    assert str(store.latest(run_id).step) in message


def test_a_locked_store_pauses_the_run_and_nothing_is_lost(pool, store):
    run_id = pool.start(ENDLESS, owner="a")
    wait_until(lambda: store.run(run_id).steps > 3, "some steps")
    other = sqlite3.connect(store.path)
    other.execute("BEGIN EXCLUSIVE")
    wait_for(pool, run_id, "waiting")
    assert "locked by another program" in pool.state(run_id).message
    other.rollback()
    other.close()
    wait_for(pool, run_id, "running")
    pool.command(run_id, "stop")
    wait_for(pool, run_id, "stopped")
    steps = store.series(run_id, max_points=10**9).steps
    np.testing.assert_array_equal(steps, np.arange(len(steps)))


def test_the_last_step_made_by_hand_ends_the_run(pool, store):
    run_id = pool.start(replace(SHORT, steps=1), owner="a", paused=True)
    pool.command(run_id, "step")
    wait_for(pool, run_id, "finished")
    assert store.run(run_id).steps == 1


def test_a_diverging_step_made_by_hand_says_so(pool, store):
    run_id = pool.start(replace(ENDLESS, learning_rate=1e20), owner="a", paused=True)
    for _ in range(20):
        pool.command(run_id, "step")
    wait_for(pool, run_id, "diverged")


def test_a_step_asked_of_a_going_run_is_not_kept_for_later(pool, store):
    run_id = pool.start(ENDLESS, owner="a")
    wait_for(pool, run_id, "running")
    pool.command(run_id, "step")
    pool.command(run_id, "pause")
    wait_for(pool, run_id, "paused")
    resting = store.run(run_id).steps
    with pytest.raises(TimeoutError):
        wait_until(lambda: store.run(run_id).steps != resting, "no step", timeout_s=0.5)


def test_a_run_of_a_departed_visitor_can_be_adopted(pool):
    run_id = pool.start(ENDLESS, owner="a")
    wait_for(pool, run_id, "running")
    assert not pool.adopt(run_id, "b")
    pool.depart("a", grace_s=0.5)
    assert pool.adopt(run_id, "b")
    assert pool.state(run_id).owner == "b"
    with pytest.raises(TimeoutError):
        wait_until(lambda: status(pool, run_id) != "running", "no end", timeout_s=1.0)
    pool.depart("b", grace_s=0.0)
    wait_for(pool, run_id, "stopped")
    assert not pool.adopt(run_id, "c")
    assert not pool.adopt("nobody", "c")


def test_closing_settles_what_waited(store):
    pool = WorkerPool(store, max_workers=1)
    going, queued = pool.start(ENDLESS, owner="a"), pool.start(ENDLESS, owner="b")
    wait_for(pool, going, "running")
    pool.close()
    assert store.run(queued).status == "interrupted"
    wait_until(
        lambda: store.run(going).status == "interrupted", "the run in progress to be settled"
    )
    pool.command(queued, "stop")
    pool.command(going, "stop")


def test_settings_are_checked_before_anything_starts(pool, store):
    with pytest.raises(ConfigError):
        pool.start(replace(SHORT, batch_size=10**6), owner="a")
    assert store.runs() == []


def test_unknown_commands_are_refused(pool):
    with pytest.raises(ValueError, match="expected pause, resume, step or stop"):
        pool.command("any", "explode")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_no_worker_outlives_its_server(store, end):
    code = (
        "import sys, time; from pathlib import Path; from jdviz.runs import RunStore;"
        "from jdviz.training.pool import WorkerPool;"
        "from tests.jdviz.training.test_pool import ENDLESS;"
        "pool = WorkerPool(RunStore(Path(sys.argv[1])), 2);"
        "run = pool.start(ENDLESS, owner='a');\n"
        "while pool._spare is None: time.sleep(0.01)\n"
        "print(pool._jobs[run].worker.popen.pid, pool._spare.popen.pid, flush=True);"
        "time.sleep(60)"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code, str(store.path)], stdout=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in server.stdout.readline().split()]
    (run,) = store.runs()
    wait_until(lambda: store.run(run.run_id).steps > 0, "a first step")
    assert not any(gone(pid) for pid in pids)
    server.send_signal(end)
    server.wait(30)
    server.stdout.close()
    wait_until(lambda: all(gone(pid) for pid in pids), "the workers to end", timeout_s=10)
