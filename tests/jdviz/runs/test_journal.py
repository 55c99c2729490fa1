import sqlite3
from contextlib import closing

import pytest

from jdviz.runs import RunStore, StoreError, journal
from jdviz.runs import database as database_module
from tests.support.records import assert_same_record, make_record


def mode(path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA journal_mode").fetchone()[0]


def on_network(monkeypatch, tmp_path, kind="nfs4"):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nhome:/x {tmp_path} {kind} rw 0 0\n")
    monkeypatch.setattr(journal, "MOUNTS", mounts)


def check_works(store) -> None:
    run_id = store.create_run({})
    store.append(run_id, [make_record(0)])
    assert_same_record(store.latest(run_id), make_record(0))
    assert sorted(path.name for path in store.path.parent.iterdir()) == ["runs.sqlite"]


def test_a_local_store_has_a_write_ahead_log_and_no_notice(store):
    assert mode(store.path) == "wal"
    assert store.notice == ""
    check_works(store)


@pytest.mark.parametrize("answer", ["delete", sqlite3.OperationalError("disk I/O error")])
def test_where_a_log_is_impossible_the_store_says_so(tmp_path, monkeypatch, answer):
    def ask(connection):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(journal, "ask_for_wal", ask)
    store = RunStore(tmp_path / "deep" / "runs.sqlite")
    assert mode(store.path) == "delete"
    assert "cannot do a write-ahead log" in store.notice
    assert "rollback journal" in store.notice
    check_works(store)


def test_a_store_that_is_busy_is_not_one_without_a_log(tmp_path, monkeypatch):
    def ask(connection):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(journal, "ask_for_wal", ask)
    with pytest.raises(StoreError, match="is locked by another program"):
        RunStore(tmp_path / "runs.sqlite")


def test_a_file_system_in_the_network_gets_a_rollback_journal(tmp_path, monkeypatch):
    on_network(monkeypatch, tmp_path)
    store = RunStore(tmp_path / "deep" / "runs.sqlite")
    assert mode(store.path) == "delete"
    assert "(nfs4)" in store.notice
    check_works(store)


def test_a_store_that_moved_to_the_network_leaves_its_log(store, tmp_path, monkeypatch):
    run_id = store.create_run({})
    store.append(run_id, [make_record(0)])
    on_network(monkeypatch, tmp_path)
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM runs").fetchall()
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.01)
    RunStore(store.path)
    # While somebody reads through the log it stays.
    assert mode(store.path) == "wal"
    reader.close()
    moved = RunStore(store.path)
    assert mode(store.path) == "delete"
    assert "(nfs4)" in moved.notice
    assert_same_record(moved.latest(run_id), make_record(0))


def test_a_writer_without_a_log_keeps_readers_waiting_not_failing(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "ask_for_wal", lambda connection: "delete")
    store = RunStore(tmp_path / "runs.sqlite")
    run_id = store.create_run({})
    writer = sqlite3.connect(store.path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
    with pytest.raises(StoreError, match="is locked by another program"):
        store.run(run_id)
    writer.execute("COMMIT")
    writer.close()
    assert store.run(run_id).run_id == run_id


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("/dev/sda / ext4 rw 0 0", ""),
        ("/dev/sda / ext4 rw 0 0\nhost:/h /data nfs rw 0 0", "nfs"),
        ("host:/h / nfs rw 0 0\n/dev/sda /data ext4 rw 0 0", ""),
        ("/dev/sda / ext4 rw 0 0\nhost:/h /dat nfs rw 0 0", ""),
        ("host /data/run\\040store fuse.sshfs rw 0 0", "fuse.sshfs"),
        ("/dev/sda /data ext4 rw 0 0\n//host/x /data cifs rw 0 0", "cifs"),
        ("tmpfs /data tmpfs rw 0 0", ""),
        ("nonsense", ""),
    ],
)
def test_the_closest_mount_says_which_file_system_it_is(tmp_path, monkeypatch, lines, expected):
    mounts = tmp_path / "mounts"
    mounts.write_text(lines)
    monkeypatch.setattr(journal, "MOUNTS", mounts)
    path = journal.Path("/data/run store/runs.sqlite")
    assert journal.network_file_system(path) == expected


def test_a_system_without_a_list_of_mounts_has_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "MOUNTS", tmp_path / "nothing")
    assert journal.network_file_system(tmp_path) == ""
