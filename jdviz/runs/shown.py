"""A step of a recorded run as it is shown: its objectives named, and in order.

For a script that draws what the app draws: `show_step(load_run("my run"), 79)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jdviz.conflict import (
    UpdatePlane,
    update_plane,
    update_plane_without_weights,
    without_rounding,
)
from jdviz.problems import PROBLEMS, Problem, is_own, own_problem
from jdviz.runs.comparison import Result
from jdviz.runs.errors import StoreError
from jdviz.runs.loading import RecordedRun
from jdviz.runs.rows import Run
from jdviz.training.record import StepRecord

Array = NDArray[np.float64]
#: As many steps of a history as the app draws.
MOST_POINTS = 400


@dataclass(frozen=True, eq=False)
class ShownStep:
    """A step whose Gramian is kept, with its objectives in the order in which pages show them.

    Samples of one group stand side by side, which makes it visible where groups agree. Of a step
    whose Gramian was thinned, these are the objectives that it still holds.

    Attributes:
        record: The step as it was recorded.
        order: Place of every objective shown among those of the record, shape [m].
        names: Name of every objective, length m.
        groups: Group of every objective, length m; None where they have none.
        losses: Loss of every objective, shape [m].
        gramian: Inner products of the gradients, shape [m, m].
        weights: Weights, shape [m], or None.
        inner: First-order improvements with rounding set to zero, shape [m], or None.
        norm: Length of the update direction, or None.
    """

    record: StepRecord
    order: NDArray[np.int64]
    names: tuple[str, ...]
    groups: tuple[str, ...] | None
    losses: Array
    gramian: Array
    weights: Array | None
    inner: Array | None
    norm: float | None

    @property
    def plane(self) -> UpdatePlane | None:
        """The plane of the mean gradient and the update; None where the update is not known."""
        if len(self.names) < len(self.record.losses):
            # The update is a sum of gradients that are not all here.
            return None
        if self.weights is not None:
            return update_plane(self.gramian, self.weights)
        if self.inner is None or self.norm is None:
            return None
        return update_plane_without_weights(self.gramian, self.inner, self.norm)

    def shares(self) -> Mapping[str, Array] | None:
        """The split of the Gramian over modules in the order shown; None where it is not kept."""
        if self.record.shares is None:
            return None
        rows = _places_in_gramian(self.record, self.order)
        return {path: share[np.ix_(rows, rows)] for path, share in self.record.shares.items()}


def show_step(run: RecordedRun, step: int | None = None) -> ShownStep:
    """A step of a recorded run as the app shows it.

    Args:
        run: The run.
        step: One of its steps; None for the last that has a Gramian.

    Returns:
        The step.

    Raises:
        StoreError: If it was not recorded, or its Gramian is not kept.
    """
    if step is None:
        kept = run.gramian_steps
        step = int(kept[-1]) if kept.size else -1
    record = run.record(step)
    shown = arrange(run.info, problem_of(run.info, record), record)
    if shown is None:
        raise StoreError(f"The Gramian of step {step} is not kept; see `gramian_steps`.")
    return shown


def show_names(run: RecordedRun) -> tuple[str, ...]:
    """Names of the objectives of a recorded run that hold for every step, length m.

    Args:
        run: The run.
    """
    record = run.latest()
    m = 0 if record is None else len(record.losses)
    return place_names(run.info, problem_of(run.info, record), m)


def show_kind(run: RecordedRun) -> Literal["samples", "tasks"]:
    """What an objective of a recorded run is.

    Args:
        run: The run.
    """
    record = run.latest()
    return kind_of(problem_of(run.info, record), record)


def show_result(run: RecordedRun) -> Result:
    """A recorded run with its history, as runs are compared.

    Args:
        run: The run.
    """
    named = run.latest() is not None and show_kind(run) == "tasks"
    series = run.series(max_points=MOST_POINTS)
    return Result(run.info, series, show_names(run) if named else ())


def problem_of(run: Run, record: StepRecord | None) -> Problem | None:
    """What a run trains; None if it is none of the problems here.

    Of a model of someone's own the names are enough, and only the names are looked at: a stored
    run never makes a program import something.

    Args:
        run: The run.
        record: One of its steps; None before the first.
    """
    name = str(run.config.get("problem"))
    if not is_own(name):
        return PROBLEMS.get(name)
    m = 1 if record is None else len(record.losses)
    of_samples = record is not None and record.sample_ids is not None
    return own_problem(
        name,
        batch_dim=0 if of_samples else None,
        batch_size=m,
        objectives=m,
        resizable=False,
    )


def kind_of(problem: Problem | None, record: StepRecord | None) -> Literal["samples", "tasks"]:
    """What an objective of a run is: a sample of the batch, or a task.

    Args:
        problem: What it trains, if it is one of the problems here.
        record: One of its steps; None before the first.
    """
    if problem is not None:
        return problem.objective_kind
    return "tasks" if record is None or record.sample_ids is None else "samples"


def place_names(run: Run, problem: Problem | None, m: int) -> tuple[str, ...]:
    """Names of the m objectives of a run that hold for every step.

    Args:
        run: The run.
        problem: What it trains, if it is one of the problems here.
        m: Number of objectives.

    Returns:
        The names of the tasks, of the problem or given to the Recorder; else the places in the
        batch.
    """
    if len(run.objectives) == m:
        return run.objectives
    if problem is not None and not (problem.task_names and len(problem.task_names) != m):
        return problem.objective_names(m)
    return tuple(f"objective {place}" for place in range(1, m + 1))


def arrange(run: Run, problem: Problem | None, record: StepRecord) -> ShownStep | None:
    """Bring a step into the order shown.

    Args:
        run: The run.
        problem: What it trains, if it is one of the problems here.
        record: One of its steps.

    Returns:
        The step; None where its Gramian is not kept.
    """
    if record.gramian is None:
        return None
    names, groups = _names(run, problem, record)
    kept = np.arange(len(names)) if record.kept_ids is None else record.kept_ids
    order = np.array(sorted(kept.tolist(), key=groups.__getitem__ if groups else None), np.int64)
    rows = _places_in_gramian(record, order)
    gramian = record.gramian[np.ix_(rows, rows)]
    weights = None if record.weights is None else record.weights[order]
    inner = None
    if record.inner is not None:
        inner = without_rounding(record.inner[order], gramian, weights)
    return ShownStep(
        record=record,
        order=order,
        names=tuple(names[place] for place in order),
        groups=tuple(groups[place] for place in order) if groups else None,
        losses=record.losses[order],
        gramian=gramian,
        weights=weights,
        inner=inner,
        norm=record.direction_norm,
    )


def _places_in_gramian(record: StepRecord, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the kept Gramian that belong to places among all objectives."""
    if record.kept_ids is None:
        return order
    rows: NDArray[np.int64] = np.searchsorted(record.kept_ids, order)
    return rows


def _names(
    run: Run, problem: Problem | None, record: StepRecord
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Names and groups of all objectives of a step, in the order of the record."""
    m = len(record.losses)
    if record.sample_ids is None:
        return place_names(run, problem, m), None
    known = problem is not None and record.sample_ids.min(initial=0) >= 0
    if problem is None or not known or record.sample_ids.max(initial=0) >= problem.n_samples:
        return tuple(f"sample {row}" for row in record.sample_ids.tolist()), None
    groups = problem.sample_groups(record.sample_ids)
    return problem.sample_names(record.sample_ids), groups or None
