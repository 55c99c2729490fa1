import sqlite3
import subprocess
import sys
import time
from dataclasses import fields, replace

import numpy as np
import pytest

from jdviz.runs import RunStore, StoreError, data_folder
from jdviz.runs import store as store_module
from jdviz.runs.example import example_store
from jdviz.training import StepRecord


def make_record(step: int, m: int = 3) -> StepRecord:
    rng = np.random.default_rng(step)
    jacobian = rng.standard_normal((m, 5))
    weights = rng.random(m)
    gramian = jacobian @ jacobian.T
    gramian = (gramian + gramian.T) / 2
    return StepRecord(
        step=step,
        time_s=step * 0.5,
        losses=rng.random(m),
        gramian=gramian,
        weights=weights,
        inner=gramian @ weights,
        direction_norm=float(np.sqrt(weights @ gramian @ weights)),
        sample_ids=rng.integers(0, 100, m),
        elapsed_s=0.01,
        peak_bytes=None,
    )


def assert_equal(left: StepRecord, right: StepRecord) -> None:
    for field in fields(StepRecord):
        np.testing.assert_array_equal(
            getattr(left, field.name), getattr(right, field.name), err_msg=field.name
        )


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "deep" / "runs.sqlite")


def test_records_come_back_bit_for_bit(store):
    run_id = store.create_run({"problem": "digits_mlp"})
    records = [make_record(step) for step in range(4)]
    store.append(run_id, records)
    for record in records:
        assert_equal(store.record(run_id, record.step), record)
    assert_equal(store.latest(run_id), records[-1])
    assert store.record(run_id, 9) is None
    run = store.run(run_id)
    assert (run.steps, run.status, run.config) == (4, "queued", {"problem": "digits_mlp"})


def test_a_step_of_a_method_without_weights_is_kept(store):
    run_id = store.create_run({})
    records = [replace(make_record(step), weights=None) for step in range(2)]
    store.append(run_id, records)
    for record in records:
        assert_equal(store.record(run_id, record.step), record)
    series = store.series(run_id)
    assert np.isnan(series.weights).all()
    np.testing.assert_array_equal(series.losses, [record.losses for record in records])


def test_a_record_without_gramian_and_weights_is_kept(store):
    run_id = store.create_run({})
    bare = StepRecord(0, 0.0, np.array([np.nan, 1.0]), None, None, None, None, None, 0.1, 7)
    store.append(run_id, [bare])
    assert_equal(store.latest(run_id), bare)
    assert np.isnan(store.series(run_id).weights).all()


def test_series_is_thinned_and_keeps_the_last_step(store):
    run_id = store.create_run({})
    records = [make_record(step) for step in range(25)]
    store.append(run_id, records)
    series = store.series(run_id, max_points=10)
    # 25 steps in at most 10 points: every third, and the last.
    np.testing.assert_array_equal(series.steps, [*range(0, 25, 3)])
    np.testing.assert_array_equal(series.losses[-1], records[24].losses)
    assert store.series(run_id).losses.shape == (25, 3)
    assert store.series("nobody").losses.shape == (0, 0)


def test_a_final_status_stays(store):
    run_id = store.create_run({})
    store.set_status(run_id, "diverged", "NaN at step 3.")
    store.set_status(run_id, "running")
    assert (store.run(run_id).status, store.run(run_id).message) == ("diverged", "NaN at step 3.")


def test_a_step_twice_adds_nothing(store):
    run_id = store.create_run({})
    store.append(run_id, [make_record(0)])
    with pytest.raises(StoreError):
        store.append(run_id, [make_record(1), make_record(0)])
    assert store.run(run_id).steps == 1


def test_newest_run_first(store):
    names = [store.create_run({"n": n}, run_id=f"r{n}") for n in range(3)]
    assert [run.run_id for run in store.runs()] == names[::-1]
    assert [run.run_id for run in store.runs(limit=1)] == ["r2"]


def test_silent_runs_become_interrupted(store):
    silent = store.create_run({}, status="running")
    queued = store.create_run({}, status="queued")
    done = store.create_run({}, status="finished")
    assert store.interrupt_silent(silent_s=60.0) == 0
    assert store.interrupt_silent(silent_s=-1.0) == 1
    assert store.run(silent).status == "interrupted"
    assert store.run(queued).status == "queued"
    assert store.run(done).status == "finished"


def test_two_processes_write_two_runs_at_once(store, tmp_path):
    code = (
        "import sys; from pathlib import Path; from jdviz.runs import RunStore;"
        "from tests.jdviz.runs.test_store import make_record;"
        "s = RunStore(Path(sys.argv[1])); r = s.create_run({}, run_id=sys.argv[2]);"
        "[s.append(r, [make_record(i)]) for i in range(40)]"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(store.path), name]) for name in "ab"
    ]
    assert [child.wait(60) for child in children] == [0, 0]
    assert [store.run(name).steps for name in "ab"] == [40, 40]


def test_a_locked_store_says_so_and_loses_nothing(store, monkeypatch):
    run_id = store.create_run({})
    store.append(run_id, [make_record(0)])
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_S", 0.05)
    other = sqlite3.connect(store.path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked by another program"):
        store.append(run_id, [make_record(1)])
    other.rollback()
    other.close()
    store.append(run_id, [make_record(1)])
    assert store.run(run_id).steps == 2


def test_a_full_disk_says_so_and_keeps_what_was_recorded(store, monkeypatch):
    run_id = store.create_run({})
    store.append(run_id, [make_record(0)])
    pages = sqlite3.connect(store.path).execute("PRAGMA page_count").fetchone()[0]
    opened = RunStore._open

    def limited(self):
        connection = opened(self)
        connection.execute(f"PRAGMA max_page_count={pages}")
        return connection

    monkeypatch.setattr(RunStore, "_open", limited)
    with pytest.raises(StoreError, match="disk is full"):
        store.append(run_id, [make_record(1, m=200)])
    monkeypatch.undo()
    assert store.run(run_id).steps == 1


def test_a_foreign_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "runs.sqlite"
    path.write_bytes(b"not a database, but someone's notes" * 40)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a readable run store"):
        RunStore(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_and_left_alone(store):
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreError, match="schema 99"):
        RunStore(store.path)


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be opened"):
        RunStore(tmp_path / "file" / "runs.sqlite")


def test_the_bundled_example_is_one_finished_run():
    (run,) = example_store().runs()
    latest = example_store().latest(run.run_id)
    assert run.status == "finished"
    assert latest.step == run.steps - 1
    np.testing.assert_allclose(latest.inner, latest.gramian @ latest.weights, rtol=1e-6, atol=1e-9)


def test_the_example_cannot_be_written():
    with pytest.raises(StoreError, match="read-only"):
        example_store().create_run({})


def test_data_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("JDVIZ_DATA", str(tmp_path / "here"))
    assert data_folder() == tmp_path / "here"
    monkeypatch.delenv("JDVIZ_DATA")
    assert data_folder().parts[-3:] == (".local", "share", "jdviz")


def test_heartbeat_moves(store):
    run_id = store.create_run({})
    before = store.run(run_id).heartbeat_s
    time.sleep(0.01)
    store.beat(run_id)
    assert store.run(run_id).heartbeat_s > before


def test_a_file_that_was_moved_away_is_begun_anew(store):
    lost = store.create_run({})
    for path in store.path.parent.iterdir():
        path.unlink()
    assert store.runs() == []
    fresh = store.create_run({})
    store.append(fresh, [make_record(0)])
    assert store.run(fresh).steps == 1
    with pytest.raises(StoreError, match="no longer holds this run"):
        store.append(lost, [make_record(0)])
