"""The recorder: a training of one's own becomes a run that the app shows while it goes on."""

import atexit
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from engines.autogram import Engine
from jdviz.runs.adapters import ScalarAdapter
from jdviz.runs.grouped import Ranks, Silent
from jdviz.runs.logged import (
    Entry,
    Fields,
    Losses,
    Values,
    as_gramian,
    as_ids,
    as_number,
    as_scalars,
    as_step,
    as_vector,
    refuse_asymmetry,
)
from jdviz.runs.options import as_json, as_texts, check_every
from jdviz.runs.rows import RANKS
from jdviz.runs.store import data_folder, new_run_id
from jdviz.runs.watching import EngineWatch, GradientWatch
from jdviz.runs.writer import NewRun, RecorderWarning, Writer, warn

if TYPE_CHECKING:  # builds of torch without torch.distributed have no such name
    from torch.distributed import ProcessGroup

__all__ = ["Recorder", "RecorderWarning"]

# Those that nobody closes are closed when the interpreter ends, also where a script let go of one.
_OPEN: "set[Recorder]" = set()


class Recorder:
    """Records a training in the run store, where the app shows it live.

    What is logged is copied and written by a thread of its own. Nothing that happens to the store
    stops or slows the training: a full disk, a file that is locked or read-only is one
    `RecorderWarning`, and writing is tried again; up to 64 MiB wait for that. Mistakes in a call,
    such as wrong shapes, raise at that call. A process that is forked while a run is recorded, such
    as a worker of a data loader, records nothing.

    In a group of torch.distributed, make one in every process, after `init_process_group`. Rank 0
    writes one run with the objectives of all ranks; on the others every call does the same but
    writing. `log` sends nothing between ranks: what it is given is taken to be of all of them.

    Used in a `with` block, or closed with `close`. The run ends as "finished", as "failed" if an
    exception leaves the block, or as "stopped" by Ctrl+C; without either, when the interpreter
    ends. Of a killed process everything is there but the last `flush_s` seconds.

    Args:
        name: What a person calls the run; need not be unique.
        config: Its settings; what JSON does not hold is kept as text.
        objectives: Names of the objectives; by default those of the first losses given by name.
        tags: Words to filter by.
        notes: Any text.
        published: Whether every visitor of a shared server sees it.
        folder: Of the run store; by default `JDVIZ_DATA`, else the user's data folder.
        flush_s: Seconds between two writings.
        adapters: Where the scalar series go besides, such as `TensorBoard("runs")`.
        process_group: The group of the engine, if it is not the default one; a group of one makes a
            recorder of a process's own.

    Attributes:
        run_id: The run's identifier in the store; empty on the ranks that write nothing.

    Raises:
        TypeError: An argument has another type.
        ValueError: The name is empty, or `flush_s` is not positive.
        GroupError: This process is not in the group.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Recorder("my run", folder=folder) as rec:
        ...         for _ in range(3):
        ...             step = rec.log({"depth": 0.5, "edges": 0.25})
        >>> step
        2

    Cost: a call of `log` copies what it is given, about 0.1 ms for 64 objectives. On a GPU the
        copy waits for what computes it.
    """

    def __init__(
        self,
        name: str,
        *,
        config: Mapping[str, Any] | None = None,
        objectives: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        notes: str = "",
        published: bool = False,
        folder: str | Path | None = None,
        flush_s: float = 1.0,
        adapters: Sequence[ScalarAdapter] = (),
        process_group: "ProcessGroup | None" = None,
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"got {name!r} as name, expected text; say what this run is.")
        if not flush_s > 0:
            raise ValueError(f"got flush_s={flush_s!r}, expected seconds above 0; leave it out.")
        self._ranks = Ranks.of(process_group)
        self.run_id = "" if self._ranks.rank else new_run_id()
        self._objectives = as_texts(objectives or (), "objectives")
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._begin_s = self._last_s = time.perf_counter()
        self._current: Entry | None = None
        self._checked = False
        self._complained = False
        self._closed = False
        self._engine_watch: EngineWatch | None = None
        self._gradient_watch: GradientWatch | None = None
        run = NewRun(
            folder=data_folder() if folder is None else Path(folder).expanduser(),
            run_id=self.run_id,
            name=name,
            config=as_json(config) | ({RANKS: self._ranks.size} if self._ranks.size > 1 else {}),
            objectives=self._objectives,
            tags=as_texts(tags, "tags"),
            notes=notes,
            published=published,
        )
        self._writer = Silent(adapters) if self._ranks.rank else Writer(run, flush_s, adapters)
        _OPEN.add(self)

    def __repr__(self) -> str:
        return f"Recorder(run_id={self.run_id!r})"

    @property
    def hint(self) -> str:
        """One sentence that says where to look at the run."""
        if not self.run_id:
            return "Rank 0 of the group records this run, and its hint says where to look at it."
        return (
            "Start the app with `streamlit run app.py`, and open its page "
            f"/lens?l_run={self.run_id} to watch this run."
        )

    def log(
        self,
        losses: Values | Mapping[str, Any] | None = None,
        *,
        step: int | None = None,
        gramian: Values | Mapping[str, Values] | None = None,
        weights: Values | None = None,
        inner: Values | None = None,
        direction_norm: float | None = None,
        sample_ids: Values | None = None,
        elapsed_s: float | None = None,
        peak_bytes: int | None = None,
        scalars: Mapping[str, Any] | None = None,
    ) -> int:
        """Record what is known of a step.

        Several calls may describe one step: a call without `step` belongs to the current step
        unless that already has something of what is given, else to the next.

        Args:
            losses: One for each of m objectives: a tensor, numbers, or numbers by name.
            step: Number of the step, that of the last call or a larger one; by default see above.
            gramian: Inner products of the objectives' gradients, shape [m, m] or generalized; or
                the dict of `compute_gramian(losses, by_module=True)`.
            weights: Weight of each objective in the update, shape [m].
            inner: First-order improvement of each objective, J·A(J), shape [m]; by default from
                Gramian and weights.
            direction_norm: Length of the update direction; by default from Gramian and weights.
            sample_ids: Row of the data that each objective is, shape [m].
            elapsed_s: Seconds that the step took; by default since the step before.
            peak_bytes: Peak of the memory allocated in the step.
            scalars: Further numbers by name, such as a validation accuracy.

        Returns:
            The number of the step; -1 in a forked process, which records nothing.

        Raises:
            TypeError: Something is not made of real numbers, or the step no integer.
            ValueError: Shapes do not fit each other, the step is below 0, earlier than the last, or
                has some of this already, nothing is given, or the recorder is closed.
        """
        if os.getpid() != self._pid:
            return -1
        names = tuple(losses) if isinstance(losses, Mapping) else ()
        values = list(losses.values()) if isinstance(losses, Mapping) else losses
        matrix, shares = as_gramian(gramian)
        known = Fields(
            losses=None if values is None else as_vector(values, "losses"),
            gramian=matrix,
            shares=shares,
            weights=None if weights is None else as_vector(weights, "weights"),
            inner=None if inner is None else as_vector(inner, "inner"),
            direction_norm=None if direction_norm is None else as_number(direction_norm),
            sample_ids=None if sample_ids is None else as_ids(sample_ids),
            elapsed_s=None if elapsed_s is None else float(elapsed_s),
            peak_bytes=None if peak_bytes is None else int(peak_bytes),
            scalars=as_scalars(scalars),
        )
        with self._lock:
            return self._take(known, names, None if step is None else as_step(step))

    def watch(
        self, engine: Engine, weighting: nn.Module | None = None, *, layers_every: int | None = 10
    ) -> EngineWatch:
        """Record every step that an engine takes from now on.

        Each call of `Engine.backward` or `Engine.compute_gramian` is a step. What `log` adds in
        between belongs to it. In a group every rank calls this before the same step.

        Args:
            engine: The engine; one at a time.
            weighting: What makes weights of the Gramian where they are not made by
                `Engine.backward`: its calls give the weights of the last step.
            layers_every: Every so many steps, from the first on, the Gramian is split over the
                modules; None for never.

        Returns:
            What ends it: `remove()`. The end of the recorder does too.

        Raises:
            TypeError: The engine is no `Engine`, or the weighting no module.
            ValueError: Another engine is watched, `layers_every` is below 1, or the recorder is
                closed.
            GroupError: The recorder was made before the group.
        """
        if not isinstance(engine, Engine):
            raise TypeError(
                f"got {type(engine).__name__}, expected an Engine; where there is none, see "
                "watch_gradients."
            )
        if not (weighting is None or isinstance(weighting, nn.Module)):
            raise TypeError(
                f"got {type(weighting).__name__} as weighting, expected a module such as "
                "UPGradWeighting(); log the weights yourself with log(weights=...)."
            )
        if layers_every is not None:
            check_every(layers_every, "layers_every")
        self._ranks.check()
        if self._closed:
            raise ValueError("got an engine after close(), expected none; make a new Recorder.")
        if self._engine_watch is not None and self._engine_watch.active:
            raise ValueError(
                "got a second engine, expected one at a time, as each call is a step; remove the "
                "first watch, or make a Recorder for each."
            )
        self._engine_watch = EngineWatch(
            engine, weighting, layers_every, self.log, self._add_weights
        )
        return self._engine_watch

    def watch_gradients(
        self,
        losses: Losses,
        model: nn.Module | Sequence[nn.Module],
        *,
        batch_dim: int | None = None,
        every: int = 10,
        layers: bool = True,
    ) -> int:
        """Record the losses of a step, and now and then how their gradients conflict.

        For trainings without Jacobian descent: call it between the forward and the backward pass.
        The graph stays usable, and `.grad` as it was. In a group every rank calls it at every step,
        with its own losses.

        Args:
            losses: One for each objective, before they are added up: a tensor, or scalar tensors in
                a list or by name; with their graph.
            model: The module, or modules, whose parameters' gradients are looked at. Shared layers
                alone are enough, and cheaper.
            batch_dim: Dimension of the losses that indexes independent samples; None for tasks.
            every: Every so many calls, from the first on, the Gramian is computed.
            layers: Whether it is split over the modules.

        Returns:
            The number of the step.

        Raises:
            TypeError: As `log` and `Engine`.
            ValueError: As `log` and `Engine`, or `every` is below 1. If a later look fails, that is
                one `RecorderWarning`, and the losses are recorded; in a group it raises, as the
                other ranks would wait for this one.
            GroupError: The recorder was made before the group, or a rank is gone.

        Cost: with `batch_dim=None` about one backward pass for each objective at every look. In a
            group the losses of all ranks are collected at every call.
        """
        check_every(every, "every")
        if os.getpid() != self._pid:
            return -1
        self._ranks.check()
        modules = (model,) if isinstance(model, nn.Module) else tuple(model)
        watch = self._gradient_watch
        if watch is None or not watch.is_of(modules, batch_dim):
            watch = self._gradient_watch = GradientWatch(modules, batch_dim, self._ranks)
        looks = watch.calls % every == 0
        found = watch.look(losses, layers=layers) if looks else None
        # A look that raised is made up for at the next call.
        watch.calls += 1
        together = self._ranks.gathered(losses, batch_dim)
        if found is None:
            return self.log(together)
        if not isinstance(found, str):
            return self.log(together, gramian=found, scalars=watch.exchanged())
        if not self._complained:
            self._complained = True
            warn(
                f"The gradients could not be looked at ({found}); losses are recorded all the same."
            )
        return self.log(together)

    def close(self, status: str = "finished", message: str = "") -> None:
        """Write what is left and end the run; a second time does nothing.

        Args:
            status: "finished", "stopped", "failed" or "diverged".
            message: A sentence for a person, or empty.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._engine_watch is not None:
                self._engine_watch.remove()
            if self._current is not None:
                self._writer.complete(self._current)
        _OPEN.discard(self)
        self._writer.end(status, message)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(*_outcome(error))

    def _take(self, known: Fields, names: tuple[str, ...], step: int | None) -> int:
        """Add something to the current step, or begin the next one."""
        if self._closed:
            raise ValueError("got a step after close(), expected none; make a new Recorder.")
        if not known:
            raise ValueError("got nothing to log, expected losses at least; give some.")
        current, number = self._current, self._number(known, step)
        names = self._names_of(known, names)
        if current is not None and current.step == number:
            entry = replace(current, known=current.known.merged(known))
        else:
            now_s = time.perf_counter()
            entry = Entry(number, now_s - self._begin_s, now_s - self._last_s, known)
        entry.known.check()
        if known.gramian is not None and not self._checked:
            refuse_asymmetry(known.gramian)
            self._checked = True
        # From here on nothing is refused.
        if current is not None and current.step != number:
            self._writer.complete(current)
        if current is None or current.step != number:
            self._last_s = now_s
        if known.losses is not None:
            self._objectives = names
            self._writer.describe(len(known.losses), names)
        self._current = entry
        self._writer.put(entry)
        return number

    def _number(self, known: Fields, step: int | None) -> int:
        """Which step something belongs to."""
        current = self._current
        if current is None:
            return 0 if step is None else step
        twice = current.known.overlap(known)
        if step is None:
            return current.step + bool(twice)
        if step < current.step:
            raise ValueError(
                f"got step {step} after step {current.step}, expected steps in ascending order; "
                "count on, also over epochs."
            )
        if step == current.step and twice:
            raise ValueError(
                f"got {', '.join(twice)} of step {step} a second time, expected each once; give "
                "the next step another number, or none."
            )
        return step

    def _names_of(self, known: Fields, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names of the objectives, which losses have to fit."""
        own = self._objectives or tuple(map(str, names))
        if known.losses is not None and own:
            own = self._ranks.names(own, len(known.losses))
            if names and tuple(map(str, names)) != own:
                raise ValueError(
                    f"got losses named {', '.join(map(str, names))}, expected {', '.join(own)}, in "
                    "this order; give NaN for an objective that a step has not."
                )
            if len(own) != len(known.losses):
                raise ValueError(
                    f"got {len(known.losses)} losses, expected {len(own)}: {', '.join(own)}; give "
                    "NaN for an objective that a step has not."
                )
        return own

    def _add_weights(self, step: int, weights: Tensor) -> None:
        """Add weights to a step, if it is still the current one and has none."""
        with self._lock:
            current = None if self._closed else self._current
            if current and current.step == step and current.known.weights is None:
                self.log(step=step, weights=weights)


def _outcome(error: BaseException | None) -> tuple[str, str]:
    """Status and message of a run that ended with an exception, or without."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "finished", ""
    if isinstance(error, KeyboardInterrupt):
        return "stopped", ""
    return "failed", f"The script ended with {type(error).__name__}."


@atexit.register
def _close_all() -> None:
    """End what nobody closed."""
    # In a notebook the last exception may be hours old and of another cell.
    error = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
    for recorder in list(_OPEN):
        recorder.close(*_outcome(error))
