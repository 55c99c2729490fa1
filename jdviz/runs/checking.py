"""Checks of a run that came as a file from somewhere else, before any of it is used.

The file is a database that a stranger may have made: it is opened read-only, it must hold exactly
the tables of a run store, and every value in it must be what the store itself would have written.
"""

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jdviz.runs.blobs import unpack, unpack_named
from jdviz.runs.errors import TransferError
from jdviz.runs.schema import SCHEMA_VERSION, SCHEMAS, create, objects, upgrade
from jdviz.runs.thinning import CHECKPOINT, KINDS, SHARES

#: Bytes of the largest file that is looked at.
MAX_BYTES = 512 * 2**20

_MAX_INTEGER = 2**53
_MAX_JSON_BYTES = 2**20
_MAX_TEXT_BYTES = 2**16
_MAX_WORDS = 100_000
_SQLITE_HEAD = b"SQLite format 3\x00"
# Version numbers of the journal in a file that needs none beside it.
_SEALED = b"\x01\x01"


@contextmanager
def checked(path: Path, *, max_bytes: int = MAX_BYTES) -> Iterator[sqlite3.Connection]:
    """Open a file that claims to hold one exported run, and check all of it.

    Args:
        path: The file; it is not changed.
        max_bytes: The largest file to look at.

    Yields:
        A read-only connection to a database in the schema of this version, with one run.

    Raises:
        TransferError: If it is anything else; the text says what is wrong with it.
    """
    try:
        _check_head(path, max_bytes)
        with (
            TemporaryDirectory(prefix="jdviz-") as folder,
            _opened(path, Path(folder)) as connection,
        ):
            run_id = _check_run(connection)
            _check_steps(connection, run_id)
            _check_payloads(connection, run_id)
            _check_counts(connection)
            yield connection
    except (sqlite3.Error, UnicodeError) as error:
        raise _refusal(f"it is damaged ({error})") from error
    except OSError as error:
        raise _refusal(f"it cannot be read ({error.strerror})") from error
    except _WrongError as error:
        raise _refusal(str(error)) from error


class _WrongError(Exception):
    """What is wrong with a file, as half a sentence."""


def _refusal(why: str) -> TransferError:
    return TransferError(
        f"The file is not a run that can be used here: {why}. Export the run again where it came "
        "from; nothing was changed."
    )


def _check_head(path: Path, max_bytes: int) -> None:
    size = path.stat().st_size
    if size > max_bytes:
        raise _WrongError(
            f"it has {size / 2**20:.3g} MiB, and at most {max_bytes / 2**20:.3g} MiB are accepted"
        )
    with path.open("rb") as file:
        head = file.read(20)
    if not head.startswith(_SQLITE_HEAD):
        raise _WrongError("it is not a file that jdviz exported")
    if head[18:20] != _SEALED:
        raise _WrongError("it is a run store in use, not one exported run")


@contextmanager
def _opened(path: Path, folder: Path) -> Iterator[sqlite3.Connection]:
    connection = _connect(path)
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise _WrongError(
                f"it was written by a newer jdviz (schema {version}, this one knows "
                f"{SCHEMA_VERSION}), so jdviz has to be updated first"
            )
        _check_objects(connection, version)
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise _WrongError(f"it is damaged ({found})")
        if version < SCHEMA_VERSION:
            copy = folder / "copy.sqlite"
            _upgrade_copy(connection, copy)
            connection.close()
            connection = _connect(copy)
        yield connection
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    for setting in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON", "mmap_size=0"):
        connection.execute(f"PRAGMA {setting}")
    return connection


def _upgrade_copy(connection: sqlite3.Connection, copy: Path) -> None:
    target = sqlite3.connect(copy, isolation_level=None)
    try:
        connection.backup(target)
        target.execute("PRAGMA trusted_schema=OFF")
        upgrade(target, copy)
    finally:
        target.close()


def _check_objects(connection: sqlite3.Connection, version: int) -> None:
    """Compare the statements letter by letter: no view, trigger or computed column slips in."""
    if version not in SCHEMAS:
        raise _WrongError("it holds no run store")
    expected = sqlite3.connect(":memory:", isolation_level=None)
    try:
        create(expected, version)
        if objects(connection) != objects(expected):
            raise _WrongError("it holds other tables than a run store")
    finally:
        expected.close()


def _check_run(connection: sqlite3.Connection) -> str:
    rows = connection.execute("SELECT * FROM runs LIMIT 2").fetchall()
    if len(rows) != 1:
        raise _WrongError(f"it holds {'several runs' if rows else 'no run'}, expected one")
    names = [column[1] for column in connection.execute("PRAGMA table_info(runs)")]
    run = dict(zip(names, rows[0], strict=True))
    texts = ("id", "status", "message", "name", "source", "owner", "group_name", "notes")
    for name in texts:
        _text(run[name], f"its {name}", _MAX_TEXT_BYTES)
    for name in ("created_s", "heartbeat_s"):
        _number(run[name], f"its {name}", least=0.0)
    for name in ("step_count", "step_bytes", "largest_m", "budget_bytes", "published"):
        _integer(run[name], f"its {name}")
    if not isinstance(_json(run["config"], "its settings"), dict):
        raise _WrongError("its settings are not a table of names and values")
    for name in ("tags", "objectives"):
        words = _json(run[name], f"its {name}")
        if not isinstance(words, list) or len(words) > _MAX_WORDS:
            raise _WrongError(f"its {name} are not a list")
        for word in words:
            _text(word, f"one of its {name}", 1000)
    return str(run["id"])


def _check_steps(connection: sqlite3.Connection, run_id: str) -> None:
    # That each is there once is the unique index's, which the integrity check has gone through.
    query = (
        "SELECT run_id, step, time_s, elapsed_s, direction_norm, peak_bytes, conflict_rate, "
        "least_cosine, losses, weights, inner, sample_ids, scalars FROM steps"
    )
    for row in connection.execute(query):
        _same_run(row[0], run_id)
        step = _integer(row[1], "a step's number")
        where = f"of step {step}"
        _number(row[2], f"the time {where}")
        _number(row[3], f"the duration {where}")
        if row[4] is not None:
            _number(row[4], f"the direction's length {where}", least=0.0, finite=False)
        if row[5] is not None:
            _integer(row[5], f"the memory {where}")
        if row[6] is not None:
            _number(row[6], f"the conflict rate {where}", least=0.0, most=1.0)
        if row[7] is not None:
            _number(row[7], f"the smallest cosine {where}", least=-1.0, most=1.0)
        m = len(_array(row[8], f"the losses {where}", "f", (None,)))
        for value, name in ((row[9], "weights"), (row[10], "improvements")):
            if value is not None:
                _array(value, f"the {name} {where}", "f", (m,))
        if row[11] is not None:
            _array(row[11], f"the samples {where}", "i", (m,))
        if row[12] is not None:
            _check_scalars(row[12], where)


def _check_scalars(text: Any, where: str) -> None:
    values = _json(text, f"the numbers {where}")
    if not isinstance(values, dict):
        raise _WrongError(f"the numbers {where} have no names")
    for value in values.values():
        if not isinstance(value, float):
            _number(value, f"a number {where}")


def _check_payloads(connection: sqlite3.Connection, run_id: str) -> None:
    for run, kind, count, size, stride in connection.execute("SELECT * FROM tallies"):
        _same_run(run, run_id)
        if kind not in KINDS:
            raise _WrongError("it counts things that are not of a run")
        for value in (count, size):
            _integer(value, "a count")
        _integer(stride, "a stride", least=1)
    query = (
        "SELECT payloads.run_id, kind, payloads.step, seq, size, kept_ids, data, losses "
        "FROM payloads LEFT JOIN steps ON steps.run_id=payloads.run_id "
        "AND steps.step=payloads.step"
    )
    seen = set()
    for run, kind, step, seq, size, kept_ids, data, losses in connection.execute(query):
        _same_run(run, run_id)
        for value in (step, seq, size):
            _integer(value, "a number of a matrix")
        if kind not in KINDS or not isinstance(data, bytes) or (kind, step) in seen:
            raise _WrongError(f"step {step} holds something unknown")
        seen.add((kind, step))
        if kind == CHECKPOINT:
            continue
        if losses is None:
            raise _WrongError(f"it has a matrix of step {step}, but not the step")
        _check_matrices(kind, step, kept_ids, data, len(unpack(losses)))


def _check_counts(connection: sqlite3.Connection) -> None:
    """What is counted decides which runs are deleted first, so it has to be true."""
    steps, said, step_bytes = connection.execute(
        "SELECT (SELECT count(*) FROM steps), step_count, step_bytes FROM runs"
    ).fetchone()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    wrong_sizes = connection.execute(
        "SELECT count(*) FROM payloads WHERE size != length(data) + coalesce(length(kept_ids), 0)"
    ).fetchone()[0]
    sums = "SELECT kind, sum(size) FROM payloads GROUP BY kind ORDER BY kind"
    tallies = "SELECT kind, bytes FROM tallies WHERE bytes > 0 ORDER BY kind"
    same = connection.execute(sums).fetchall() == connection.execute(tallies).fetchall()
    if steps != said or step_bytes > pages * page_bytes or wrong_sizes or not same:
        raise _WrongError("its counts are not those of what it holds")


def _check_matrices(kind: str, step: int, kept_ids: Any, data: bytes, m: int) -> None:
    size = m
    if kept_ids is not None:
        ids = _array(kept_ids, f"the kept objectives of step {step}", "i", (None,))
        size = len(ids)
        if size and (ids[0] < 0 or ids[-1] >= m or (np.diff(ids) <= 0).any()):
            raise _WrongError(
                f"the kept objectives of step {step} are not ascending places below {m}"
            )
    if kind != SHARES:
        _array(data, f"the Gramian of step {step}", "f", (size, size))
        return
    try:
        shares = unpack_named(data)
    except ValueError as error:
        raise _WrongError(f"the split of step {step} cannot be read") from error
    for part in shares.values():
        if part.shape != (size, size) or part.dtype.kind != "f":
            raise _WrongError(f"the split of step {step} has the shape {part.shape}")


def _same_run(value: Any, run_id: str) -> None:
    if value != run_id:
        raise _WrongError("it holds steps of another run")


def _text(value: Any, name: str, max_bytes: int) -> str:
    if not isinstance(value, str) or len(value.encode()) > max_bytes:
        raise _WrongError(f"{name} is not a text of at most {max_bytes} bytes")
    return value


def _json(value: Any, name: str) -> Any:
    try:
        return json.loads(_text(value, name, _MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise _WrongError(f"{name} cannot be read") from error


def _integer(value: Any, name: str, *, least: int = 0) -> int:
    if not isinstance(value, int) or not least <= value <= _MAX_INTEGER:
        raise _WrongError(f"{name} is not a whole number")
    return value


def _number(
    value: Any,
    name: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    finite: bool = True,
) -> None:
    try:
        # Not a string that looks like a number, nor a whole number beyond every float.
        number = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        number = math.nan
    if (finite and not math.isfinite(number)) or number < least or number > most:
        raise _WrongError(f"{name} is not a number that it can be")


def _array(blob: Any, name: str, kind: str, shape: tuple[int | None, ...]) -> NDArray:
    try:
        values = unpack(blob) if isinstance(blob, bytes) else None
    except ValueError:
        values = None
    fits = (
        values is not None
        and values.dtype.kind == kind
        and values.ndim == len(shape)
        and all(want in (None, got) for got, want in zip(values.shape, shape, strict=True))
    )
    if values is None or not fits:
        raise _WrongError(f"{name} cannot be read")
    return values
