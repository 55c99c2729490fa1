"""A run as the pages see it, and a step of it with its objectives named and in order."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
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
from jdviz.runs import FINAL_STATUSES, Run, RunStore
from jdviz.runs.example import example_store
from jdviz.server import may_control, pool, store
from jdviz.training import StepRecord
from jdviz.training.pool import RunState

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RunView:
    """A run with what the server knows of it.

    Attributes:
        store: Where its steps are.
        run: What the store says.
        state: What the pool says; None for a run that is not of this server.
        mine: Whether the visitor who looks at it may control it.
        example: Whether it is the bundled example.
    """

    store: RunStore
    run: Run
    state: RunState | None = None
    mine: bool = False
    example: bool = False

    @property
    def status(self) -> str:
        """Where the run stands."""
        return self.state.status if self.state is not None else self.run.status

    @property
    def going(self) -> bool:
        """Whether it may still change."""
        return self.status not in FINAL_STATUSES

    @property
    def message(self) -> str:
        """What there is to say about it, or empty."""
        return self.state.message if self.state is not None else self.run.message

    @property
    def problem(self) -> Problem | None:
        """What it trains; None if it is none of the problems here.

        Of a model of someone's own the names are enough, and only the names are looked at: a
        stored run never makes the server import something.
        """
        name = str(self.run.config.get("problem"))
        if not is_own(name):
            return PROBLEMS.get(name)
        record = self.store.latest(self.run.run_id)
        m = 1 if record is None else len(record.losses)
        of_samples = record is not None and record.sample_ids is not None
        return own_problem(
            name,
            batch_dim=0 if of_samples else None,
            batch_size=m,
            objectives=m,
            resizable=False,
        )

    def setting(self, name: str) -> str:
        """One of the settings it was started with, as text."""
        return str(self.run.config.get(name, "unknown"))

    @property
    def title(self) -> str:
        """What the run is called, else what it trains."""
        if self.run.name:
            return self.run.name
        problem = self.problem
        return self.setting("problem") if problem is None else problem.title


def view_of(run: Run) -> RunView:
    """A run of this server's store, for the visitor whose page is being drawn.

    Args:
        run: One that the visitor may see.

    Raises:
        StoreError: If the store cannot be used.
    """
    return RunView(store(), run, pool().state(run.run_id), mine=may_control(run))


@cache
def example_view() -> RunView:
    """The bundled example run."""
    bundled = example_store()
    return RunView(bundled, bundled.runs(limit=1)[0], example=True)


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


def kind_of(view: RunView, record: StepRecord) -> Literal["samples", "tasks"]:
    """What an objective of a run is: a sample of the batch, or a task."""
    problem = view.problem
    if problem is not None:
        return problem.objective_kind
    return "tasks" if record.sample_ids is None else "samples"


def place_names(view: RunView, m: int) -> tuple[str, ...]:
    """Names of the m objectives of a run that hold for every step.

    Args:
        view: The run.
        m: Number of objectives.

    Returns:
        The names of the tasks, of the problem or given to the Recorder; else the places in the
        batch.
    """
    if len(view.run.objectives) == m:
        return view.run.objectives
    problem = view.problem
    if problem is not None and not (problem.task_names and len(problem.task_names) != m):
        return problem.objective_names(m)
    return tuple(f"objective {place}" for place in range(1, m + 1))


def arrange(view: RunView, record: StepRecord) -> ShownStep | None:
    """Bring a step into the order shown.

    Args:
        view: The run.
        record: One of its steps.

    Returns:
        The step; None where its Gramian is not kept.
    """
    if record.gramian is None:
        return None
    names, groups = _names(view, record)
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


def _names(view: RunView, record: StepRecord) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Names and groups of all objectives of a step, in the order of the record."""
    m = len(record.losses)
    problem = view.problem
    if record.sample_ids is None:
        return place_names(view, m), None
    known = problem is not None and record.sample_ids.min(initial=0) >= 0
    if problem is None or not known or record.sample_ids.max(initial=0) >= problem.n_samples:
        return tuple(f"sample {row}" for row in record.sample_ids.tolist()), None
    groups = problem.sample_groups(record.sample_ids)
    return problem.sample_names(record.sample_ids), groups or None
