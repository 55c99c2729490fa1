"""The tables of the run store, their version, and the way from an older version to this one."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jdviz.conflict import conflict_rate, cosines
from jdviz.runs.blobs import decode
from jdviz.runs.errors import StoreError

SCHEMA_VERSION = 2

_SCHEMA_1 = """
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

# What is large (Gramians, their split over modules, checkpoints) lies in `payloads`, apart from
# the numbers that series are drawn from: reading a history touches none of it, and dropping a
# matrix rewrites no step. `tallies` spares every append a sum over the payloads of its run.
_SCHEMA_2 = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    created_s REAL NOT NULL,
    config TEXT NOT NULL,
    status TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    heartbeat_s REAL NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    source TEXT NOT NULL DEFAULT 'app',
    owner TEXT NOT NULL DEFAULT '',
    published INTEGER NOT NULL DEFAULT 0,
    group_name TEXT NOT NULL DEFAULT '',
    tags TEXT NOT NULL DEFAULT '[]',
    notes TEXT NOT NULL DEFAULT '',
    objectives TEXT NOT NULL DEFAULT '[]',
    step_count INTEGER NOT NULL DEFAULT 0,
    step_bytes INTEGER NOT NULL DEFAULT 0,
    largest_m INTEGER NOT NULL DEFAULT 0,
    budget_bytes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX runs_by_time ON runs(created_s);
CREATE TABLE steps (
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    step INTEGER NOT NULL,
    time_s REAL NOT NULL,
    elapsed_s REAL NOT NULL,
    direction_norm REAL,
    peak_bytes INTEGER,
    conflict_rate REAL,
    least_cosine REAL,
    losses BLOB NOT NULL,
    weights BLOB,
    inner BLOB,
    scalars TEXT,
    sample_ids BLOB
);
CREATE UNIQUE INDEX steps_by_run ON steps(run_id, step);
CREATE INDEX measured_steps ON steps(run_id, step) WHERE least_cosine IS NOT NULL;
CREATE INDEX memory_steps ON steps(run_id, step) WHERE peak_bytes IS NOT NULL;
CREATE INDEX named_steps ON steps(run_id, step) WHERE scalars IS NOT NULL;
CREATE TABLE payloads (
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    step INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    size INTEGER NOT NULL,
    kept_ids BLOB,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX payloads_by_step ON payloads(run_id, kind, step, seq, size);
CREATE TABLE tallies (
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    stride INTEGER NOT NULL,
    PRIMARY KEY (run_id, kind)
);
"""

#: Every version that was ever written, with its statements.
SCHEMAS = {1: _SCHEMA_1, 2: _SCHEMA_2}

# Everything of version 1 is kept to the bit; the measures are what `append` would have stored.
_FROM_1_TO_2 = """
DROP INDEX steps_by_run;
ALTER TABLE runs RENAME TO runs_1;
ALTER TABLE steps RENAME TO steps_1;
{schema}
INSERT INTO runs(id, created_s, config, status, message, heartbeat_s, step_count, step_bytes)
    SELECT id, created_s, config, status, message, heartbeat_s,
        (SELECT count(*) FROM steps_1 WHERE run_id=runs_1.id),
        (SELECT coalesce(sum(length(losses) + coalesce(length(weights), 0)
            + coalesce(length(inner), 0) + coalesce(length(sample_ids), 0)), 0)
            FROM steps_1 WHERE run_id=runs_1.id)
    FROM runs_1;
INSERT INTO steps
    SELECT run_id, step, time_s, elapsed_s, direction_norm, peak_bytes, conflict_rate(gramian),
        least_cosine(gramian), losses, weights, inner, NULL, sample_ids FROM steps_1
    ORDER BY run_id, step;
INSERT INTO payloads
    SELECT run_id, 'gramian', step, row_number() OVER (PARTITION BY run_id ORDER BY step) - 1,
        length(gramian), NULL, gramian FROM steps_1 WHERE gramian IS NOT NULL;
INSERT INTO tallies
    SELECT run_id, kind, count(*), sum(size), 1 FROM payloads GROUP BY run_id, kind;
DROP TABLE steps_1;
DROP TABLE runs_1;
"""


def measures(gramian: NDArray[np.float64] | None) -> tuple[float | None, float | None]:
    """What the store keeps of a Gramian in every step, whether or not the matrix stays.

    Args:
        gramian: The whole Gramian, shape [m, m], or None.

    Returns:
        The conflict rate and the least cosine of a pair; None where there is no such number.
    """
    if gramian is None:
        return None, None
    rate = conflict_rate(gramian)
    values = cosines(gramian)[np.triu_indices(len(gramian), k=1)]
    values = values[~np.isnan(values)]
    return None if np.isnan(rate) else rate, float(values.min()) if values.size else None


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """Read the version of an open file, without changing the file.

    Args:
        connection: The file.
        path: Its path, for the message.

    Returns:
        Its schema version; 0 for an empty file.

    Raises:
        StoreError: If it was written by a newer version or by another program.
    """
    # In this order: tables that another process adds in between come with a version.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if not 0 <= version <= SCHEMA_VERSION or (version == 0 and tables):
        raise StoreError(
            f"The run store {path} was written by another version of jdviz "
            f"(schema {version}, expected {SCHEMA_VERSION}). Update jdviz, or point JDVIZ_DATA "
            "at another folder; the file was left as it is."
        )
    return version


def upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Bring an empty or older file to this version, in one transaction.

    Args:
        connection: The file, in autocommit mode.
        path: Its path, for messages.

    Raises:
        StoreError: If it was written by a newer version or by another program.
        sqlite3.Error: If the file cannot be written; then it is as it was.
    """
    if check_version(connection, path) == SCHEMA_VERSION:
        return
    for name, place in (("conflict_rate", 0), ("least_cosine", 1)):
        connection.create_function(name, 1, _measure_of_blob(place), deterministic=True)
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Two processes may arrive here at once; the second finds the work done.
        version = check_version(connection, path)
        if version == 0:
            create(connection)
        elif version == 1:
            _run(connection, _FROM_1_TO_2.format(schema=_SCHEMA_2))
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may already have rolled back; a second rollback would hide the cause.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def create(connection: sqlite3.Connection, version: int = SCHEMA_VERSION) -> None:
    """Make the tables of a version in an empty database.

    Args:
        connection: The database.
        version: A key of `SCHEMAS`.
    """
    _run(connection, SCHEMAS[version])


def objects(connection: sqlite3.Connection) -> set[tuple[str, str, str, str | None]]:
    """Every table, index, view and trigger of a database: type, name, table and statement."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    return set(connection.execute(query).fetchall())


def _run(connection: sqlite3.Connection, script: str) -> None:
    # One by one: `executescript` would commit the transaction first.
    for statement in script.split(";"):
        if statement.strip():
            connection.execute(statement.strip())


def _measure_of_blob(place: int) -> Callable[[bytes | None], float | None]:
    def measured(blob: bytes | None) -> float | None:
        try:
            return measures(decode(blob))[place]
        except ValueError:
            # A damaged matrix has no measures; the rest of the run is still worth keeping.
            return None

    return measured
