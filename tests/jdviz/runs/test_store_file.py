import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jdviz.runs import RunStore, StoreError, data_folder
from jdviz.runs import database as database_module
from jdviz.runs.database import Database
from jdviz.runs.example import example_store
from tests.support.records import assert_same_record, make_record


def test_two_processes_write_two_runs_at_once(store, tmp_path):
    code = (
        "import sys; from pathlib import Path; from jdviz.runs import RunStore;"
        "from tests.support.records import make_record;"
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
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
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
    opened = Database.open

    def limited(self):
        connection = opened(self)
        connection.execute(f"PRAGMA max_page_count={pages}")
        return connection

    monkeypatch.setattr(Database, "open", limited)
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


def test_a_folder_that_is_read_only_still_shows_its_runs(store, monkeypatch):
    run_id = store.create_run({}, name="mine")
    store.append(run_id, [make_record(0)])
    monkeypatch.setattr(database_module, "writable", lambda path: False)
    shown = RunStore(store.path)
    assert shown.read_only
    assert "is read-only: its runs can be looked at" in shown.notice
    assert shown.find("mine").steps == 1
    assert_same_record(shown.latest(run_id), make_record(0))
    for write in (
        lambda: shown.create_run({}),
        lambda: shown.append(run_id, [make_record(1)]),
        lambda: shown.annotate(run_id, name="yours"),
    ):
        with pytest.raises(StoreError, match="is read-only"):
            write()
    assert store.notice == ""


def test_a_store_whose_log_cannot_be_made_is_read_as_it_is(store):
    run_id = store.create_run({})
    store.append(run_id, [make_record(0)])
    # A folder in the log's place: what a folder without write permission is to SQLite.
    Path(f"{store.path}-wal").mkdir()
    shown = RunStore(store.path, read_only=True)
    assert_same_record(shown.latest(run_id), make_record(0))
    with pytest.raises(StoreError, match="read-only"):
        shown.beat(run_id)


def test_reading_creates_nothing(tmp_path, store):
    with pytest.raises(StoreError, match="cannot be opened"):
        RunStore(tmp_path / "nothing.sqlite", read_only=True)
    assert not (tmp_path / "nothing.sqlite").exists()
    before = sorted(store.path.parent.iterdir())
    RunStore(store.path, read_only=True).runs()
    assert sorted(store.path.parent.iterdir()) == before


def test_a_damaged_step_says_which(store):
    run_id = store.create_run({})
    store.append(run_id, [make_record(0), make_record(1)])
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE payloads SET data=x'00' WHERE step=1")
    with pytest.raises(StoreError, match=r"Step 1 of the run .* is damaged"):
        store.latest(run_id)
    assert_same_record(store.record(run_id, 0), make_record(0))
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE steps SET losses=x'00' WHERE step=1")
    connection.close()
    with pytest.raises(StoreError, match=r"A step of the run .* is damaged"):
        store.series(run_id)


def test_the_store_loads_no_library_of_the_app():
    code = (
        "import sys, jdviz.runs, jdviz.runs.loading, jdviz.runs.transfer\n"
        "found = {'torch', 'pandas', 'plotly', 'streamlit', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(', '.join(found) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_data_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("JDVIZ_DATA", str(tmp_path / "here"))
    assert data_folder() == tmp_path / "here"
    monkeypatch.delenv("JDVIZ_DATA")
    assert data_folder().parts[-3:] == (".local", "share", "jdviz")


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
