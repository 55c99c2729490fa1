import sqlite3
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pandas
import pytest

from jdviz.runs import RunStore, StoreError, TransferError
from jdviz.runs.loading import load_run
from jdviz.runs.transfer import export_run
from tests.support.records import assert_same_record, make_record, split


@pytest.fixture
def run_id(store):
    run_id = store.create_run(
        {"lr": 0.1}, name="mine", status="running", objectives=("left", "right", "both")
    )
    store.annotate(run_id, tags=["slow"], notes="see page 3")
    record = make_record(4)
    store.append(run_id, [make_record(0), replace(record, shares=split(record.gramian))])
    return run_id


def check(run):
    assert (run.name, run.status, run.config) == ("mine", "running", {"lr": 0.1})
    assert (run.objectives, run.tags, run.notes) == (
        ("left", "right", "both"),
        ("slow",),
        "see page 3",
    )
    assert repr(run) == "RecordedRun('mine', running, 2 steps, objectives: left, right, both)"
    np.testing.assert_array_equal(run.steps, [0, 4])
    np.testing.assert_array_equal(run.gramian_steps, [0, 4])
    np.testing.assert_array_equal(run.share_steps, [4])
    assert_same_record(run.record(0), make_record(0))
    assert run.latest().step == 4
    assert run.nearest(1).step == 0
    assert run.nearest(0, what="shares").step == 4
    assert run.thinned == ""
    np.testing.assert_array_equal(run.series().losses[0], make_record(0).losses)


def test_a_run_is_loaded_by_name_identifier_or_file(store, run_id, tmp_path, monkeypatch):
    check(load_run("mine", folder=store.path.parent))
    check(load_run(run_id, folder=str(store.path)))
    monkeypatch.setenv("JDVIZ_DATA", str(store.path.parent))
    check(load_run("mine"))
    export_run(store, run_id, tmp_path / "x.jdviz")
    check(load_run(tmp_path / "x.jdviz"))
    check(load_run(str(tmp_path / "x.jdviz")))


def test_a_run_is_read_while_another_connection_writes_it(store, run_id):
    run = load_run("mine", folder=store.path.parent)
    with store.database.transaction() as writer:
        writer.execute("UPDATE runs SET notes='unfinished'")
        check(run)
    store.append(run_id, [make_record(5)])
    assert run.latest().step == 5
    assert run.info.steps == 3
    np.testing.assert_array_equal(run.series(max_points=2).steps, [0, 5])


def test_loading_changes_nothing(store, run_id):
    run = load_run("mine", folder=store.path)
    with pytest.raises(StoreError, match="read-only"):
        run.store.annotate(run_id, name="yours")


def test_an_unknown_name_lists_the_newest(store, run_id, tmp_path):
    for name in ("a", "b", "mine", ""):
        last = store.create_run({}, name=name)
    with pytest.raises(StoreError, match=f"no run “x”. The newest are “{last}”, “mine”, “b”, “a”"):
        load_run("x", folder=store.path)
    with pytest.raises(StoreError, match="has no runs yet"):
        load_run("x", folder=RunStore(tmp_path / "empty.sqlite").path)


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(StoreError, match="There is no run store at"):
        load_run("x", folder=tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_an_exported_run_is_checked_first(store, run_id, tmp_path):
    path = tmp_path / "x.jdviz"
    export_run(store, run_id, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW v AS SELECT 1")
    with pytest.raises(TransferError, match="other tables"):
        load_run(path)
    with pytest.raises(TransferError, match="cannot be read"):
        load_run(tmp_path / "nothing.jdviz")


def test_a_step_or_run_that_is_not_there_says_so(store, run_id):
    run = load_run("mine", folder=store.path)
    with pytest.raises(StoreError, match=r"no step 3\. It has 2, from 0 to 4"):
        run.record(3)
    empty = store.create_run({}, status="finished")
    loaded = load_run(empty, folder=store.path)
    assert loaded.latest() is None
    assert repr(loaded) == f"RecordedRun('{empty}', finished, 0 steps)"
    with pytest.raises(StoreError, match="It has none"):
        loaded.record(0)
    store.delete([empty])
    with pytest.raises(StoreError, match="it was deleted"):
        repr(loaded)


def test_the_numbers_leave_as_frame_and_files(store, run_id, tmp_path):
    run = load_run("mine", folder=store.path)
    frame = run.to_frame()
    assert frame.index.name == "step"
    np.testing.assert_array_equal(frame["loss[left]"], run.series().losses[:, 0])
    run.to_csv(tmp_path / "run.csv")
    read = pandas.read_csv(tmp_path / "run.csv", index_col="step")
    pandas.testing.assert_frame_equal(read, frame, check_exact=True)
    run.to_parquet(tmp_path / "run.parquet")
    pandas.testing.assert_frame_equal(
        pandas.read_parquet(tmp_path / "run.parquet").set_index("step"), frame, check_exact=True
    )


def test_a_frame_without_pandas_says_what_to_install(store, run_id, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"Install it \(pip install pandas\), or use series"):
        load_run("mine", folder=store.path).to_frame()
