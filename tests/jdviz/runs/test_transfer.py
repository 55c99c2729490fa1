import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jdviz.runs import RunStore, StoreError, TransferError, checking, schema
from jdviz.runs.blobs import encode, pack_named
from jdviz.runs.transfer import export_bytes, export_run, import_bytes, import_run
from tests.support.records import assert_same_record, make_record, split

SCHEMA_1 = Path(__file__).parent / "schema_1.sqlite"


@pytest.fixture
def run_id(store):
    """A run that has everything, beside another one."""
    other = store.create_run({}, name="another")
    store.append(other, [make_record(0)])
    run_id = store.create_run(
        {"lr": 0.1},
        status="running",
        name="mine",
        source="recorder",
        owner="visitor",
        published=True,
        group="g",
        objectives=("a", "b", "c"),
    )
    store.annotate(run_id, tags=["slow"], notes="see page 3")
    store.append(run_id, [full(step) for step in range(4)])
    store.append(run_id, [make_record(9, m=300), replace(make_record(10), gramian=None)])
    store.save_checkpoint(run_id, 0, b"state")
    return run_id


def full(step):
    record = make_record(step)
    return replace(record, shares=split(record.gramian), scalars={"accuracy": step / 3})


@pytest.fixture
def path(store, run_id, tmp_path):
    path = tmp_path / "mine.jdviz"
    export_run(store, run_id, path)
    return path


def test_a_run_travels_with_everything_but_its_owner(store, run_id, path, tmp_path):
    assert sorted(file.name for file in tmp_path.iterdir()) == ["deep", "mine.jdviz"]
    before = path.read_bytes()
    target = RunStore(tmp_path / "target.sqlite")
    new_id = import_run(target, path, owner="guest")
    assert path.read_bytes() == before
    (run,) = target.runs()
    assert new_id == run.run_id != run_id
    assert (run.name, run.source, run.owner, run.published, run.group) == (
        "mine",
        "import",
        "guest",
        False,
        "",
    )
    assert (run.tags, run.notes, run.objectives) == (("slow",), "see page 3", ("a", "b", "c"))
    assert (run.status, run.message) == ("interrupted", "It was exported before it had ended.")
    old = store.run(run_id)
    assert (run.config, run.steps, run.size_bytes) == (old.config, old.steps, old.size_bytes)
    assert run.created_s == old.created_s
    for step in store.steps(run_id):
        assert_same_record(target.record(new_id, int(step)), store.record(run_id, int(step)))
    np.testing.assert_array_equal(target.share_steps(new_id), [0, 1, 2, 3])
    assert target.checkpoint(new_id, 5) == (0, b"state")
    assert target.thinning_sentence(new_id) == store.thinning_sentence(run_id) != ""
    rates = [
        backing.series(run).conflict_rate for backing, run in ((store, run_id), (target, new_id))
    ]
    np.testing.assert_array_equal(*rates)


def test_the_file_says_nothing_of_the_server(path):
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT owner, group_name, published FROM runs").fetchall()
    assert row == [("", "", 0)]
    assert b"visitor" not in path.read_bytes()
    assert b"another" not in path.read_bytes()


def test_an_ended_run_keeps_how_it_ended(store, run_id, tmp_path):
    store.set_status(run_id, "diverged", "NaN at step 3.")
    new_id = import_bytes(store, export_bytes(store, run_id))
    run = store.run(new_id)
    assert (run.status, run.message) == ("diverged", "NaN at step 3.")
    assert store.run(run_id).steps == run.steps


def test_a_run_of_an_older_schema_is_brought_up_to_date(tmp_path):
    old = tmp_path / "old.jdviz"
    old.write_bytes(SCHEMA_1.read_bytes())
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("DELETE FROM runs WHERE id != 'one'")
    before = old.read_bytes()
    store = RunStore(tmp_path / "runs.sqlite")
    new_id = import_run(store, old)
    assert_same_record(store.latest(new_id), make_record(2))
    assert not np.isnan(store.series(new_id).conflict_rate).any()
    assert old.read_bytes() == before


def test_what_cannot_be_exported_leaves_what_was_there(store, run_id, tmp_path, monkeypatch):
    path = tmp_path / "there.jdviz"
    path.write_bytes(b"before")
    with pytest.raises(TransferError, match="no run nobody"):
        export_run(store, "nobody", path)

    def full_disk(connection, version=schema.SCHEMA_VERSION):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("jdviz.runs.transfer.create", full_disk)
    with pytest.raises(TransferError, match="disk is full"):
        export_run(store, run_id, path)
    assert path.read_bytes() == b"before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["deep", "there.jdviz"]
    monkeypatch.undo()
    with pytest.raises(TransferError, match="cannot be exported"):
        export_run(store, run_id, tmp_path / "nowhere" / "mine.jdviz")


def refuse(store, path, match):
    before = [run.run_id for run in store.runs()]
    with pytest.raises(TransferError, match=match):
        import_run(store, path)
    assert [run.run_id for run in store.runs()] == before


def test_a_file_that_is_no_export_is_refused(store, tmp_path):
    path = tmp_path / "x.jdviz"
    refuse(store, path, "cannot be read")
    for content in (b"", b"SQLite", b"\x80\x04K\x01."):
        path.write_bytes(content)
        refuse(store, path, "not a file that jdviz exported")
    store.create_run({})
    refuse(store, store.path, "a run store in use")


def test_a_file_beyond_the_limit_is_refused_unread(store, path):
    with pytest.raises(TransferError, match=r"at most 0\.001 MiB are accepted"):
        import_run(store, path, max_bytes=1049)
    with pytest.raises(TransferError, match="at most"):
        import_bytes(store, path.read_bytes(), max_bytes=1049)


def test_a_file_that_was_cut_or_altered_is_refused(store, path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refuse(store, path, "damaged")
    page = 4096
    path.write_bytes(whole[:page] + bytes(page) + whole[2 * page :])
    refuse(store, path, "damaged")


def test_several_runs_are_not_one(tmp_path, store):
    path = tmp_path / "several.jdviz"
    path.write_bytes(SCHEMA_1.read_bytes())
    refuse(store, path, "several runs")


STRANGE = "not a number|cannot be read|not a text|not a list|have no names|not a whole number"
BIG = "x'" + (b"Fb\x02" + b"\xff" * 8 + bytes(16)).hex() + "'"
ALTERATIONS = {
    "a view": ("CREATE VIEW v AS SELECT 1", "other tables"),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON runs BEGIN SELECT 1; END", "other tables"),
    "an index": ("CREATE INDEX i ON steps(time_s)", "other tables"),
    "a table": ("CREATE TABLE t (x)", "other tables"),
    "a column": ("ALTER TABLE steps ADD COLUMN x", "other tables"),
    "a table less": ("DROP TABLE tallies", "other tables"),
    "a newer schema": ("PRAGMA user_version=3", "newer jdviz"),
    "no schema": ("PRAGMA user_version=0", "holds no run store"),
    "no run": ("DELETE FROM runs", "no run, expected one"),
    "two runs": (
        "INSERT INTO runs(id, created_s, config, status, heartbeat_s) VALUES ('x',0,'{}','',0)",
        "several runs",
    ),
    "another run's steps": ("UPDATE steps SET run_id='x' WHERE step=1", "another run"),
    "another run's matrix": ("UPDATE payloads SET run_id='x' WHERE step=1", "another run"),
    "settings not JSON": ("UPDATE runs SET config='{'", STRANGE),
    "settings a list": ("UPDATE runs SET config='[]'", "not a table of names"),
    "settings nested": (f"UPDATE runs SET config='{'[' * 5000}'", STRANGE),
    "settings large": ("UPDATE runs SET config=hex(zeroblob(600000))", STRANGE),
    "tags not a list": ("""UPDATE runs SET tags='{"a": 1}'""", STRANGE),
    "objectives not text": ("UPDATE runs SET objectives='[1]'", STRANGE),
    "notes a blob": ("UPDATE runs SET notes=x'00'", STRANGE),
    "notes large": ("UPDATE runs SET notes=hex(zeroblob(40000))", STRANGE),
    "text not UTF-8": ("UPDATE runs SET notes=CAST(x'ff' AS TEXT)", "damaged"),
    "made never": ("UPDATE runs SET created_s=1e999", STRANGE),
    "a step below zero": ("UPDATE steps SET step=-1 WHERE step=1", STRANGE),
    "a step that is text": ("UPDATE steps SET step='one' WHERE step=1", STRANGE),
    "a time without end": ("UPDATE steps SET time_s=9e999 WHERE step=1", STRANGE),
    "memory a blob": ("UPDATE steps SET peak_bytes=x'00' WHERE step=1", STRANGE),
    "a rate above one": ("UPDATE steps SET conflict_rate=1.5 WHERE step=1", STRANGE),
    "a cosine below -1": ("UPDATE steps SET least_cosine=-2 WHERE step=1", STRANGE),
    "losses text": ("UPDATE steps SET losses='x' WHERE step=1", STRANGE),
    "losses huge": (f"UPDATE steps SET losses={BIG} WHERE step=1", STRANGE),
    "scalars a list": ("UPDATE steps SET scalars='[]' WHERE step=1", STRANGE),
    "a scalar text": ("""UPDATE steps SET scalars='{"a": "b"}' WHERE step=1""", STRANGE),
    "a scalar beyond floats": (
        f"""UPDATE steps SET scalars='{{"a": {10**400}}}' WHERE step=1""",
        STRANGE,
    ),
    "an unknown kind": ("UPDATE payloads SET kind='code' WHERE step=1", "something unknown"),
    "a matrix without a step": ("DELETE FROM steps WHERE step=1", "but not the step"),
    "a matrix text": ("UPDATE payloads SET data='x' WHERE step=1", "something unknown"),
    "a gramian huge": (
        f"UPDATE payloads SET data={BIG} WHERE step=1 AND kind='gramian'",
        STRANGE,
    ),
    "a split huge": (f"UPDATE payloads SET data={BIG} WHERE step=1 AND kind='shares'", STRANGE),
    "a tally of nothing": (
        "INSERT INTO tallies SELECT id, 'code', 1, 1, 1 FROM runs",
        "counts things",
    ),
    "a stride of zero": ("UPDATE tallies SET stride=0", STRANGE),
    "a tally too large": ("UPDATE tallies SET bytes=bytes+1", "its counts"),
    "a size too large": ("UPDATE payloads SET size=size+1 WHERE step=1", "its counts"),
    "too many steps said": ("UPDATE runs SET step_count=99", "its counts"),
    "too many bytes said": ("UPDATE runs SET step_bytes=99999999", "its counts"),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_a_file_that_claims_something_else_is_refused(store, path, name):
    statement, match = ALTERATIONS[name]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)
    refuse(store, path, match)


SHAPES = {
    "weights": ("steps", "weights", encode(np.ones(4))),
    "inner": ("steps", "inner", encode(np.ones((3, 1)))),
    "samples": ("steps", "sample_ids", encode(np.ones(3))),
    "losses": ("steps", "losses", encode(np.ones((3, 3)))),
    "gramian": ("payloads", "data", encode(np.eye(4))),
    "gramian of whole numbers": ("payloads", "data", encode(np.eye(3, dtype=np.int64))),
    "kept objectives": ("payloads", "kept_ids", encode(np.array([0, 1, 3]))),
    "kept objectives twice": ("payloads", "kept_ids", encode(np.array([0, 1, 1]))),
    "kept objectives fewer": ("payloads", "kept_ids", encode(np.array([0, 1]))),
}


@pytest.mark.parametrize("name", SHAPES)
def test_an_array_that_does_not_fit_its_step_is_refused(store, path, name):
    table, column, blob = SHAPES[name]
    only = " AND kind='gramian'" if table == "payloads" else ""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE {table} SET {column}=? WHERE step=1{only}", (blob,))
    refuse(store, path, "cannot be read|not ascending places")


def test_a_split_that_does_not_fit_its_step_is_refused(store, path):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE payloads SET data=? WHERE step=1 AND kind='shares'",
            (pack_named({"a": np.eye(4)}),),
        )
    refuse(store, path, r"has the shape \(4, 4\)")


def test_a_store_that_is_full_imports_nothing(store, path, monkeypatch):
    pages = sqlite3.connect(store.path).execute("PRAGMA page_count").fetchone()[0]
    opened = type(store.database).open

    def limited(self):
        connection = opened(self)
        connection.execute(f"PRAGMA max_page_count={pages}")
        return connection

    monkeypatch.setattr(type(store.database), "open", limited)
    before = [run.run_id for run in store.runs()]
    with pytest.raises(StoreError, match="disk is full"):
        import_run(store, path)
    assert [run.run_id for run in store.runs()] == before


def test_a_run_from_the_future_does_not_stay_on_top(store, path):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE runs SET created_s=1e15")
    new_id = import_run(store, path)
    later = store.create_run({})
    assert [run.run_id for run in store.runs(limit=2)] == [later, new_id]


def test_the_check_names_the_limit_it_has_by_default():
    assert checking.MAX_BYTES == 512 * 2**20
