"""The run store: every step of every run, in one SQLite file that many processes use at once.

Workers and recorders append, pages read. Every failure of the file (locked, unreadable, full disk,
newer schema) is a `StoreError` whose text a page can show as it is.
"""

import json
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jdviz.runs import reading, thinning
from jdviz.runs.database import Database
from jdviz.runs.errors import StoreError
from jdviz.runs.rows import Run, Series, Source
from jdviz.runs.thinning import BUDGET_BYTES, CHECKPOINT, GRAMIAN, SHARES, Payload
from jdviz.runs.writing import SILENT, mark_alive, step_rows, write_steps
from jdviz.training.record import StepRecord

FINAL_STATUSES = frozenset({"finished", "stopped", "diverged", "failed", "interrupted"})
QUEUE_LIMIT_S = 86400.0

_FINAL = ",".join(f"'{status}'" for status in sorted(FINAL_STATUSES))


def data_folder() -> Path:
    """The folder that holds the run store: `JDVIZ_DATA`, else the user's data folder."""
    named = os.environ.get("JDVIZ_DATA")
    return Path(named).expanduser() if named else Path.home() / ".local" / "share" / "jdviz"


def new_run_id() -> str:
    """An identifier for a run: the time, to be found by, and chance, not to be guessed."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:16]}"


class RunStore:
    """Runs and their steps in one SQLite file.

    Every method raises `StoreError` if the file cannot be read or, where it writes, be written.

    Args:
        path: The file; it and its folder are created when missing, unless `read_only`.
        read_only: Open an existing file without ever changing what it holds.
        budget_bytes: What the Gramians of one run, split or not, may take before they are thinned.

    Raises:
        StoreError: If the file cannot be opened, is not a run store, or has a newer schema.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, budget_bytes: int = BUDGET_BYTES
    ) -> None:
        self.database = Database(path, read_only=read_only)
        self.budget_bytes = budget_bytes

    @property
    def path(self) -> Path:
        """The file."""
        return self.database.path

    @property
    def read_only(self) -> bool:
        """Whether nothing can be recorded: as asked, or because the file system forbids it."""
        return self.database.read_only

    @property
    def notice(self) -> str:
        """A sentence for a person about what this store cannot do where it lies; else empty."""
        return self.database.notice

    def create_run(
        self,
        config: dict[str, Any],
        *,
        status: str = "queued",
        run_id: str | None = None,
        name: str = "",
        source: Source = "app",
        owner: str = "",
        published: bool = False,
        group: str = "",
        objectives: Sequence[str] = (),
    ) -> str:
        """Add a run without steps.

        Args:
            config: Its settings, anything JSON holds.
            status: The status to begin with.
            run_id: Its identifier; made from date and chance when None.
            name: What a person calls it; need not be unique.
            source: Who writes it.
            owner: The visitor who starts it, or empty.
            published: Whether every visitor of a shared server sees it.
            group: What it shares with runs started together, or empty.
            objectives: Names of the objectives, or nothing.

        Returns:
            The run's identifier.

        Raises:
            StoreError: If the store cannot be written, or has a run of that identifier.
        """
        now_s = time.time()
        run_id = run_id or new_run_id()
        values = {
            "id": run_id,
            "created_s": now_s,
            "config": json.dumps(config),
            "status": status,
            "heartbeat_s": now_s,
            "name": name,
            "source": source,
            "owner": owner,
            "published": int(published),
            "group_name": group,
            "objectives": json.dumps(list(objectives)),
        }
        marks = ",".join("?" * len(values))
        with self.database.transaction() as connection:
            connection.execute(
                f"INSERT INTO runs({','.join(values)}) VALUES ({marks})", tuple(values.values())
            )
        return run_id

    def append(self, run_id: str, records: Iterable[StepRecord]) -> None:
        """Add steps to a run in one transaction, so that readers see all of them or none.

        Args:
            run_id: The run.
            records: Its next steps. One of a step that is already there replaces it.

        Raises:
            StoreError: If the store cannot be written; then none of `records` was added.
        """
        # Outside the transaction: measuring and packing must not keep other writers waiting.
        latest = {record.step: record for record in records}
        written = step_rows(run_id, [latest[step] for step in sorted(latest)])
        if not written.steps:
            return
        with self.database.transaction() as connection:
            write_steps(connection, run_id, written, self.budget_bytes)

    def save_checkpoint(self, run_id: str, step: int, data: bytes) -> None:
        """Keep what training needs to go on from a step.

        Args:
            run_id: The run.
            step: The step before which it was taken.
            data: Its bytes.

        Raises:
            StoreError: If the store cannot be written.
        """
        with self.database.transaction() as connection:
            thinning.put(connection, run_id, CHECKPOINT, [Payload(step, data)], {step})
            thinning.thin_checkpoints(connection, run_id, step)

    def set_status(self, run_id: str, status: str, message: str = "") -> None:
        """Change a run's status; a final status stays.

        Args:
            run_id: The run.
            status: The new status.
            message: One sentence for a person, or empty.
        """
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE runs SET status=?, message=?, heartbeat_s=? "
                f"WHERE id=? AND status NOT IN ({_FINAL})",
                (status, message, time.time(), run_id),
            )

    def beat(self, run_id: str) -> None:
        """Record that the run's writer is alive, also one that was taken for gone."""
        with self.database.transaction() as connection:
            mark_alive(connection, run_id)

    def interrupt_silent(self, *, silent_s: float) -> int:
        """Mark runs as interrupted whose writer has not written for `silent_s` seconds.

        Args:
            silent_s: How long a writer may be silent.

        Returns:
            How many runs were marked.
        """
        now_s = time.time()
        with self.database.transaction() as connection:
            # A queued run has no worker yet and may rightly wait for hours.
            cursor = connection.execute(
                "UPDATE runs SET status='interrupted', message=? "
                "WHERE (status IN ('running', 'paused') AND heartbeat_s < ?) "
                "OR (status = 'queued' AND heartbeat_s < ?)",
                (
                    SILENT,
                    now_s - silent_s,
                    now_s - max(silent_s, QUEUE_LIMIT_S),
                ),
            )
            return cursor.rowcount

    def annotate(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
        published: bool | None = None,
        objectives: Sequence[str] | None = None,
    ) -> None:
        """Change what a person says about a run; what is None stays.

        Args:
            run_id: The run.
            name: What it is called.
            tags: Words to filter by; each once, without blanks around it.
            notes: Any text.
            published: Whether every visitor of a shared server sees it.
            objectives: Names of the objectives.
        """
        words = None if tags is None else [tag.strip() for tag in tags]
        changes: dict[str, object] = {
            "name": name,
            "tags": None if words is None else json.dumps(list(dict.fromkeys(filter(None, words)))),
            "notes": notes,
            "published": None if published is None else int(published),
            "objectives": None if objectives is None else json.dumps(list(objectives)),
        }
        changes = {column: value for column, value in changes.items() if value is not None}
        if not changes:
            return
        columns = ", ".join(f"{column}=?" for column in changes)
        with self.database.transaction() as connection:
            connection.execute(f"UPDATE runs SET {columns} WHERE id=?", (*changes.values(), run_id))

    def delete(self, run_ids: Iterable[str]) -> None:
        """Remove runs with everything recorded of them, and give their space back.

        Args:
            run_ids: The runs; one that the store does not have is left out.

        Raises:
            StoreError: If one of them has not ended, or the store cannot be written; then none
                was removed.
        """
        wanted = list(run_ids)
        with self.database.transaction() as connection:
            for run_id in wanted:
                row = connection.execute(
                    "SELECT name, status FROM runs WHERE id=?", (run_id,)
                ).fetchone()
                if row and row[1] not in FINAL_STATUSES:
                    raise StoreError(
                        f"The run “{row[0] or run_id}” is {row[1]} and cannot be deleted while it "
                        "may still be written. Stop it first; nothing was deleted."
                    )
            connection.executemany("DELETE FROM runs WHERE id=?", [(run,) for run in wanted])
        self.database.shrink()

    def size_bytes(self) -> int:
        """Bytes that the runs take, without space in the file that deleted runs left."""
        return self.database.size_bytes()

    def beyond(self, limit_bytes: int) -> list[Run]:
        """Which runs to delete so that the store takes at most `limit_bytes`.

        Args:
            limit_bytes: What the store may take.

        Returns:
            The oldest runs that have ended and carry no tag, oldest first; empty while the store
            is within its limit. Deleting all of them may not be enough.
        """
        excess = self.size_bytes() - limit_bytes
        if excess <= 0:
            return []
        clause = f"WHERE status IN ({_FINAL}) AND tags='[]' ORDER BY created_s, rowid"
        found = []
        for run in self._runs(clause, ()):
            if excess <= 0:
                break
            found.append(run)
            excess -= run.size_bytes
        return found

    def runs(self, limit: int = 50) -> list[Run]:
        """The newest runs first.

        Args:
            limit: How many at most.

        Returns:
            The runs.
        """
        return self._runs("ORDER BY created_s DESC, rowid DESC LIMIT ?", (limit,))

    def run(self, run_id: str) -> Run | None:
        """One run by its identifier, or None if the store has no such run."""
        found = self._runs("WHERE id=?", (run_id,))
        return found[0] if found else None

    def find(self, name_or_id: str) -> Run | None:
        """One run by its identifier, else the newest of that name, else None."""
        clause = "WHERE id=?1 OR name=?1 ORDER BY id=?1 DESC, created_s DESC, rowid DESC LIMIT 1"
        found = self._runs(clause, (name_or_id,))
        return found[0] if found else None

    def _runs(self, clause: str, values: Sequence[object]) -> list[Run]:
        with self.database.connection() as connection:
            return reading.runs(connection, clause, values)

    def latest(self, run_id: str) -> StepRecord | None:
        """The last complete step of a run, or None before its first."""
        with self.database.connection() as connection:
            return reading.record(connection, run_id)

    def record(self, run_id: str, step: int) -> StepRecord | None:
        """One step of a run, or None if it was not recorded."""
        with self.database.connection() as connection:
            # A step of a series is numpy's integer, which SQLite takes for bytes.
            return reading.record(connection, run_id, int(step))

    def nearest(
        self, run_id: str, step: int, *, what: Literal["gramian", "shares"] = "gramian"
    ) -> StepRecord | None:
        """The step closest to `step` of which a matrix is kept, the earlier of two as close.

        Args:
            run_id: The run.
            step: Any step.
            what: The Gramian, or its split over modules.

        Returns:
            The step, or None if the run has no such matrix.
        """
        with self.database.reading() as connection:
            found = reading.nearest_step(connection, run_id, int(step), what)
            return None if found is None else reading.record(connection, run_id, found)

    def steps(self, run_id: str) -> NDArray[np.int64]:
        """The recorded steps of a run, ascending, shape [k]."""
        with self.database.connection() as connection:
            return reading.steps(connection, run_id)

    def gramian_steps(self, run_id: str) -> NDArray[np.int64]:
        """The steps of which the Gramian is kept, ascending, shape [k]."""
        return self._payload_steps(run_id, GRAMIAN)

    def share_steps(self, run_id: str) -> NDArray[np.int64]:
        """The steps of which the split over modules is kept, ascending, shape [k]."""
        return self._payload_steps(run_id, SHARES)

    def checkpoint_steps(self, run_id: str) -> NDArray[np.int64]:
        """The steps of which a checkpoint is kept, ascending, shape [k]."""
        return self._payload_steps(run_id, CHECKPOINT)

    def _payload_steps(self, run_id: str, kind: str) -> NDArray[np.int64]:
        with self.database.connection() as connection:
            return reading.payload_steps(connection, run_id, kind)

    def checkpoint(self, run_id: str, at_most: int) -> tuple[int, bytes] | None:
        """The last checkpoint that was taken at a step or before.

        Args:
            run_id: The run.
            at_most: The step.

        Returns:
            Its step and its bytes, or None if there is none.
        """
        query = (
            "SELECT step, data FROM payloads WHERE run_id=? AND kind=? AND step<=? "
            "ORDER BY step DESC LIMIT 1"
        )
        with self.database.connection() as connection:
            row = connection.execute(query, (run_id, CHECKPOINT, int(at_most))).fetchone()
        return None if row is None else (row[0], row[1])

    def series(self, run_id: str, *, max_points: int | None = 400) -> Series:
        """A run's history without its matrices.

        Args:
            run_id: The run.
            max_points: At most this many steps, evenly spaced from the first on, and the last;
                None for every step.

        Returns:
            The history, possibly of length 0.
        """
        with self.database.reading() as connection:
            return reading.series(connection, run_id, max_points)

    def thinning_sentence(self, run_id: str) -> str:
        """What was thinned of a run, in words for a person; empty where everything is kept."""
        with self.database.reading() as connection:
            return thinning.sentence(connection, run_id)

    def seal(self) -> None:
        """Fold the journal into the one file, so that it can be shipped and opened read-only."""
        self.database.seal()
