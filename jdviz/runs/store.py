"""The run store: SQLite in WAL mode, one row per step.

Workers append, pages read, in different processes at the same time. Every failure of the file
(locked, unreadable, full disk, newer schema) is a `StoreError` whose text a page can show as it is.
"""

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jdviz.runs.blobs import decode, encode
from jdviz.runs.errors import StoreError, explain
from jdviz.training.record import StepRecord

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 5.0
FINAL_STATUSES = frozenset({"finished", "stopped", "diverged", "failed", "interrupted"})
QUEUE_LIMIT_S = 86400.0

_SCHEMA = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    created_s REAL NOT NULL,
    config TEXT NOT NULL,
    status TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    heartbeat_s REAL NOT NULL
);
CREATE TABLE steps (
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    step INTEGER NOT NULL,
    time_s REAL NOT NULL,
    elapsed_s REAL NOT NULL,
    direction_norm REAL,
    peak_bytes INTEGER,
    losses BLOB NOT NULL,
    weights BLOB,
    inner BLOB,
    sample_ids BLOB,
    gramian BLOB
);
CREATE UNIQUE INDEX steps_by_run ON steps(run_id, step);
"""


@dataclass(frozen=True)
class Run:
    """What is known of a run beside its steps.

    Attributes:
        run_id: Its name in the store.
        created_s: When it was created, seconds since the epoch.
        config: The settings it was started with.
        status: queued, running, paused, finished, stopped, diverged, failed or interrupted.
        message: One sentence for a person where the status needs one, else empty.
        heartbeat_s: When its worker last wrote, seconds since the epoch.
        steps: Steps recorded so far.
    """

    run_id: str
    created_s: float
    config: dict[str, Any]
    status: str
    message: str
    heartbeat_s: float
    steps: int


@dataclass(frozen=True, eq=False)
class Series:
    """A run's history without its matrices, thinned to a number of points.

    Attributes:
        steps: Step numbers, shape [k].
        losses: Losses, shape [k, m].
        weights: Weights, shape [k, m], NaN where a step has none.
        direction_norm: Length of the update direction, shape [k], NaN where a step has none.
    """

    steps: NDArray[np.int64]
    losses: NDArray[np.float64]
    weights: NDArray[np.float64]
    direction_norm: NDArray[np.float64]


def data_folder() -> Path:
    """The folder that holds the run store: `JDVIZ_DATA`, else the user's data folder."""
    named = os.environ.get("JDVIZ_DATA")
    return Path(named).expanduser() if named else Path.home() / ".local" / "share" / "jdviz"


class RunStore:
    """Runs and their steps in one SQLite file.

    Args:
        path: The file; it and its folder are created when missing, unless `read_only`.
        read_only: Open an existing file without ever writing to it.

    Raises:
        StoreError: If the file cannot be opened, is not a run store, or has a newer schema.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._prepare()

    def _open(self) -> sqlite3.Connection:
        if self.read_only:
            # An immutable file needs no journal beside it, so an installed package can hold it.
            uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
            return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)
        return sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if not self.read_only and not self.path.exists():
            # Somebody moved the file away while the server runs: begin a new one.
            self._prepare()
        with self._opened() as connection:
            yield connection

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._open()
        except (sqlite3.Error, OSError) as error:
            raise explain(error, self.path) from error
        try:
            if not self.read_only:
                connection.execute("PRAGMA foreign_keys=ON")
                connection.execute("PRAGMA synchronous=NORMAL")
            yield connection
        except (sqlite3.Error, OSError) as error:
            raise explain(error, self.path) from error
        finally:
            connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # A full disk may already have rolled back; a second rollback would hide the cause.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _prepare(self) -> None:
        if not self.read_only:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise explain(error, self.path) from error
        with self._opened() as connection:
            version = self._version(connection)
            if version == 0 and not self.read_only:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("BEGIN IMMEDIATE")
                # Two processes may arrive here at once; the second finds the work done.
                if self._version(connection) == 0:
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
                connection.execute("COMMIT")

    def _version(self, connection: sqlite3.Connection) -> int:
        # In this order: tables that another process adds in between come with a version.
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION or (version == 0 and tables):
            raise StoreError(
                f"The run store {self.path} was written by another version of jdviz "
                f"(schema {version}, expected {SCHEMA_VERSION}). Update jdviz, or point JDVIZ_DATA "
                "at another folder; the file was left as it is."
            )
        return version

    def create_run(
        self, config: dict[str, Any], *, status: str = "queued", run_id: str | None = None
    ) -> str:
        """Add a run without steps.

        Args:
            config: Its settings, anything JSON holds.
            status: The status to begin with.
            run_id: Its name; made from date and chance when None.

        Returns:
            The run's name.

        Raises:
            StoreError: If the store cannot be written.
        """
        now_s = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now_s))
        name = run_id or f"{stamp}-{uuid.uuid4().hex[:6]}"
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO runs(id, created_s, config, status, heartbeat_s) VALUES (?,?,?,?,?)",
                (name, now_s, json.dumps(config), status, now_s),
            )
        return name

    def append(self, run_id: str, records: Sequence[StepRecord]) -> None:
        """Add steps to a run in one transaction, so that readers see all of them or none.

        Args:
            run_id: The run.
            records: Its next steps.

        Raises:
            StoreError: If the store cannot be written; then none of `records` was added.
        """
        rows = [
            (
                run_id,
                record.step,
                record.time_s,
                record.elapsed_s,
                record.direction_norm,
                record.peak_bytes,
                encode(record.losses),
                encode(record.weights),
                encode(record.inner),
                encode(record.sample_ids),
                encode(record.gramian),
            )
            for record in records
        ]
        with self._transaction() as connection:
            connection.executemany(f"INSERT INTO steps VALUES ({','.join('?' * 11)})", rows)
            connection.execute("UPDATE runs SET heartbeat_s=? WHERE id=?", (time.time(), run_id))

    def set_status(self, run_id: str, status: str, message: str = "") -> None:
        """Change a run's status; a final status stays.

        Args:
            run_id: The run.
            status: The new status.
            message: One sentence for a person, or empty.

        Raises:
            StoreError: If the store cannot be written.
        """
        kept = ",".join("?" * len(FINAL_STATUSES))
        with self._transaction() as connection:
            connection.execute(
                "UPDATE runs SET status=?, message=?, heartbeat_s=? "
                f"WHERE id=? AND status NOT IN ({kept})",
                (status, message, time.time(), run_id, *sorted(FINAL_STATUSES)),
            )

    def beat(self, run_id: str) -> None:
        """Record that the run's worker is alive.

        Raises:
            StoreError: If the store cannot be written.
        """
        with self._transaction() as connection:
            connection.execute("UPDATE runs SET heartbeat_s=? WHERE id=?", (time.time(), run_id))

    def interrupt_silent(self, *, silent_s: float) -> int:
        """Mark runs as interrupted whose worker has not written for `silent_s` seconds.

        Args:
            silent_s: How long a worker may be silent.

        Returns:
            How many runs were marked.

        Raises:
            StoreError: If the store cannot be written.
        """
        now_s = time.time()
        with self._transaction() as connection:
            # A queued run has no worker yet and may rightly wait for hours.
            cursor = connection.execute(
                "UPDATE runs SET status='interrupted', message=? "
                "WHERE (status IN ('running', 'paused') AND heartbeat_s < ?) "
                "OR (status = 'queued' AND heartbeat_s < ?)",
                (
                    "Its worker went silent; the steps recorded until then are kept.",
                    now_s - silent_s,
                    now_s - max(silent_s, QUEUE_LIMIT_S),
                ),
            )
            return cursor.rowcount

    def runs(self, limit: int = 50) -> list[Run]:
        """The newest runs first.

        Args:
            limit: How many at most.

        Raises:
            StoreError: If the store cannot be read.
        """
        return self._runs("ORDER BY created_s DESC LIMIT ?", (limit,))

    def run(self, run_id: str) -> Run | None:
        """One run by name, or None if the store has no such run.

        Raises:
            StoreError: If the store cannot be read.
        """
        found = self._runs("WHERE id=?", (run_id,))
        return found[0] if found else None

    def _runs(self, clause: str, values: tuple[object, ...]) -> list[Run]:
        query = (
            "SELECT id, created_s, config, status, message, heartbeat_s, "
            f"(SELECT count(*) FROM steps WHERE run_id=runs.id) FROM runs {clause}"
        )
        with self._connection() as connection:
            rows = connection.execute(query, values).fetchall()
        return [Run(row[0], row[1], json.loads(row[2]), *row[3:]) for row in rows]

    def latest(self, run_id: str) -> StepRecord | None:
        """The last complete step of a run, or None before its first.

        Raises:
            StoreError: If the store cannot be read.
        """
        found = self._records("WHERE run_id=? ORDER BY step DESC LIMIT 1", (run_id,))
        return found[0] if found else None

    def record(self, run_id: str, step: int) -> StepRecord | None:
        """One step of a run, or None if it was not recorded.

        Raises:
            StoreError: If the store cannot be read.
        """
        found = self._records("WHERE run_id=? AND step=?", (run_id, step))
        return found[0] if found else None

    def _records(self, clause: str, values: tuple[object, ...]) -> list[StepRecord]:
        columns = (
            "step, time_s, losses, gramian, weights, inner, direction_norm, sample_ids, "
            "elapsed_s, peak_bytes"
        )
        with self._connection() as connection:
            rows = connection.execute(f"SELECT {columns} FROM steps {clause}", values).fetchall()
        return [
            StepRecord(
                step=row[0],
                time_s=row[1],
                losses=_array(row[2]),
                gramian=decode(row[3]),
                weights=decode(row[4]),
                inner=decode(row[5]),
                direction_norm=row[6],
                sample_ids=decode(row[7]),
                elapsed_s=row[8],
                peak_bytes=row[9],
            )
            for row in rows
        ]

    def series(self, run_id: str, *, max_points: int = 400) -> Series:
        """A run's history without its matrices.

        Args:
            run_id: The run.
            max_points: At most this many steps, evenly spaced; the last step is always among them.

        Returns:
            The history, possibly of length 0.

        Raises:
            StoreError: If the store cannot be read.
        """
        with self._connection() as connection:
            first, last = connection.execute(
                "SELECT min(step), max(step) FROM steps WHERE run_id=?", (run_id,)
            ).fetchone()
            if last is None:
                empty = np.empty((0, 0))
                return Series(np.empty(0, np.int64), empty, empty, np.empty(0))
            stride = max(1, -(-(last - first + 1) // max_points))
            rows = connection.execute(
                "SELECT step, losses, weights, direction_norm FROM steps "
                "WHERE run_id=? AND (step % ? = 0 OR step = ?) ORDER BY step",
                (run_id, stride, last),
            ).fetchall()
        losses = np.stack([_array(row[1]) for row in rows])
        none = np.full(losses.shape[1], np.nan)
        weights = np.stack([none if row[2] is None else _array(row[2]) for row in rows])
        norms = [np.nan if row[3] is None else row[3] for row in rows]
        steps = np.array([row[0] for row in rows], dtype=np.int64)
        return Series(steps, losses, weights, np.array(norms, dtype=np.float64))

    def seal(self) -> None:
        """Fold the journal into the one file, so that it can be shipped and opened read-only.

        Raises:
            StoreError: If the store cannot be written.
        """
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("VACUUM")


def _array(blob: bytes) -> NDArray:
    values = decode(blob)
    if values is None:
        raise StoreError(
            "A step in the run store has no losses: it is damaged. Move the file away."
        )
    return values
