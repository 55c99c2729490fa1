import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jdviz.conflict import conflict_rate, cosines
from jdviz.runs import RunStore, StoreError, schema
from jdviz.runs import database as database_module
from tests.support.records import assert_same_record, make_record

# Written by the code of schema 1: three runs, one of them without weights, one without steps.
SCHEMA_1 = Path(__file__).parent / "schema_1.sqlite"


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copy(SCHEMA_1, tmp_path / "runs.sqlite"))


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        return [f"schema {version}", *connection.iterdump()]


def test_a_store_of_schema_1_keeps_everything(old):
    store = RunStore(old)
    assert {run.run_id: (run.status, run.steps) for run in store.runs()} == {
        "one": ("finished", 3),
        "two": ("running", 2),
        "empty": ("queued", 0),
    }
    assert store.run("one").config == {"problem": "digits_mlp", "steps": 3}
    for step in range(3):
        assert_same_record(store.record("one", step), make_record(step))
    assert_same_record(store.record("two", 5), replace(make_record(5, m=2), weights=None))
    assert_same_record(store.latest("two"), replace(make_record(7, m=2), gramian=None))
    np.testing.assert_array_equal(store.gramian_steps("two"), [5])


def test_a_store_of_schema_1_gets_its_measures_and_goes_on(old):
    store = RunStore(old)
    series = store.series("one")
    gramians = [make_record(step).gramian for step in range(3)]
    np.testing.assert_array_equal(series.conflict_rate, [conflict_rate(G) for G in gramians])
    least = [np.min(cosines(G)[~np.eye(3, dtype=bool)]) for G in gramians]
    np.testing.assert_array_equal(series.least_cosine, least)
    assert np.isnan(store.series("two").conflict_rate[1])
    # What is counted, so that thinning and retention go on from there.
    fresh = store.create_run({})
    store.append(fresh, [make_record(step) for step in range(3)])
    assert store.run("one").size_bytes == store.run(fresh).size_bytes
    store.append("two", [make_record(8)])
    assert store.run("two").steps == 3
    assert store.run("two").owner == store.run("two").name == ""


def test_a_migrated_store_has_the_tables_of_a_new_one(old, tmp_path):
    RunStore(old)
    RunStore(tmp_path / "new.sqlite")
    with (
        closing(sqlite3.connect(old)) as one,
        closing(sqlite3.connect(tmp_path / "new.sqlite")) as two,
    ):
        assert schema.objects(one) == schema.objects(two)
        assert one.execute("PRAGMA foreign_key_check").fetchall() == []
        assert one.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_deleting_from_a_migrated_store_shrinks_its_file(old):
    store = RunStore(old)
    store.delete(["one"])
    assert store.run("one") is None
    assert store.path.stat().st_size == store.size_bytes()


@pytest.mark.parametrize("statement", range(1, 15))
def test_an_interrupted_migration_leaves_schema_1(old, monkeypatch, statement):
    before = content(old)
    script = schema._FROM_1_TO_2.format(schema=schema.SCHEMAS[2]).split(";")
    broken = ";".join([*script[:statement], " SELECT no_such_function()"])
    monkeypatch.setattr(schema, "_FROM_1_TO_2", broken)
    with pytest.raises(StoreError, match="no_such_function"):
        RunStore(old)
    assert content(old) == before
    monkeypatch.undo()
    assert_same_record(RunStore(old).record("one", 2), make_record(2))


def test_a_gramian_that_cannot_be_read_costs_the_migration_its_measures_only(old):
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE steps SET gramian=x'00' WHERE run_id='one' AND step=1")
    store = RunStore(old)
    np.testing.assert_array_equal(np.isnan(store.series("one").least_cosine), [False, True, False])
    assert_same_record(store.record("one", 0), make_record(0))


def test_an_older_schema_that_cannot_be_written_says_so(old, monkeypatch):
    monkeypatch.setattr(database_module, "writable", lambda path: False)
    before = old.read_bytes()
    with pytest.raises(StoreError, match=r"older schema \(1, expected 2\)"):
        RunStore(old)
    assert old.read_bytes() == before


@pytest.mark.parametrize("version", [99, -1])
def test_another_schema_is_refused_and_left_alone(tmp_path, version):
    path = tmp_path / "runs.sqlite"
    RunStore(path).seal()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={version}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"schema {version}, expected 2"):
        RunStore(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "runs.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="schema 0"):
        RunStore(path)
    assert path.read_bytes() == before
