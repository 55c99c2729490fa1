"""When the store cannot be written the training goes on, and nothing is lost early."""

import sqlite3
import threading
import warnings

import numpy as np
import pytest

from jdviz.runs import RunStore, StoreError, writer
from jdviz.runs.recorder import Recorder, RecorderWarning
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """What fails is tried again soon, so that tests are quick."""
    monkeypatch.setattr(writer, "RETRY_S", 0.02)


@pytest.fixture
def no_folder(tmp_path, monkeypatch):
    """A place where there cannot be a folder, and no patience at the end."""
    monkeypatch.setattr(writer, "END_S", 0.1)
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file"


def losses_of(tmp_path, recorder):
    store = RunStore(tmp_path / "runs.sqlite")
    return store.series(recorder.run_id, max_points=None).losses[:, 0].tolist()


def wait_for_steps(tmp_path, recorder, count):
    """The store, once it has so many steps of the run."""

    def there():
        run = RunStore(tmp_path / "runs.sqlite").run(recorder.run_id)
        return run is not None and run.steps == count

    wait_until(there, f"{count} steps in the store")
    return RunStore(tmp_path / "runs.sqlite")


@pytest.fixture
def caught():
    """All warnings of a test, in whatever thread."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found
    assert {one.category for one in found} <= {RecorderWarning}


def texts(caught):
    return [str(one.message) for one in caught]


def threads():
    return [one for one in threading.enumerate() if one.name == "jdviz-recorder"]


def test_steps_are_there_after_the_flush_interval(tmp_path):
    with Recorder("x", folder=tmp_path, flush_s=0.02) as rec:
        rec.log([1.0])
        store = wait_for_steps(tmp_path, rec, 1)
        assert store.run(rec.run_id).status == "running"
        # A step that was written gets what is logged of it afterwards.
        rec.log(scalars={"accuracy": 0.5})
        wait_until(
            lambda: store.latest(rec.run_id).scalars == {"accuracy": 0.5}, "the step's other part"
        )
    assert store.run(rec.run_id).steps == 1
    assert threads() == []


def test_a_locked_store_is_one_warning_and_nothing_is_lost(tmp_path, caught, monkeypatch):
    monkeypatch.setattr("jdviz.runs.database.BUSY_TIMEOUT_S", 0.1)
    with Recorder("x", folder=tmp_path, flush_s=0.02) as rec:
        rec.log([0.0])
        store = wait_for_steps(tmp_path, rec, 1)
        lock = sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        for step in range(1, 50):
            rec.log([float(step)])
        wait_until(lambda: len(caught) == 1, "the warning")
        for step in range(50, 100):
            rec.log([float(step)])
        lock.execute("ROLLBACK")
        lock.close()
        wait_for_steps(tmp_path, rec, 100)
    assert losses_of(tmp_path, rec) == list(range(100))
    (text,) = texts(caught)
    assert text == (
        f"The run store {store.path} is locked by another program. Close it, or wait; nothing "
        "recorded is lost. The training goes on; what the run 'x' logs is kept in memory for now "
        "and written as soon as that is possible."
    )


def test_a_folder_that_cannot_be_made_loses_the_run_and_says_so(no_folder, caught):
    with Recorder("x", folder=no_folder) as rec:
        for _ in range(3):
            rec.log([1.0])
    assert texts(caught) == [
        f"The run store {no_folder}/runs.sqlite cannot be opened. Check that the folder exists "
        "and is yours to write, or point JDVIZ_DATA at another one. The training goes on; what the "
        "run 'x' logs is kept in memory for now and written as soon as that is possible.",
        "3 steps of the run 'x' could not be recorded.",
    ]
    assert threads() == []


def test_warnings_that_are_errors_do_not_reach_the_training(no_folder):
    with Recorder("x", folder=no_folder, flush_s=0.02) as rec:
        rec.log([1.0])
    assert threads() == []


def test_a_store_that_is_moved_away_is_begun_anew(tmp_path, caught):
    with Recorder("x", folder=tmp_path, tags=["kept"], flush_s=0.02) as rec:
        rec.log([1.0])
        wait_for_steps(tmp_path, rec, 1)
        for file in tmp_path.glob("runs.sqlite*"):
            file.unlink()
        rec.log([2.0])
        wait_for_steps(tmp_path, rec, 1)
    run = RunStore(tmp_path / "runs.sqlite").run(rec.run_id)
    assert (run.name, run.tags, run.status) == ("x", ("kept",), "finished")
    assert losses_of(tmp_path, rec) == [2.0]
    assert len(caught) == 1
    assert "no longer holds this run" in texts(caught)[0]


def test_a_failure_that_nobody_thought_of_is_heard_too(tmp_path, monkeypatch, caught):
    failures = iter([ZeroDivisionError("odd")])
    original = RunStore.append

    def append(self, run_id, records):
        for failure in failures:
            raise failure
        original(self, run_id, records)

    monkeypatch.setattr(RunStore, "append", append)
    with Recorder("x", folder=tmp_path) as rec:
        rec.log([1.0])
    assert losses_of(tmp_path, rec) == [1.0]
    assert texts(caught) == [
        "Recording failed with ZeroDivisionError: odd. The training goes on; what the run 'x' logs "
        "is kept in memory for now and written as soon as that is possible."
    ]


@pytest.fixture
def blocked(monkeypatch, caught):
    """Makes the store fail, waits until the writer knows, and lets it try again at the end only."""
    free = threading.Event()
    original = RunStore.append

    def append(self, run_id, records):
        if not free.is_set():
            raise StoreError("The disk is full.")
        original(self, run_id, records)

    def block(rec):
        rec.log([0.0])
        wait_until(lambda: len(caught) == 1, "the first failure")
        return free

    monkeypatch.setattr(RunStore, "append", append)
    monkeypatch.setattr(writer, "RETRY_S", 600.0)
    return block


def test_memory_is_bounded_oldest_gramians_go_first(tmp_path, monkeypatch, blocked, caught):
    # Each is 24² · 8 bytes of Gramian, 2 · 24 · 8 of losses and weights, and 500: 5492. What goes
    # frees 4416, as J·A(J) stays, until an eighth of the limit is free: 2 Gramians at step 10
    # (508 + 10 · 5492 bytes), 3 at step 12 and 2 at step 14.
    monkeypatch.setattr(writer, "LIMIT_BYTES", 10 * (24 * 24 * 8 + 2 * 24 * 8 + 500))
    with Recorder("x", folder=tmp_path, flush_s=0.01) as rec:
        free = blocked(rec)
        for step in range(1, 15):
            rec.log(np.full(24, step), gramian=np.eye(24), weights=np.ones(24))
        free.set()
    store = RunStore(tmp_path / "runs.sqlite")
    run = store.run(rec.run_id)
    assert run.steps == 15
    assert store.gramian_steps(rec.run_id).tolist() == list(range(8, 15))
    # What Gramian and weights said of the update was kept of those that went.
    np.testing.assert_array_equal(store.record(rec.run_id, 1).inner, np.ones(24))
    assert store.record(rec.run_id, 1).direction_norm == pytest.approx(24**0.5)
    assert run.message == "7 Gramians could not be recorded."
    assert texts(caught)[1:] == ["7 Gramians of the run 'x' could not be recorded."]


def test_memory_is_bounded_then_steps_go(tmp_path, monkeypatch, blocked, caught):
    # An eighth of the limit is two steps, with the one that is too much three, five times.
    monkeypatch.setattr(writer, "LIMIT_BYTES", 10 * 508)
    with Recorder("x", folder=tmp_path, flush_s=0.01) as rec:
        free = blocked(rec)
        for step in range(1, 25):
            rec.log([float(step)])
        free.set()
    assert losses_of(tmp_path, rec) == list(range(15, 25))
    assert texts(caught)[1:] == ["15 steps of the run 'x' could not be recorded."]


def test_a_silent_training_still_says_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "BEAT_S", 0.02)
    with Recorder("x", folder=tmp_path, flush_s=0.01) as rec:
        rec.log([1.0])
        store = wait_for_steps(tmp_path, rec, 1)
        before_s = store.run(rec.run_id).heartbeat_s
        wait_until(lambda: store.run(rec.run_id).heartbeat_s > before_s + 0.05, "some beats")
        assert store.interrupt_silent(silent_s=60) == 0


def test_a_call_does_not_wait_for_the_store(tmp_path, monkeypatch):
    entered, free = threading.Event(), threading.Event()
    original = RunStore.append

    def append(self, run_id, records):
        entered.set()
        free.wait(60)
        original(self, run_id, records)

    monkeypatch.setattr(RunStore, "append", append)
    with Recorder("x", folder=tmp_path, flush_s=0.001) as rec:
        rec.log([0.0])
        assert entered.wait(60)
        # Were a call to wait for the writer, this would never end.
        for step in range(1, 100):
            rec.log([float(step)])
        free.set()
    assert losses_of(tmp_path, rec) == list(range(100))
