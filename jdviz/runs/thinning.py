"""What the store keeps of large things: Gramians, their split over modules, and checkpoints.

Two policies, which `sentence` puts into words. A Gramian of more than 256 objectives is kept for
256 of them. A run whose matrices outgrow its budget keeps those of every second step, then of
every fourth, and so on; its checkpoints likewise, by their number. The first and the newest always
stay. Numbers that are drawn over time are no part of this: they are kept of every step.
"""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRAMIAN, SHARES, CHECKPOINT = "gramian", "shares", "checkpoint"
KINDS = (GRAMIAN, SHARES, CHECKPOINT)

#: Objectives that are kept of a larger Gramian.
MAX_OBJECTIVES = 256
#: Bytes of Gramians and their split that a run keeps.
BUDGET_BYTES = 256 * 2**20
#: Checkpoints that a run keeps.
MAX_CHECKPOINTS = 64

_WORDS = {
    GRAMIAN: "Gramians",
    SHARES: "splits of the Gramian over modules",
    CHECKPOINT: "checkpoints",
}


@dataclass(frozen=True)
class Payload:
    """Something large of one step.

    Attributes:
        step: The step.
        data: Its bytes.
        kept_ids: The objectives that a thinned Gramian holds, as a blob; None where it holds all.
    """

    step: int
    data: bytes
    kept_ids: bytes | None = None


@dataclass(frozen=True)
class Tally:
    """What is known of the payloads of one kind without looking at them.

    Attributes:
        count: How many there have been, those that were dropped included.
        bytes: What those that are kept take.
        stride: Of how many one is kept.
    """

    count: int = 0
    bytes: int = 0
    stride: int = 1


def evenly_spaced(m: int, kept: int = MAX_OBJECTIVES) -> NDArray[np.int64]:
    """The objectives that are kept of a large Gramian.

    Args:
        m: Number of objectives, more than `kept`.
        kept: How many to keep.

    Returns:
        Ascending places from 0 to m - 1, shape [kept].
    """
    return np.linspace(0, m - 1, kept).round().astype(np.int64)


def tally(connection: sqlite3.Connection, run_id: str, kind: str) -> Tally:
    """The tally of one kind of payload of a run.

    Args:
        connection: The store.
        run_id: The run.
        kind: One of `KINDS`.

    Returns:
        The tally, that of an empty run where nothing was stored.
    """
    row = connection.execute(
        "SELECT count, bytes, stride FROM tallies WHERE run_id=? AND kind=?", (run_id, kind)
    ).fetchone()
    return Tally(*row) if row else Tally()


def put(
    connection: sqlite3.Connection,
    run_id: str,
    kind: str,
    payloads: Sequence[Payload],
    replaced: Collection[int] = (),
) -> None:
    """Store payloads, and count them.

    Args:
        connection: The store, in a transaction.
        run_id: The run.
        kind: One of `KINDS`.
        payloads: At most one of a step.
        replaced: Steps whose earlier payloads are removed first.
    """
    old = tally(connection, run_id, kind)
    count, size, places = old.count, old.bytes, {}
    for step in replaced:
        row = connection.execute(
            "SELECT rowid, seq, size FROM payloads WHERE run_id=? AND kind=? AND step=?",
            (run_id, kind, step),
        ).fetchone()
        if row:
            connection.execute("DELETE FROM payloads WHERE rowid=?", (row[0],))
            places[step], size = row[1], size - row[2]
    if not payloads and not places:
        return
    rows = []
    for payload in payloads:
        bytes_now = len(payload.data) + len(payload.kept_ids or b"")
        # What replaces another takes its place in the order, or it would be thinned differently.
        seq = places.get(payload.step, count)
        count += payload.step not in places
        size += bytes_now
        rows.append((run_id, kind, payload.step, seq, bytes_now, payload.kept_ids, payload.data))
    connection.executemany("INSERT INTO payloads VALUES (?,?,?,?,?,?,?)", rows)
    _save(connection, run_id, kind, Tally(count, size, old.stride))


def thin_matrices(
    connection: sqlite3.Connection, run_id: str, since: int, budget_bytes: int
) -> None:
    """Drop Gramians and splits that the policy no longer keeps.

    Args:
        connection: The store, in a transaction, after `put`.
        run_id: The run.
        since: The first step that `put` wrote.
        budget_bytes: What the matrices of the run may take.
    """
    tallies = _tallies(connection, run_id)
    if any(entry.stride > 1 for entry in tallies.values()):
        start = _newest_before(connection, run_id, tallies, since)
        for kind in tallies:
            _drop(connection, run_id, kind, start)
        tallies = _tallies(connection, run_id)
    while sum(entry.bytes for entry in tallies.values()) > budget_bytes:
        # Beyond that many only the first and the newest are left, which always stay.
        larger = [kind for kind, entry in tallies.items() if entry.stride <= entry.count]
        if not larger:
            break
        kind = max(larger, key=lambda name: tallies[name].bytes)
        entry = tallies[kind]
        _save(connection, run_id, kind, Tally(entry.count, entry.bytes, 2 * entry.stride))
        connection.execute("UPDATE runs SET budget_bytes=? WHERE id=?", (budget_bytes, run_id))
        for dropped in tallies:
            _drop(connection, run_id, dropped, None)
        tallies = _tallies(connection, run_id)


def thin_checkpoints(connection: sqlite3.Connection, run_id: str, since: int) -> None:
    """Drop checkpoints that the policy no longer keeps.

    Args:
        connection: The store, in a transaction, after `put`.
        run_id: The run.
        since: The step that `put` wrote.
    """
    entry = tally(connection, run_id, CHECKPOINT)
    if entry.stride > 1:
        start = _newest_before(connection, run_id, (CHECKPOINT,), since)
        _drop(connection, run_id, CHECKPOINT, start)
    query = "SELECT count(*) FROM payloads WHERE run_id=? AND kind=?"
    while connection.execute(query, (run_id, CHECKPOINT)).fetchone()[0] > MAX_CHECKPOINTS:
        entry = tally(connection, run_id, CHECKPOINT)
        _save(connection, run_id, CHECKPOINT, Tally(entry.count, entry.bytes, 2 * entry.stride))
        _drop(connection, run_id, CHECKPOINT, None)


def sentence(connection: sqlite3.Connection, run_id: str) -> str:
    """What was thinned of a run, in words.

    Args:
        connection: The store.
        run_id: The run.

    Returns:
        One or more sentences; empty where everything is kept.
    """
    row = connection.execute(
        "SELECT largest_m, budget_bytes FROM runs WHERE id=?", (run_id,)
    ).fetchone()
    if row is None:
        return ""
    largest_m, budget_bytes = row
    strides = {kind: tally(connection, run_id, kind).stride for kind in KINDS}
    sentences = []
    if largest_m > MAX_OBJECTIVES:
        sentences.append(
            f"Of Gramians with up to {largest_m} objectives, those of {MAX_OBJECTIVES} evenly "
            "spaced ones are kept."
        )
    thinned = [kind for kind in (GRAMIAN, SHARES) if strides[kind] > 1]
    if thinned:
        parts = [f"one in {strides[kind]} {_WORDS[kind]}" for kind in thinned]
        sentences.append(
            f"To stay within {budget_bytes / 2**20:.3g} MiB, {' and '.join(parts)} "
            f"{'is' if len(parts) == 1 else 'are'} kept, and the first and the newest always."
        )
    if sentences:
        sentences.append(
            "The conflict rate and the smallest cosine are of the whole Gramian of every step."
        )
    if strides[CHECKPOINT] > 1:
        sentences.append(
            f"To keep at most {MAX_CHECKPOINTS}, one in {strides[CHECKPOINT]} "
            f"{_WORDS[CHECKPOINT]} is kept, and the first and the newest always."
        )
    return " ".join(sentences)


def _tallies(connection: sqlite3.Connection, run_id: str) -> dict[str, Tally]:
    # The splits first: a step that keeps its split keeps its Gramian too.
    return {kind: tally(connection, run_id, kind) for kind in (SHARES, GRAMIAN)}


def _newest_before(
    connection: sqlite3.Connection, run_id: str, kinds: Iterable[str], since: int
) -> int:
    """The step from which payloads may have lost the right to stay as the newest of their kind."""
    query = (
        "SELECT max(step) FROM payloads WHERE run_id=:run AND kind=:kind AND step<:since AND "
        "EXISTS (SELECT 1 FROM payloads WHERE run_id=:run AND kind=:kind AND step>=:since)"
    )
    found = [
        connection.execute(query, {"run": run_id, "kind": kind, "since": since}).fetchone()[0]
        for kind in kinds
    ]
    return min([since, *(step for step in found if step is not None)])


def _drop(connection: sqlite3.Connection, run_id: str, kind: str, since: int | None) -> None:
    """Remove the payloads from step `since` on, or all, that neither stride nor age keeps."""
    stride = tally(connection, run_id, kind).stride
    query = (
        "SELECT rowid, size FROM payloads WHERE run_id=:run AND kind=:kind AND step>=:since "
        "AND seq % :stride != 0 "
        "AND step < (SELECT max(step) FROM payloads WHERE run_id=:run AND kind=:kind)"
    )
    if kind == GRAMIAN:
        query += (
            f" AND step NOT IN (SELECT step FROM payloads WHERE run_id=:run AND kind='{SHARES}')"
        )
    first = -(2**63) if since is None else since
    values = {"run": run_id, "kind": kind, "stride": stride, "since": first}
    rows = connection.execute(query, values).fetchall()
    if not rows:
        return
    connection.executemany("DELETE FROM payloads WHERE rowid=?", [row[:1] for row in rows])
    entry = tally(connection, run_id, kind)
    freed = sum(row[1] for row in rows)
    _save(connection, run_id, kind, Tally(entry.count, entry.bytes - freed, entry.stride))


def _save(connection: sqlite3.Connection, run_id: str, kind: str, entry: Tally) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO tallies VALUES (?,?,?,?,?)",
        (run_id, kind, entry.count, entry.bytes, entry.stride),
    )
