"""What the Train page shows of a run: where it stands, one sentence, and its figures."""

import streamlit as st

from engines.aggregation import METHODS
from jdviz.figures import (
    angle_caption,
    angle_histogram,
    conflict_caption,
    conflict_history,
    cosine_caption,
    cosine_heatmap,
    engine_difference,
    engine_difference_caption,
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
from jdviz.pages.run_code import bars_code, series_code, step_code
from jdviz.pages.run_view import (
    RunView,
    ShownStep,
    arrange,
    example_view,
    kind_of,
    place_names,
)
from jdviz.runs import Series
from jdviz.training import StepRecord

HEIGHT = 400
#: Of an update whose run does not say which method made it.
_NO_METHOD = "The update"
#: Scalars of a run with both engines, in the order in which the figure takes them.
_LOCKSTEP = ("gramian difference", "gradient difference", "rounding")
# The run did what it was told, or will go on by itself.
_NO_FAILURE = frozenset({"diverged", "waiting", "stopped", "queued", "paused", "running"})


def draw_run(view: RunView) -> None:
    """Draw where a run stands and its last complete step; before its first, the example.

    Args:
        view: The run.
    """
    draw_standing(view)
    draw_figures(view)


def draw_figures(view: RunView) -> None:
    """Draw the figures of a run's last complete step; before its first, the example's.

    Args:
        view: The run.
    """
    record = view.store.latest(view.run.run_id)
    if record is None:
        if not view.going:
            st.info("This run ended before its first step, so there is nothing of it to show.")
        view = example_view()
        st.caption("Until its first step, the figures below are a recorded example.")
        record = view.store.latest(view.run.run_id)
    if record is not None:
        _draw_step(view, record)


def draw_standing(view: RunView) -> None:
    """Draw status, counter and progress of a run; every state in words.

    Args:
        view: The run.
    """
    if view.example:
        problem = view.problem
        what = view.setting("problem") if problem is None else problem.title
        st.caption(
            f"Example: a recorded run of “{escaped(what)}” with "
            f"{escaped(view.setting('aggregator'))}. Press Start to train your own."
        )
        return
    draw_progress(view, " · ".join([standing(view), *_what(view)]))
    if view.message:
        (st.warning if view.status in _NO_FAILURE else st.error)(escaped(view.message))


def draw_progress(view: RunView, text: str) -> None:
    """Draw how far a run is, with words above the line.

    Args:
        view: The run.
        text: The words, Markdown.
    """
    total = _total(view)
    share = 0.0 if view.going else 1.0
    st.progress(min(1.0, view.run.steps / total) if total else share, text=text)


def standing(view: RunView) -> str:
    """How far a run is, in words.

    Args:
        view: The run.
    """
    state = view.state
    if view.status == "queued":
        if state is not None and state.place > 0:
            return f"Waiting for a free worker, place {state.place} of {state.waiting} in the queue"
        return "Starting a worker"
    words = "waiting for the run store" if view.status == "waiting" else view.status
    total = _total(view)
    return f"Step {view.run.steps:,}{f' of {total:,}' if total else ''} · {words}"


def _total(view: RunView) -> int:
    """How many steps the run is to have; 0 where nobody said."""
    steps = view.run.config.get("steps")
    return steps if isinstance(steps, int) and steps > 0 else 0


def _what(view: RunView) -> list[str]:
    """What runs, as far as the run says it, and whose it is where it is not the visitor's own."""
    config = view.run.config
    known = [str(config[name]) for name in ("aggregator", "engine") if name in config]
    parts = [view.title, *("both engines" if name == "both" else name for name in known)]
    if view.run.source == "recorder":
        parts.append("recorded by a script")
    if not view.mine:
        parts.append("published by another session")
    return [escaped(part) for part in parts]


def _draw_step(view: RunView, record: StepRecord) -> None:
    series = view.store.series(view.run.run_id)
    if record.gramian is None:
        # Thinned away, or of a step that diverged: the last kept one stays on the screen.
        kept = view.store.nearest(view.run.run_id, record.step)
        if kept is not None:
            st.caption(
                f"Step {record.step:,} has no Gramian; the figures of its gradients are of step "
                f"{kept.step:,}. {view.store.thinning_sentence(view.run.run_id)}"
            )
            record = kept
    shown = arrange(view, record)
    losses = _losses_panel(view, series, record)
    if shown is None:
        weights = weights_panel(view, record)
        draw_panels(losses, *([] if weights is None else [weights]))
        return
    st.markdown(escaped(_sentence(view, shown)))
    first, *others = _step_panels(view, shown)
    conflict = Panel(
        "conflict",
        "Conflict over the steps",
        conflict_history(series.steps, series.conflict_rate, series.least_cosine, theme()),
        conflict_caption(series.steps, series.conflict_rate, series.least_cosine),
        code=series_code(
            view,
            "conflict_history",
            'series.steps, series.conflict_rate, series.least_cosine, "light"',
        ),
    )
    both = _lockstep_panel(view, series)
    panels = [losses, first, conflict, *others, *([] if both is None else [both])]
    for place in range(0, len(panels), 2):
        draw_panels(*panels[place : place + 2])


def _sentence(view: RunView, shown: ShownStep) -> str:
    """What the newest step shows; first whom the update hurts, where that is known."""
    begin = cosine_caption(shown.gramian, shown.names)
    if shown.inner is None:
        return begin
    return f"{begin} {improvement_caption({_method(view): shown.inner}, shown.names)}"


def _method(view: RunView) -> str:
    """The method of a run, for a figure; a run of another version may name an unknown one."""
    name = view.setting("aggregator")
    return name if name in METHODS else _NO_METHOD


def _losses_panel(view: RunView, series: Series, record: StepRecord) -> Panel:
    places, kind = place_names(view, series.losses.shape[1]), kind_of(view, record)
    return Panel(
        "losses",
        "Losses",
        loss_history(series.steps, series.losses, places, theme=theme(), kind=kind, height=HEIGHT),
        loss_caption(series.steps, series.losses, places, kind=kind),
        code=series_code(
            view,
            "loss_history",
            'series.steps, series.losses, show_names(run), theme="light", kind=show_kind(run), '
            f"height={HEIGHT}",
            jdviz__runs__shown="show_kind, show_names",
        ),
    )


def _lockstep_panel(view: RunView, series: Series) -> Panel | None:
    """How far the two engines are apart; None for a run that has one."""
    if not all(name in series.scalars for name in _LOCKSTEP):
        return None
    gramian, gradient, rounding = (series.scalars[name] for name in _LOCKSTEP)
    return Panel(
        "lockstep",
        "Both engines on the same batches",
        engine_difference(series.steps, gramian, gradient, rounding, theme()),
        engine_difference_caption(series.steps, gramian, gradient, rounding),
        code=series_code(
            view,
            "engine_difference",
            'series.steps, *found, "light"',
            body=f"found = [series.scalars[name] for name in {_LOCKSTEP!r}]\n",
        ),
    )


def _step_panels(view: RunView, shown: ShownStep) -> list[Panel]:
    """The figures of one step, as far as it was recorded; the cosines first."""
    mode, method, names, plane = theme(), _method(view), shown.names, shown.plane
    step = shown.record.step
    panels = [cosine_panel("cosines", shown, code=cosine_code(view, shown))]
    if plane is not None:
        where = f"{method[:1].lower()}{method[1:]}" if method == _NO_METHOD else method
        panels.append(
            Panel(
                "plane",
                f"Where {where} goes",
                update_plane_figure(plane, names, mode),
                plane_caption(plane),
                code=step_code(
                    view, step, "update_plane_figure", 'step.plane, step.names, "light"'
                ),
            )
        )
    panels += [gramian_panel(view, shown), angles_panel(view, shown)]
    weights = weights_panel(view, shown)
    return panels if weights is None else [*panels, weights]


def angles_panel(view: RunView, shown: ShownStep) -> Panel:
    """The angles between a step's gradients.

    Args:
        view: The run.
        shown: The step.
    """
    return Panel(
        "angles",
        "Angles between the gradients",
        angle_histogram(shown.gramian, theme()),
        angle_caption(shown.gramian),
        code=step_code(view, shown.record.step, "angle_histogram", 'step.gramian, "light"'),
    )


def gramian_panel(view: RunView, shown: ShownStep, key: str = "gramian") -> Panel:
    """The inner products of a step's gradients.

    Args:
        view: The run.
        shown: The step.
        key: The figure's name on the page.
    """
    return Panel(
        key,
        "Gramian G = J Jᵀ",
        gramian_heatmap(shown.gramian, shown.names, theme(), groups=shown.groups),
        gramian_caption(shown.gramian, shown.names),
        code=step_code(
            view,
            shown.record.step,
            "gramian_heatmap",
            'step.gramian, step.names, "light", groups=step.groups',
        ),
    )


def weights_panel(
    view: RunView, step: ShownStep | StepRecord, key: str = "weights"
) -> Panel | None:
    """The weights; of a method without them, what its direction does to each objective.

    Args:
        view: The run.
        step: The step, as it is shown or, where its Gramian was not recorded, as it is stored.
        key: The figure's name on the page.

    Returns:
        None where the step has neither.
    """
    if isinstance(step, ShownStep):
        names, groups = step.names, step.groups
    else:
        names, groups = place_names(view, len(step.losses)), None
    mode, method = theme(), _method(view)
    if step.weights is not None:
        return Panel(
            key,
            "Weights w",
            weight_bars(step.weights, names, mode, groups=groups),
            weight_caption(step.weights, names),
            code=bars_code(view, step, "weight_bars", 'step.weights, NAMES, "light"'),
        )
    if step.inner is None or method == _NO_METHOD:
        return None
    return Panel(
        "improvements" if key == "weights" else key,
        "Who gets hurt: gᵢ·A(J)",
        improvement_bars({method: step.inner}, names, mode),
        f"{method} has no weights: its direction is no weighted sum of the gradients.",
        code=bars_code(
            view,
            step,
            "improvement_bars",
            f'{{{method!r}: step.inner}}, NAMES, "light"',
            grouped=False,
        ),
    )


def cosine_panel(
    key: str,
    shown: ShownStep,
    *,
    title: str = "Cosines of the gradients",
    height: int = HEIGHT,
    spoken_only: bool = True,
    code: str = "",
) -> Panel:
    """The cosines of a step's gradients.

    Args:
        key: The figure's name on the page.
        shown: The step.
        title: What it is called there.
        height: Height in pixels.
        spoken_only: Whether the page says its sentence elsewhere.
        code: The code of the figure.
    """
    return Panel(
        key,
        title,
        cosine_heatmap(shown.gramian, shown.names, theme(), groups=shown.groups, height=height),
        cosine_caption(shown.gramian, shown.names),
        spoken_only=spoken_only,
        code=code,
    )


def cosine_code(view: RunView, shown: ShownStep, height: int = HEIGHT) -> str:
    """The code of the cosines of a step's gradients.

    Args:
        view: The run.
        shown: The step.
        height: Height of the figure in pixels.
    """
    return step_code(
        view,
        shown.record.step,
        "cosine_heatmap",
        f'step.gramian, step.names, "light", groups=step.groups, height={height}',
    )


def draw_example_sentence() -> None:
    """Draw what the bundled example's last step shows, in a sentence."""
    view, shown = _example()
    if shown is None:
        return
    what = view.title if view.problem is None else view.problem.title
    st.markdown(
        f"Example: step {shown.record.step} of a recorded run of “{what}”, {len(shown.names)} "
        f"images sorted by digit. {escaped(cosine_caption(shown.gramian, shown.names))}"
    )


def draw_example_cosines() -> None:
    """Draw the cosines of the bundled example's last step, whose sentence is elsewhere."""
    view, shown = _example()
    if shown is not None:
        draw_panels(cosine_panel("overview", shown, code=cosine_code(view, shown)))


def _example() -> tuple[RunView, ShownStep | None]:
    """The bundled example and its last step."""
    view = example_view()
    record = view.store.latest(view.run.run_id)
    return view, None if record is None else arrange(view, record)
