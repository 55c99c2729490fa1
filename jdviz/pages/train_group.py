"""Several methods side by side from the same seed: their histories on one axis, and each by itself.

The runs of a group are started at once and found by what they share in the store.
"""

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from jdviz.figures import Line, overlay, overlay_caption
from jdviz.figures.words import number
from jdviz.pages.controls import Choice, escaped
from jdviz.pages.frame import Panel, draw_panels, theme
from jdviz.pages.run_code import overlay_code
from jdviz.pages.run_view import RunView, arrange, view_of
from jdviz.pages.train_view import (
    cosine_code,
    cosine_panel,
    draw_figures,
    draw_progress,
    standing,
)
from jdviz.runs import Run, Series
from jdviz.runs.comparison import (
    CONFLICT_RATE,
    LEAST_COSINE,
    MEAN_LOSS,
    Result,
    row_means,
)
from jdviz.runs.describing import labels
from jdviz.server import find_run, visible_runs

OVERLAY_HEIGHT = 300
MATRIX_HEIGHT = 280
_MEMBERS = "train:group"
CLOSER_KEY = "t_look"
#: What is overlaid, by the name that a figure gives it, and how a script finds it.
_SERIES = {
    "mean loss": MEAN_LOSS,
    "smallest cosine": LEAST_COSINE,
    "share of the pairs in conflict": CONFLICT_RATE,
}
_NOT_NAMED = ("engine", "learning_rate")


def views_of(run: Run) -> list[RunView]:
    """A run and those that were started with it, in the order in which they were.

    Args:
        run: One that the visitor may see.

    Returns:
        Those of them that the visitor may see; the run alone where it has no group.

    Raises:
        StoreError: If the store cannot be used.
    """
    if not run.group:
        return [view_of(run)]
    # The members are looked up once: this is asked several times a second.
    group, ids = st.session_state.get(_MEMBERS, ("", ()))
    if group != run.group:
        ids = tuple(one.run_id for one in reversed(visible_runs()) if one.group == run.group)
        st.session_state[_MEMBERS] = (run.group, ids)
    found = [find_run(run_id) for run_id in ids]
    return [view_of(one) for one in found if one is not None] or [view_of(run)]


def names_of(views: Sequence[RunView]) -> list[str]:
    """What each of several runs is called beside the others, no two alike.

    Args:
        views: The runs.
    """
    return labels([view.run for view in views], ignoring=_NOT_NAMED)


def chosen_of(views: Sequence[RunView]) -> RunView:
    """The run to look at closer: the one chosen among several, else the first.

    Args:
        views: The runs, at least one.
    """
    names = names_of(views)
    wanted = _closer(names).current()
    return views[names.index(wanted)] if wanted in names else views[0]


def _closer(names: Sequence[str]) -> Choice:
    """Which of the runs is looked at closer; none to begin with."""
    return Choice(CLOSER_KEY, "Look closer at", tuple(names), "")


def draw_group(views: Sequence[RunView]) -> None:
    """Draw where each run stands, their histories on one axis, and the cosines of each.

    Args:
        views: The runs, at least two.
    """
    names = names_of(views)
    _draw_standings(views, names)
    series = [view.store.series(view.run.run_id) for view in views]
    if not any(len(one.steps) for one in series):
        draw_figures(views[0])
        return
    draw_panels(*_overlays(views, names, series))
    _draw_matrices(views, names)
    closer = _closer(names).draw_buttons(help_text="Its figures, as of a run by itself.")
    if closer in names:
        draw_figures(views[names.index(closer)])


def _draw_standings(views: Sequence[RunView], names: Sequence[str]) -> None:
    """A line of progress for each, with its learning rate, which the methods may not share."""
    for column, view, name in zip(st.columns(len(views)), views, names, strict=True):
        with column:
            draw_progress(view, f"**{escaped(name)}** · {standing(view)}")
            rate = view.run.config.get("learning_rate")
            words = [f"Learning rate {number(rate)}."] if isinstance(rate, float) else []
            st.caption(" ".join([*words, escaped(view.message)]))


def _overlays(
    views: Sequence[RunView], names: Sequence[str], series: Sequence[Series]
) -> list[Panel]:
    quantities = {
        "mean loss": [row_means(one.losses) for one in series],
        "smallest cosine": [one.least_cosine for one in series],
        "share of the pairs in conflict": [one.conflict_rate for one in series],
    }
    panels = []
    for quantity, values in quantities.items():
        lines = [
            Line(name, one.steps, value)
            for name, one, value in zip(names, series, values, strict=True)
        ]
        panels.append(
            Panel(
                f"group-{quantity.replace(' ', '-')}",
                f"{quantity[:1].upper()}{quantity[1:]}",
                overlay(lines, theme(), quantity=quantity, height=OVERLAY_HEIGHT),
                overlay_caption(lines, quantity=quantity),
                code=overlay_code(
                    [Result(view.run, one) for view, one in zip(views, series, strict=True)],
                    names,
                    f"quantity={quantity!r}, height={OVERLAY_HEIGHT}",
                    _SERIES[quantity],
                ),
            )
        )
    return panels


def _draw_matrices(views: Sequence[RunView], names: Sequence[str]) -> None:
    """The cosines of the last step of each whose Gramian is kept, in places that stay."""
    width = 3 if len(views) == 3 else 2
    columns: list[DeltaGenerator] = []
    for place, (view, name) in enumerate(zip(views, names, strict=True)):
        columns = columns or list(st.columns(width, gap="medium"))
        with columns.pop(0):
            record = view.store.nearest(view.run.run_id, view.run.steps)
            shown = None if record is None else arrange(view, record)
            if record is None or shown is None:
                st.markdown(f"**{escaped(name)}: cosines**")
                st.caption("None of its steps has a Gramian yet.")
                continue
            draw_panels(
                cosine_panel(
                    f"group-cosines-{place}",
                    shown,
                    title=f"{name}: cosines at step {record.step:,}",
                    height=MATRIX_HEIGHT,
                    spoken_only=False,
                    code=cosine_code(view, shown, MATRIX_HEIGHT),
                )
            )
