"""Reading the run store: descriptions of runs, single steps, histories."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jdviz.runs.blobs import decode, unpack, unpack_named
from jdviz.runs.errors import StoreError
from jdviz.runs.rows import SENT_BYTES, Run, Series
from jdviz.runs.thinning import GRAMIAN, SHARES
from jdviz.training.record import StepRecord

#: Bound variables in one statement; the least that a build of SQLite allows is 999.
_VARIABLES = 900

_RUN_COLUMNS = (
    "id, created_s, config, status, message, heartbeat_s, step_count, name, source, owner, "
    "published, group_name, tags, notes, objectives, step_bytes + "
    "coalesce((SELECT sum(bytes) FROM tallies WHERE run_id=runs.id), 0)"
)
_SERIES_COLUMNS = (
    "step, losses, weights, inner, direction_norm, time_s, elapsed_s, peak_bytes, conflict_rate, "
    "least_cosine, scalars"
)
# As the indexes `measured_steps`, `memory_steps` and `named_steps` have it. In a group every step
# has its bytes by name, so those that have nothing else do not count as rare.
_RARE = (
    "least_cosine IS NOT NULL",
    "peak_bytes IS NOT NULL",
    f"scalars IS NOT NULL AND (scalars NOT LIKE '{{\"{SENT_BYTES}\"%' OR instr(scalars, ','))",
)
_RECORD = f"""
SELECT steps.step, time_s, losses, g.data, weights, inner, direction_norm, sample_ids, elapsed_s,
    peak_bytes, s.data, scalars, coalesce(g.kept_ids, s.kept_ids)
FROM steps
LEFT JOIN payloads AS g ON g.run_id=steps.run_id AND g.kind='{GRAMIAN}' AND g.step=steps.step
LEFT JOIN payloads AS s ON s.run_id=steps.run_id AND s.kind='{SHARES}' AND s.step=steps.step
WHERE steps.run_id=?
"""


def runs(connection: sqlite3.Connection, clause: str, values: Sequence[object]) -> list[Run]:
    """Descriptions of runs.

    Args:
        connection: The store.
        clause: SQL after FROM: which runs, in which order.
        values: What its question marks stand for.

    Returns:
        The runs.
    """
    rows = connection.execute(f"SELECT {_RUN_COLUMNS} FROM runs {clause}", values).fetchall()
    return [
        Run(
            run_id=row[0],
            created_s=row[1],
            config=json.loads(row[2]),
            status=row[3],
            message=row[4],
            heartbeat_s=row[5],
            steps=row[6],
            name=row[7],
            source=row[8],
            owner=row[9],
            published=bool(row[10]),
            group=row[11],
            tags=tuple(json.loads(row[12])),
            notes=row[13],
            objectives=tuple(json.loads(row[14])),
            size_bytes=row[15],
        )
        for row in rows
    ]


def record(
    connection: sqlite3.Connection, run_id: str, step: int | None = None
) -> StepRecord | None:
    """One step of a run with everything that is kept of it.

    Args:
        connection: The store.
        run_id: The run.
        step: The step; None for the last.

    Returns:
        The step, or None if it was not recorded.

    Raises:
        StoreError: If what is stored of the step cannot be read.
    """
    if step is None:
        row = connection.execute(_RECORD + "ORDER BY steps.step DESC LIMIT 1", (run_id,)).fetchone()
    else:
        row = connection.execute(_RECORD + "AND steps.step=?", (run_id, step)).fetchone()
    if row is None:
        return None
    try:
        return StepRecord(
            step=row[0],
            time_s=row[1],
            losses=unpack(row[2]),
            gramian=decode(row[3]),
            weights=decode(row[4]),
            inner=decode(row[5]),
            direction_norm=row[6],
            sample_ids=decode(row[7]),
            elapsed_s=row[8],
            peak_bytes=row[9],
            shares=None if row[10] is None else unpack_named(row[10]),
            scalars=_scalars(row[11]),
            kept_ids=decode(row[12]),
        )
    except ValueError as error:
        raise damaged(run_id, row[0]) from error


def damaged(run_id: str, step: int) -> StoreError:
    """The exception for a step whose bytes cannot be read."""
    return StoreError(
        f"Step {step} of the run {run_id} is damaged in the run store. Look at another step, or "
        "delete the run; the others are not affected."
    )


def steps(connection: sqlite3.Connection, run_id: str) -> NDArray[np.int64]:
    """The recorded steps of a run, ascending, shape [k]."""
    query = "SELECT step FROM steps WHERE run_id=? ORDER BY step"
    return _integers(connection.execute(query, (run_id,)))


def payload_steps(connection: sqlite3.Connection, run_id: str, kind: str) -> NDArray[np.int64]:
    """The steps of which a payload is kept, ascending, shape [k]."""
    query = "SELECT step FROM payloads WHERE run_id=? AND kind=? ORDER BY step"
    return _integers(connection.execute(query, (run_id, kind)))


def nearest_step(connection: sqlite3.Connection, run_id: str, step: int, kind: str) -> int | None:
    """The step closest to `step` of which a payload is kept, the earlier of two as close."""
    row = connection.execute(
        "SELECT (SELECT max(step) FROM payloads WHERE run_id=:run AND kind=:kind AND step<=:step), "
        "(SELECT min(step) FROM payloads WHERE run_id=:run AND kind=:kind AND step>=:step)",
        {"run": run_id, "kind": kind, "step": step},
    ).fetchone()
    found = [place for place in row if place is not None]
    return min(found, key=lambda place: abs(place - step)) if found else None


def series(connection: sqlite3.Connection, run_id: str, max_points: int | None) -> Series:
    """A run's history without its matrices.

    Args:
        connection: The store, in a transaction.
        run_id: The run.
        max_points: At most this many steps, evenly spaced, and the last; where some steps only have
            a Gramian's measures, a memory, or numbers by name, as many of these; None for all.

    Returns:
        The history, possibly of length 0.

    Raises:
        StoreError: If what is stored of a step cannot be read.
    """
    rows = _series_rows(connection, run_id, max_points)
    numbers = _integers(rows)
    try:
        arrays = [_padded([decode(row[place]) for row in rows]) for place in (1, 2, 3)]
    except ValueError as error:
        raise StoreError(
            f"A step of the run {run_id} is damaged in the run store. Delete the run; the others "
            "are not affected."
        ) from error
    width = max((array.shape[1] for array in arrays), default=0)
    losses, weights, inner = (_widened(array, width) for array in arrays)
    scalars = [_scalars(row[10]) for row in rows]
    names = dict.fromkeys(name for step in scalars for name in step)
    return Series(
        steps=numbers,
        losses=losses,
        weights=weights,
        inner=inner,
        direction_norm=_floats(row[4] for row in rows),
        time_s=_floats(row[5] for row in rows),
        elapsed_s=_floats(row[6] for row in rows),
        peak_bytes=_floats(row[7] for row in rows),
        conflict_rate=_floats(row[8] for row in rows),
        least_cosine=_floats(row[9] for row in rows),
        has_gramian=np.isin(numbers, payload_steps(connection, run_id, GRAMIAN)),
        has_shares=np.isin(numbers, payload_steps(connection, run_id, SHARES)),
        scalars={name: _floats(step.get(name) for step in scalars) for name in names},
    )


def _series_rows(
    connection: sqlite3.Connection, run_id: str, max_points: int | None
) -> list[tuple[Any, ...]]:
    query = f"SELECT {_SERIES_COLUMNS} FROM steps WHERE run_id=?"
    if max_points is None:
        return connection.execute(query + " ORDER BY step", (run_id,)).fetchall()
    first, last, count = connection.execute(
        "SELECT min(step), max(step), count(*) FROM steps WHERE run_id=?", (run_id,)
    ).fetchone()
    if count <= max_points:
        return connection.execute(query + " ORDER BY step", (run_id,)).fetchall()
    # From the first step on, so that the points stay where they are while a run grows.
    stride = -(-count // max_points)
    rare = sorted({last, *_rare_steps(connection, run_id, count, max_points)})
    if last - first + 1 == count and len(rare) <= _VARIABLES:
        marks = ",".join("?" * len(rare))
        return connection.execute(
            f"{query} AND ((step - ?) % ? = 0 OR step IN ({marks})) ORDER BY step",
            (run_id, first, stride, *rare),
        ).fetchall()
    # Steps with gaps are counted, or a stride could meet none of them.
    chosen = sorted({*steps(connection, run_id)[::stride].tolist(), *rare})
    rows = []
    for start in range(0, len(chosen), _VARIABLES):
        part = chosen[start : start + _VARIABLES]
        marks = ",".join("?" * len(part))
        rows += connection.execute(
            f"{query} AND step IN ({marks}) ORDER BY step", (run_id, *part)
        ).fetchall()
    return rows


def _rare_steps(
    connection: sqlite3.Connection, run_id: str, count: int, max_points: int
) -> set[int]:
    """Steps that have what most lack: a Gramian's measures, a memory, or numbers by name.

    Someone who looks at the gradients at every tenth step would otherwise see next to none of them
    beside the losses of every seventh.
    """
    chosen: set[int] = set()
    for condition in _RARE:
        clause = f"FROM steps WHERE run_id=? AND {condition}"
        found = connection.execute(f"SELECT count(*) {clause}", (run_id,)).fetchone()[0]
        if 0 < found < count:
            rows = connection.execute(f"SELECT step {clause} ORDER BY step", (run_id,))
            numbers = _integers(rows)
            chosen |= {*numbers[:: -(-found // max_points)].tolist(), int(numbers[-1])}
    return chosen


def _scalars(text: str | None) -> dict[str, float]:
    return {} if text is None else json.loads(text)


def _integers(rows: Iterable[Sequence[Any]]) -> NDArray[np.int64]:
    return np.array([row[0] for row in rows], dtype=np.int64)


def _floats(values: Iterable[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _padded(rows: list[NDArray | None]) -> NDArray[np.float64]:
    """Arrays of any length below each other, NaN where one is shorter than the longest."""
    width = max((len(row) for row in rows if row is not None), default=0)
    values = np.full((len(rows), width), np.nan)
    for place, row in enumerate(rows):
        if row is not None:
            values[place, : len(row)] = row
    return values


def _widened(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    missing = width - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing)), constant_values=np.nan) if missing else values
