"""A recorded run read back: in a notebook, or in a script that compares runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from jdviz.runs.checking import checked
from jdviz.runs.errors import StoreError
from jdviz.runs.outputs import series_columns, write_csv, write_parquet
from jdviz.runs.rows import Run, Series
from jdviz.runs.store import RunStore, data_folder
from jdviz.runs.transfer import SUFFIX
from jdviz.training.record import StepRecord

if TYPE_CHECKING:
    import pandas

_NAMES_IN_ERROR = 5
_NAMES_IN_REPR = 8


def load_run(name: str | Path, *, folder: str | Path | None = None) -> "RecordedRun":
    """Open a recorded run for reading, also while another process still writes it.

    Args:
        name: What the run is called (the newest of that name), its identifier, or the path of an
            exported run, ending in `.jdviz`, which is checked first.
        folder: The data folder that holds `runs.sqlite`, or such a file; None for the one that
            `Recorder` and the app use, `JDVIZ_DATA` or else the user's.

    Returns:
        The run.

    Raises:
        StoreError: If there is no such store, run or file, or it cannot be read.
    """
    if str(name).endswith(SUFFIX):
        path = Path(name).expanduser()
        with checked(path):
            # The check is all that is wanted here: the store below opens the file by itself.
            pass
        store = RunStore(path, read_only=True)
        return RecordedRun(store, store.runs(limit=1)[0].run_id)
    place = data_folder() if folder is None else Path(folder).expanduser()
    path = place if place.is_file() else place / "runs.sqlite"
    if not path.exists():
        raise StoreError(
            f"There is no run store at {path}. Record a run first, or give the folder of the one "
            "to read: load_run(name, folder=…)."
        )
    store = RunStore(path, read_only=True)
    run = store.find(str(name))
    if run is None:
        newest = dict.fromkeys(found.name or found.run_id for found in store.runs())
        listed = ", ".join(f"“{word}”" for word in list(newest)[:_NAMES_IN_ERROR])
        known = f"The newest are {listed}" if listed else "It has no runs yet"
        raise StoreError(f"The run store {path} has no run “{name}”. {known}.")
    return RecordedRun(store, run.run_id)


class RecordedRun:
    """One run of a store, for reading.

    Everything is read when it is asked for, so a run that is still written shows what there is.

    Args:
        store: Where the run is.
        run_id: Its identifier.
    """

    def __init__(self, store: RunStore, run_id: str) -> None:
        self.store = store
        self.run_id = run_id

    def __repr__(self) -> str:
        run = self.info
        words = [repr(run.name or run.run_id), run.status, f"{run.steps} steps"]
        if run.objectives:
            more = len(run.objectives) - _NAMES_IN_REPR
            listed = ", ".join(run.objectives[:_NAMES_IN_REPR])
            words.append(f"objectives: {listed}{f' and {more} more' if more > 0 else ''}")
        return f"RecordedRun({', '.join(words)})"

    @property
    def info(self) -> Run:
        """All that is known of the run beside its steps.

        Raises:
            StoreError: If the run was deleted, or the store cannot be read.
        """
        run = self.store.run(self.run_id)
        if run is None:
            raise StoreError(f"The run store no longer has the run {self.run_id}: it was deleted.")
        return run

    @property
    def name(self) -> str:
        """What it is called; may be empty."""
        return self.info.name

    @property
    def status(self) -> str:
        """Whether it is running, or how it ended."""
        return self.info.status

    @property
    def config(self) -> dict[str, Any]:
        """The settings it was started with."""
        return self.info.config

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives; empty where they were not named."""
        return self.info.objectives

    @property
    def tags(self) -> tuple[str, ...]:
        """Words that were given to filter by."""
        return self.info.tags

    @property
    def notes(self) -> str:
        """What a person wrote about it."""
        return self.info.notes

    @property
    def thinned(self) -> str:
        """Which matrices were not kept, in words; empty where all are."""
        return self.store.thinning_sentence(self.run_id)

    @property
    def steps(self) -> NDArray[np.int64]:
        """The recorded steps, ascending, shape [k]."""
        return self.store.steps(self.run_id)

    @property
    def gramian_steps(self) -> NDArray[np.int64]:
        """The steps of which the Gramian is kept, ascending, shape [k]."""
        return self.store.gramian_steps(self.run_id)

    @property
    def share_steps(self) -> NDArray[np.int64]:
        """The steps of which the split over modules is kept, ascending, shape [k]."""
        return self.store.share_steps(self.run_id)

    def series(self, *, max_points: int | None = None) -> Series:
        """The history without matrices.

        Args:
            max_points: At most this many steps, evenly spaced, and the last; None for all.

        Returns:
            The history.
        """
        return self.store.series(self.run_id, max_points=max_points)

    def record(self, step: int) -> StepRecord:
        """One step with everything that is kept of it.

        Args:
            step: One of `steps`.

        Returns:
            The step.

        Raises:
            StoreError: If it was not recorded.
        """
        record = self.store.record(self.run_id, step)
        if record is None:
            steps = self.steps
            known = (
                f"It has {len(steps)}, from {steps[0]} to {steps[-1]}"
                if len(steps)
                else "It has none"
            )
            raise StoreError(f"The run has no step {step}. {known}; see `steps`.")
        return record

    def latest(self) -> StepRecord | None:
        """The last recorded step, or None before the first."""
        return self.store.latest(self.run_id)

    def nearest(
        self, step: int, *, what: Literal["gramian", "shares"] = "gramian"
    ) -> StepRecord | None:
        """The step closest to `step` of which a matrix is kept.

        Args:
            step: Any step.
            what: The Gramian, or its split over modules.

        Returns:
            The step, or None if the run has no such matrix.
        """
        return self.store.nearest(self.run_id, step, what=what)

    def to_frame(self) -> "pandas.DataFrame":
        """The numbers of every step as a table, indexed by step; see `to_csv` for its columns.

        Returns:
            A pandas DataFrame.

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "got no pandas, expected it for a DataFrame. Install it (pip install pandas), or "
                "use series(), which gives arrays."
            ) from error
        return pandas.DataFrame(series_columns(self.store, self.run_id)).set_index("step")

    def to_csv(self, path: str | Path) -> None:
        """Write the numbers of every step as CSV: step, seconds, losses, weights, measures.

        Args:
            path: The file.

        Raises:
            TransferError: If it cannot be written.
        """
        write_csv(series_columns(self.store, self.run_id), Path(path))

    def to_parquet(self, path: str | Path) -> None:
        """Write the numbers of every step as Parquet, with the same columns.

        Args:
            path: The file.

        Raises:
            TransferError: If it cannot be written.
            ImportError: If pyarrow is not installed.
        """
        write_parquet(series_columns(self.store, self.run_id), Path(path))
