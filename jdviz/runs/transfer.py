"""A run as one file: export from a store, import into another."""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jdviz.runs.checking import MAX_BYTES, checked
from jdviz.runs.errors import TransferError
from jdviz.runs.files import replacing
from jdviz.runs.schema import SCHEMA_VERSION, create
from jdviz.runs.store import FINAL_STATUSES, RunStore, new_run_id

#: What the name of an exported run ends with.
SUFFIX = ".jdviz"

_TABLES = ("steps", "payloads", "tallies")


def _connect(path: Path) -> sqlite3.Connection:
    target = sqlite3.connect(path, isolation_level=None)
    # A file that is thrown away unless it is complete needs no journal.
    target.execute("PRAGMA journal_mode=OFF")
    target.execute("PRAGMA synchronous=OFF")
    target.execute("BEGIN")
    return target


def export_run(store: RunStore, run_id: str, path: Path) -> None:
    """Write one run to a file of its own, with its matrices and checkpoints.

    Args:
        store: Where the run is; it may still be written meanwhile.
        run_id: The run.
        path: The file to write, by custom ending in `.jdviz`; it is complete or not there.

    Raises:
        TransferError: If the store has no such run, or the file cannot be written.
        StoreError: If the store cannot be read.
    """
    with store.database.reading() as source:
        found = list(_rows(source, "SELECT * FROM runs WHERE id=?", (run_id,)))
        if not found:
            raise TransferError(f"The run store has no run {run_id}, so nothing was exported.")
        # Whose run it is on this server says nothing elsewhere, and is nobody's business there.
        row = found[0] | {"owner": "", "group_name": "", "published": 0}
        try:
            with replacing(path) as part, closing(_connect(part)) as target:
                create(target)
                target.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
                _insert(target, "runs", [row])
                for table in _TABLES:
                    _copy(source, target, table, run_id, run_id)
                target.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise TransferError(
                f"The run cannot be exported to {path} ({error}). Check that there is space, and "
                "that the folder is yours to write."
            ) from error


def export_bytes(store: RunStore, run_id: str) -> bytes:
    """The file that `export_run` writes, as bytes for a download.

    Args:
        store: Where the run is.
        run_id: The run.

    Returns:
        The content of the file.

    Raises:
        TransferError: If the store has no such run, or there is no space.
        StoreError: If the store cannot be read.
    """
    with TemporaryDirectory(prefix="jdviz-") as folder:
        path = Path(folder) / f"run{SUFFIX}"
        export_run(store, run_id, path)
        return path.read_bytes()


def import_run(store: RunStore, path: Path, *, owner: str = "", max_bytes: int = MAX_BYTES) -> str:
    """Copy a run from a file into a store, after checking the file.

    Args:
        store: Where the run goes.
        path: What `export_run` wrote; it is not changed.
        owner: The visitor who imports it, or empty.
        max_bytes: The largest file to look at.

    Returns:
        The new run's identifier. A run that was exported before its end is interrupted.

    Raises:
        TransferError: If the file is not an exported run.
        StoreError: If the store cannot be written; then nothing was imported.
    """
    with checked(path, max_bytes=max_bytes) as source:
        (row,) = _rows(source, "SELECT * FROM runs", ())
        old_id, new_id = row["id"], new_run_id()
        row |= {
            "id": new_id,
            "created_s": min(row["created_s"], time.time()),
            "source": "import",
            "owner": owner,
            "group_name": "",
            "published": 0,
        }
        if row["status"] not in FINAL_STATUSES:
            row |= {"status": "interrupted", "message": "It was exported before it had ended."}
        with store.database.transaction() as target:
            _insert(target, "runs", [row])
            for table in _TABLES:
                _copy(source, target, table, old_id, new_id)
    return new_id


def import_bytes(
    store: RunStore, data: bytes, *, owner: str = "", max_bytes: int = MAX_BYTES
) -> str:
    """`import_run` for an upload.

    Args:
        store: Where the run goes.
        data: The content of the file.
        owner: The visitor who imports it, or empty.
        max_bytes: The largest file to look at.

    Returns:
        The new run's identifier.

    Raises:
        TransferError: If it is not an exported run, or cannot be laid down to be looked at.
        StoreError: If the store cannot be written; then nothing was imported.
    """
    with TemporaryDirectory(prefix="jdviz-") as folder:
        path = Path(folder) / f"upload{SUFFIX}"
        try:
            path.write_bytes(data)
        except OSError as error:
            raise TransferError(
                f"The upload cannot be checked ({error.strerror}). Free some space on the server."
            ) from error
        return import_run(store, path, owner=owner, max_bytes=max_bytes)


def _copy(
    source: sqlite3.Connection, target: sqlite3.Connection, table: str, old_id: str, new_id: str
) -> None:
    query = f"SELECT * FROM {table} WHERE run_id=?"
    _insert(target, table, (row | {"run_id": new_id} for row in _rows(source, query, (old_id,))))


def _rows(
    source: sqlite3.Connection, query: str, values: tuple[object, ...]
) -> Iterator[dict[str, Any]]:
    """Rows by the names of their columns, one at a time: a run may be larger than memory."""
    cursor = source.execute(query, values)
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))


def _insert(target: sqlite3.Connection, table: str, rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        marks = ",".join("?" * len(row))
        target.execute(
            f"INSERT INTO {table}({','.join(row)}) VALUES ({marks})", tuple(row.values())
        )
