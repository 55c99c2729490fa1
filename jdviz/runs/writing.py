"""What a step becomes in the run store: one row of numbers, and its matrices apart from them."""

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from jdviz.runs import thinning
from jdviz.runs.blobs import encode, pack, pack_named
from jdviz.runs.schema import measures
from jdviz.runs.thinning import GRAMIAN, MAX_OBJECTIVES, SHARES, Payload, evenly_spaced
from jdviz.training.record import StepRecord

#: What is said of a run whose writer was not heard of for long.
SILENT = "Its process went silent; the steps recorded until then are kept."

_MARKS = ",".join("?" * 13)
_ROW_BYTES = " + ".join(
    f"coalesce(length({column}), 0)"
    for column in ("losses", "weights", "inner", "scalars", "sample_ids")
)


@dataclass
class StepRows:
    """Steps of one run, ready to be written.

    Attributes:
        steps: Their numbers, ascending.
        rows: The values of the columns of `steps`, one tuple for each.
        row_bytes: What their blobs take.
        gramians: The Gramians of those that have one.
        shares: The splits over modules of those that have one.
        thinned_m: Most objectives of a Gramian that is kept in part; 0 if there is none.
    """

    steps: list[int] = field(default_factory=list)
    rows: list[tuple[object, ...]] = field(default_factory=list)
    row_bytes: int = 0
    gramians: list[Payload] = field(default_factory=list)
    shares: list[Payload] = field(default_factory=list)
    thinned_m: int = 0


def step_rows(run_id: str, records: Sequence[StepRecord]) -> StepRows:
    """Measure and pack steps.

    Args:
        run_id: Their run.
        records: The steps, ascending.

    Returns:
        What to write.
    """
    written = StepRows()
    for record in records:
        rate, least = measures(record.gramian)
        # JSON escapes what is not ASCII, so its characters are its bytes.
        scalars = json.dumps(dict(record.scalars)) if record.scalars else None
        losses, weights, inner, sample_ids = (
            encode(values)
            for values in (record.losses, record.weights, record.inner, record.sample_ids)
        )
        written.steps.append(record.step)
        written.rows.append(
            (
                run_id,
                record.step,
                record.time_s,
                record.elapsed_s,
                record.direction_norm,
                record.peak_bytes,
                rate,
                least,
                losses,
                weights,
                inner,
                scalars,
                sample_ids,
            )
        )
        written.row_bytes += sum(
            len(part) for part in (losses, weights, inner, scalars, sample_ids) if part is not None
        )
        _add_matrices(written, record)
    return written


def write_steps(
    connection: sqlite3.Connection, run_id: str, written: StepRows, budget_bytes: int
) -> None:
    """Write steps, replacing those that are there, and thin what has become too much.

    Args:
        connection: The store, in a transaction.
        run_id: The run.
        written: At least one step.
        budget_bytes: What the matrices of the run may take.
    """
    first, last = written.steps[0], written.steps[-1]
    there = connection.execute(
        f"SELECT step, {_ROW_BYTES} FROM steps WHERE run_id=? AND step BETWEEN ? AND ?",
        (run_id, first, last),
    ).fetchall()
    new = set(written.steps)
    replaced = {step: size for step, size in there if step in new}
    connection.executemany(f"INSERT OR REPLACE INTO steps VALUES ({_MARKS})", written.rows)
    thinning.put(connection, run_id, GRAMIAN, written.gramians, replaced)
    thinning.put(connection, run_id, SHARES, written.shares, replaced)
    thinning.thin_matrices(connection, run_id, first, budget_bytes)
    mark_alive(connection, run_id)
    connection.execute(
        "UPDATE runs SET step_count=step_count+?, step_bytes=step_bytes+?, "
        "largest_m=max(largest_m, ?) WHERE id=?",
        (
            len(new) - len(replaced),
            written.row_bytes - sum(replaced.values()),
            written.thinned_m,
            run_id,
        ),
    )


def mark_alive(connection: sqlite3.Connection, run_id: str) -> None:
    """Note that a run's writer is there; one that was only silent, as in a sleep, goes on.

    Args:
        connection: The store, in a transaction.
        run_id: The run.
    """
    connection.execute("UPDATE runs SET heartbeat_s=? WHERE id=?", (time.time(), run_id))
    connection.execute(
        "UPDATE runs SET status='running', message='' "
        "WHERE id=? AND status='interrupted' AND message=?",
        (run_id, SILENT),
    )


def _add_matrices(written: StepRows, record: StepRecord) -> None:
    gramian, shares, kept_ids = record.gramian, record.shares, record.kept_ids
    m = len(record.losses) if gramian is None else len(gramian)
    if kept_ids is None and m > MAX_OBJECTIVES:
        kept_ids = evenly_spaced(m)
        block = (kept_ids[:, None], kept_ids[None, :])
        gramian = None if gramian is None else gramian[block]
        shares = None if shares is None else {name: part[block] for name, part in shares.items()}
        written.thinned_m = max(written.thinned_m, m)
    ids = encode(kept_ids)
    if gramian is not None:
        written.gramians.append(Payload(record.step, pack(gramian), ids))
    if shares is not None:
        written.shares.append(Payload(record.step, pack_named(shares), ids))
