"""A run as the pages see it, and a step of it with its objectives named and in order."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from jdviz.problems import Problem, is_own
from jdviz.runs import FINAL_STATUSES, Run, RunStore, shown
from jdviz.runs.example import example_store
from jdviz.runs.shown import ShownStep
from jdviz.server import may_control, pool, store
from jdviz.training import StepRecord
from jdviz.training.pool import RunState

__all__ = [
    "RunView",
    "ShownStep",
    "arrange",
    "example_view",
    "kind_of",
    "place_names",
    "view_of",
]


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
        """What it trains; None if it is none of the problems here."""
        own = is_own(self.setting("problem"))
        record = self.store.latest(self.run.run_id) if own else None
        return shown.problem_of(self.run, record)

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


def kind_of(view: RunView, record: StepRecord) -> Literal["samples", "tasks"]:
    """What an objective of a run is: a sample of the batch, or a task."""
    return shown.kind_of(view.problem, record)


def place_names(view: RunView, m: int) -> tuple[str, ...]:
    """Names of the m objectives of a run that hold for every step.

    Args:
        view: The run.
        m: Number of objectives.
    """
    return shown.place_names(view.run, view.problem, m)


def arrange(view: RunView, record: StepRecord) -> ShownStep | None:
    """Bring a step into the order shown.

    Args:
        view: The run.
        record: One of its steps.

    Returns:
        The step; None where its Gramian is not kept.
    """
    return shown.arrange(view.run, view.problem, record)
