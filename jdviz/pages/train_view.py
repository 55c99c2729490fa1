"""What the Train page shows of a run: where it stands, one sentence, and six figures."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from engines.aggregation import METHODS
from jdviz.conflict import (
    UpdatePlane,
    update_plane,
    update_plane_without_weights,
    without_rounding,
)
from jdviz.figures import (
    angle_caption,
    angle_histogram,
    cosine_caption,
    cosine_heatmap,
    gramian_caption,
    gramian_heatmap,
    improvement_bars,
    improvement_caption,
    loss_caption,
    loss_history,
    plane_caption,
    update_plane_figure,
    weight_bars,
    weight_caption,
)
from jdviz.pages.controls import escaped
from jdviz.pages.frame import Panel, draw_panels, theme
from jdviz.problems import PROBLEMS, Problem, is_own, own_problem
from jdviz.runs import FINAL_STATUSES, Run, RunStore
from jdviz.runs.example import example_store
from jdviz.training import StepRecord
from jdviz.training.pool import RunState

HEIGHT = 400


@dataclass(frozen=True)
class RunView:
    """A run with what the server knows of it.

    Attributes:
        store: Where its steps are.
        run: What the store says.
        state: What the pool says; None for a run that is not of this server.
        visitor: Who looks at it; None for the bundled example.
    """

    store: RunStore
    run: Run
    state: RunState | None = None
    visitor: str | None = None

    @property
    def mine(self) -> bool:
        """Whether the visitor who looks at it started it."""
        return self.state is not None and self.state.owner == self.visitor

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


@cache
def example_view() -> RunView:
    """The bundled example run."""
    store = example_store()
    return RunView(store, store.runs(limit=1)[0])


def draw_run(view: RunView) -> None:
    """Draw where the run stands and its last complete step; before its first, the example."""
    _draw_standing(view)
    record = view.store.latest(view.run.run_id)
    if record is None:
        view = example_view()
        st.caption("Until its first step, the figures below are a recorded example.")
        record = view.store.latest(view.run.run_id)
    problem = view.problem
    if record is not None and problem is not None:
        _draw_figures(view, problem, record)


def _draw_standing(view: RunView) -> None:
    """Status, counter and progress; every state in words."""
    problem = view.problem
    title = escaped(view.setting("problem") if problem is None else problem.title)
    if view.visitor is None:
        st.caption(
            f"Example: a recorded run of “{title}” with {view.setting('aggregator')}. "
            "Press Start to train your own."
        )
        return
    steps = view.run.config.get("steps")
    total = steps if isinstance(steps, int) and steps > 0 else max(1, view.run.steps)
    st.progress(min(1.0, view.run.steps / total), text=_standing(view, title, total))
    if view.message:
        (st.warning if view.status in {"diverged", "waiting"} else st.error)(view.message)
    if problem is None:
        st.info(
            "This run trained a problem that is not among those here; its figures are not shown."
        )


def _standing(view: RunView, title: str, total: int) -> str:
    what = f"{title} · {view.setting('aggregator')} · {view.setting('engine')}"
    if view.state is not None and not view.mine:
        what = f"{what} · another visitor's run"
    if view.status == "queued":
        place = view.state.place if view.state is not None else 0
        if place > 0:
            return f"Waiting for a free worker, place {place} in the queue · {what}"
        return f"Starting a worker · {what}"
    words = "waiting for the run store" if view.status == "waiting" else view.status
    return f"Step {view.run.steps:,} of {total:,} · {words} · {what}"


@dataclass(frozen=True, eq=False)
class _Shown:
    """A step with its objectives in the order in which the page shows them.

    Samples of one group stand side by side, which makes it visible where groups agree.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...] | None
    gramian: NDArray[np.float64]
    weights: NDArray[np.float64] | None
    inner: NDArray[np.float64]
    norm: float

    @property
    def plane(self) -> UpdatePlane:
        """The plane of the mean gradient and the update."""
        if self.weights is None:
            return update_plane_without_weights(self.gramian, self.inner, self.norm)
        return update_plane(self.gramian, self.weights)


def _arrange(problem: Problem, record: StepRecord) -> _Shown | None:
    """Bring a step into the order shown; None for a step without a Gramian."""
    gramian, weights, norm = record.gramian, record.weights, record.direction_norm
    if gramian is None or record.inner is None or norm is None:
        return None
    inner = without_rounding(record.inner, gramian, weights)
    if record.sample_ids is None:
        return _Shown(problem.objective_names(len(inner)), None, gramian, weights, inner, norm)
    groups = problem.sample_groups(record.sample_ids)
    order = sorted(range(len(inner)), key=groups.__getitem__ if groups else None)
    return _Shown(
        problem.sample_names(record.sample_ids[order]),
        tuple(groups[place] for place in order) if groups else None,
        gramian[np.ix_(order, order)],
        None if weights is None else weights[order],
        inner[order],
        norm,
    )


def _draw_figures(view: RunView, problem: Problem, record: StepRecord) -> None:
    mode, kind = theme(), problem.objective_kind
    series = view.store.series(view.run.run_id)
    if record.gramian is None and record.step > 0:
        # The step that diverged has no Gramian; the last good one stays on the screen.
        record = view.store.record(view.run.run_id, record.step - 1) or record
    places = problem.objective_names(len(record.losses))
    losses = Panel(
        "losses",
        "Losses",
        loss_history(series.steps, series.losses, places, theme=mode, kind=kind, height=HEIGHT),
        loss_caption(series.steps, series.losses, places, kind=kind),
    )
    shown = _arrange(problem, record)
    if shown is None:
        draw_panels(losses)
        return
    method, names, gramian = view.setting("aggregator"), shown.names, shown.gramian
    hurt = improvement_caption({method: shown.inner}, names)
    st.markdown(f"{cosine_caption(gramian, names)} {hurt}")
    draw_panels(losses, _cosine_panel("cosines", shown))
    plane = shown.plane
    draw_panels(
        Panel(
            "plane",
            f"Where {method} goes",
            update_plane_figure(plane, names, mode),
            plane_caption(plane),
        ),
        Panel(
            "gramian",
            "Gramian G = J Jᵀ",
            gramian_heatmap(gramian, names, mode, groups=shown.groups),
            gramian_caption(gramian, names),
        ),
    )
    angles = Panel(
        "angles",
        "Angles between the gradients",
        angle_histogram(gramian, mode),
        angle_caption(gramian),
    )
    last = _weights_panel(method, shown)
    draw_panels(*(panel for panel in (angles, last) if panel is not None))


def _weights_panel(method: str, shown: _Shown) -> Panel | None:
    """The weights; of a method without them, what its direction does to each objective."""
    mode, names = theme(), shown.names
    if shown.weights is None:
        # A run of another version may name a method that has no style here.
        if method not in METHODS:
            return None
        return Panel(
            "improvements",
            "Who gets hurt: gᵢ·A(J)",
            improvement_bars({method: shown.inner}, names, mode),
            f"{method} has no weights: its direction is no weighted sum of the gradients.",
        )
    return Panel(
        "weights",
        "Weights w",
        weight_bars(shown.weights, names, mode, groups=shown.groups),
        weight_caption(shown.weights, names),
    )


def _cosine_panel(key: str, shown: _Shown, *, spoken_only: bool = True) -> Panel:
    return Panel(
        key,
        "Cosines of the gradients",
        cosine_heatmap(shown.gramian, shown.names, theme(), groups=shown.groups, height=HEIGHT),
        cosine_caption(shown.gramian, shown.names),
        spoken_only=spoken_only,
    )


def draw_example_cosines() -> None:
    """Draw the cosines of the bundled example's last step."""
    view = example_view()
    record = view.store.latest(view.run.run_id)
    problem = view.problem
    if record is None or problem is None or (shown := _arrange(problem, record)) is None:
        return
    st.caption(
        f"Example: step {record.step} of a recorded run of “{problem.title}”, "
        f"{len(shown.names)} images sorted by digit."
    )
    draw_panels(_cosine_panel("overview", shown, spoken_only=False))
