"""Writes what is logged to the run store, in a thread of its own, and never stops a training."""

import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jdviz.runs.adapters import ScalarAdapter, scalars_of
from jdviz.runs.errors import StoreError
from jdviz.runs.logged import Entry
from jdviz.runs.store import RunStore

#: What may wait for the store, in bytes, beside what is being written; beyond it matrices are
#: dropped, then steps.
LIMIT_BYTES = 64 * 2**20
#: A writer without news says this often that it is alive.
BEAT_S = 5.0
#: How long to wait after a failure, and how long to try at the end.
RETRY_S = 1.0
END_S = 5.0


class RecorderWarning(UserWarning):
    """Something could not be recorded; the training is not affected."""


@dataclass(frozen=True)
class NewRun:
    """What is known of a run before its first step.

    Attributes:
        folder: Of the run store.
        run_id: Its identifier.
        name: What a person calls it.
        config: Its settings, as JSON holds them.
        objectives: Names of the objectives, empty where they have none yet.
        tags: Words to filter by.
        notes: What a person wrote about it.
        published: Whether every visitor of a shared server sees it.
    """

    folder: Path
    run_id: str
    name: str
    config: dict[str, Any]
    objectives: tuple[str, ...]
    tags: tuple[str, ...]
    notes: str
    published: bool

    def create(self, store: RunStore) -> None:
        """Add it to a store, unless it is there.

        Args:
            store: The store.

        Raises:
            StoreError: The store cannot be written.
        """
        if store.run(self.run_id) is None:
            store.create_run(
                self.config,
                status="running",
                run_id=self.run_id,
                name=self.name,
                source="recorder",
                published=self.published,
                objectives=self.objectives,
            )
        if self.tags or self.notes:
            store.annotate(self.run_id, tags=self.tags, notes=self.notes)


class Writer:
    """Takes steps from a training and writes them every `flush_s` seconds.

    Args:
        run: The run; its first writing creates it.
        flush_s: Seconds between two writings.
        adapters: Where the scalar series go besides.
    """

    def __init__(self, run: NewRun, flush_s: float, adapters: Sequence[ScalarAdapter]) -> None:
        self._run = run
        self._flush_s = flush_s
        self._adapters = list(adapters)
        self._changed = threading.Condition()
        # Guarded by the condition: what the training's thread and the writer's both touch.
        self._pending: dict[int, Entry] = {}
        self._bytes = 0
        self._m = 0
        self._objectives = run.objectives
        self._urgent = False
        self._ending: tuple[str, str] | None = None
        self._dropped_matrices = 0
        self._dropped_steps = 0
        # Of the writer's thread alone.
        self._store: RunStore | None = None
        self._written_s = time.monotonic()
        self._named = run.objectives
        self._complained = False
        self._failing = False
        self._thread = threading.Thread(target=self._work, name="jdviz-recorder", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Take a step, in place of an earlier version of it.

        Args:
            entry: The step.
        """
        with self._changed:
            self._insert(entry)
            if self._bytes > LIMIT_BYTES:
                self._drop(entry.step)
            if self._bytes > LIMIT_BYTES // 4 and not self._failing:
                self._urgent = True
                self._changed.notify()

    def complete(self, entry: Entry) -> None:
        """Take note that a step has all it will have.

        Args:
            entry: The step, as it was put last.
        """
        if not self._adapters:
            return
        with self._changed:
            waiting = self._pending.get(entry.step)
            stored = replace(entry, stored=True) if waiting is None else waiting
            self._insert(replace(stored, complete=True))

    def describe(self, m: int, objectives: tuple[str, ...]) -> None:
        """Take note of the objectives.

        Args:
            m: How many there are.
            objectives: Their names, or nothing.
        """
        with self._changed:
            self._m = max(self._m, m)
            self._objectives = objectives

    def end(self, status: str, message: str) -> None:
        """Write what is left, and how the run ended; waits until that is done or has failed.

        Args:
            status: A final status.
            message: A sentence for a person, or empty.
        """
        with self._changed:
            self._ending = (status, message)
            self._changed.notify()
        # One attempt may wait for a locked file, twice, beyond the last moment to begin it.
        self._thread.join(END_S + 20.0)

    def _insert(self, entry: Entry) -> None:
        before = self._pending.get(entry.step)
        self._bytes += entry.nbytes - (0 if before is None else before.nbytes)
        self._pending[entry.step] = entry

    def _drop(self, newest: int) -> None:
        """Make room: the matrices of the oldest steps go first, then the steps."""
        enough = LIMIT_BYTES - LIMIT_BYTES // 8
        for step, entry in list(self._pending.items()):
            if self._bytes <= enough:
                return
            if step != newest and entry.known.gramian is not None:
                self._insert(replace(entry, known=entry.known.without_matrices()))
                self._dropped_matrices += not entry.stored
        for step, entry in list(self._pending.items()):
            if self._bytes <= enough:
                return
            if step != newest:
                self._bytes -= entry.nbytes
                self._dropped_steps += not entry.stored
                del self._pending[step]

    def _work(self) -> None:
        ending = None
        while ending is None:
            with self._changed:
                wait_s = max(self._flush_s, RETRY_S) if self._failing else self._flush_s
                self._changed.wait_for(lambda: self._ending or self._urgent, wait_s)
                self._urgent, ending = False, self._ending
            if ending is None:
                self._flush()
        self._finish(*ending)

    def _finish(self, status: str, message: str) -> None:
        last_s = time.monotonic() + END_S
        while not self._flush(status, message) and time.monotonic() < last_s:
            time.sleep(0.1)
        for adapter in list(self._adapters):
            self._adapt(adapter, "close")
        with self._changed:
            unwritten = sum(not entry.stored for entry in self._pending.values())
            lost = _lost(self._dropped_matrices, self._dropped_steps + unwritten)
        if lost:
            warn(f"{lost} of the run {self._run.name!r} could not be recorded.")

    def _flush(self, status: str = "", message: str = "") -> bool:
        """Write what waits, and a final status if there is one; returns whether that worked."""
        with self._changed:
            batch, self._pending, self._bytes = self._pending, {}, 0
            m, objectives = self._m, self._objectives
            lost = _lost(self._dropped_matrices, self._dropped_steps)
        try:
            self._feed(batch, m)
            self._write([one for one in batch.values() if not one.stored], m, objectives)
            if status:
                note = f"{lost} could not be recorded." if lost else ""
                store = self._opened()
                store.set_status(self._run.run_id, status, f"{message} {note}".strip())
        # Whatever it is, it must neither end this thread unheard nor reach the training.
        except Exception as error:
            self._failed(batch, error)
            return False
        self._failing = False
        return True

    def _opened(self) -> RunStore:
        if self._store is None:
            store = RunStore(self._run.folder / "runs.sqlite")
            self._run.create(store)
            self._store = store
        return self._store

    def _write(self, entries: Sequence[Entry], m: int, objectives: tuple[str, ...]) -> None:
        store, run_id = self._opened(), self._run.run_id
        if objectives != self._named:
            store.annotate(run_id, objectives=objectives)
            self._named = objectives
        now_s = time.monotonic()
        if entries:
            store.append(run_id, [entry.record(m) for entry in entries])
        elif now_s - self._written_s >= BEAT_S:
            store.beat(run_id)
        else:
            return
        self._written_s = now_s

    def _failed(self, batch: dict[int, Entry], error: Exception) -> None:
        """Put back what could not be written."""
        # Opened anew at the next attempt: the file may have been moved, or made writable.
        self._store = None
        with self._changed:
            newer, self._pending = self._pending, batch
            self._bytes = sum(entry.nbytes for entry in batch.values())
            for entry in newer.values():
                # What was only marked as complete has not been stored after all.
                self._insert(replace(entry, stored=False) if entry.step in batch else entry)
            if self._bytes > LIMIT_BYTES:
                self._drop(max(self._pending))
            self._failing = True
        if not self._complained:
            self._complained = True
            text = str(error)
            if not isinstance(error, StoreError):
                text = f"Recording failed with {type(error).__name__}: {error}"
            warn(
                f"{text.rstrip('.')}. The training goes on; what the run {self._run.name!r} logs "
                "is kept in memory for now and written as soon as that is possible."
            )

    def _feed(self, batch: dict[int, Entry], m: int) -> None:
        """Give the scalars of steps that are complete to the adapters, each step once."""
        for step, entry in batch.items():
            if not entry.complete or not self._adapters:
                continue
            scalars = scalars_of(entry.record(m), self._objectives)
            for adapter in list(self._adapters):
                self._adapt(adapter, "write", step, scalars)
            # Should the store fail, the step comes again, and is not new to the adapters then.
            batch[step] = replace(entry, complete=False)

    def _adapt(self, adapter: ScalarAdapter, call: str, *values: object) -> None:
        try:
            getattr(adapter, call)(*values)
        # Other people's libraries raise what they like, and a training must not end by it.
        except Exception as error:
            self._adapters.remove(adapter)
            warn(
                f"{type(adapter).__name__} failed ({type(error).__name__}: {error}) and gets no "
                f"more numbers of the run {self._run.name!r}; the run store still does."
            )


def _lost(matrices: int, steps: int) -> str:
    parts = [f"{matrices} Gramian{'s' * (matrices != 1)}"] if matrices else []
    parts += [f"{steps} step{'s' * (steps != 1)}"] if steps else []
    return " and ".join(parts)


def warn(text: str) -> None:
    """Warn of something that was not recorded, without ever raising.

    Args:
        text: What happened, for a person.
    """
    try:
        warnings.warn(text, RecorderWarning, stacklevel=2)
    except RecorderWarning:
        # Where warnings are errors, this one would end the thread it is raised in.
        return
