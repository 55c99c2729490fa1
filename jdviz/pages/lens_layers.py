"""What the Lens page shows below the matrix: layers, spectrum, plane, history and angles."""

from collections.abc import Callable

import streamlit as st

from jdviz.figures import (
    angle_caption,
    angle_histogram,
    conflict_caption,
    conflict_history,
    layer_conflict,
    layer_conflict_caption,
    leading_plane_caption,
    leading_plane_figure,
    spectrum_bars,
    spectrum_caption,
)
from jdviz.figures.marks import mark_step
from jdviz.pages.frame import Panel, draw_panels, theme
from jdviz.pages.lens_code import StepCode, history_code
from jdviz.pages.lens_controls import go_to
from jdviz.pages.run_view import RunView, arrange
from jdviz.runs.layout import LensStep, lay_out
from jdviz.training import StepRecord

#: Writes the code of a figure of a step, from its function and arguments.
FigureCode = Callable[[str, str], str]

_NO_SPLIT = (
    "No step of this run was split over its layers, so it does not show which of them carry the "
    "conflict. A run of the app is split as it goes; in a script of your own, `rec.watch(engine)` "
    "and `rec.watch_gradients(losses, model)` split every tenth step."
)


def draw_below(
    view: RunView, record: StepRecord, step: LensStep, code: FigureCode, *, live: bool
) -> None:
    """Draw the figures below the matrix of a recorded step.

    Args:
        view: The run.
        record: The step as it was recorded.
        step: The same, laid out.
        code: Writes the code of its figures.
        live: Whether the page follows the newest step.
    """
    spectrum, plane, angles = shape_panels(step, code)
    layers = _layers_panel(view, record, step, code, live=live)
    draw_panels(*(panel for panel in (layers, spectrum) if panel is not None))
    series = view.store.series(view.run.run_id)
    given = (series.steps, series.conflict_rate, series.least_cosine)
    history = Panel(
        "lens-history",
        "Conflict over the run",
        mark_step(conflict_history(*given, theme()), record.step, theme()),
        conflict_caption(*given),
        code=history_code(view, record.step),
    )
    draw_panels(plane, history)
    draw_panels(angles)


def shape_panels(step: LensStep, code: FigureCode) -> tuple[Panel, Panel, Panel]:
    """Spectrum, leading plane and angles of a Gramian.

    Args:
        step: The objectives with their inner products.
        code: Writes the code of the figures.
    """
    gramian, names = step.gramian, step.names
    return (
        Panel(
            "lens-spectrum",
            "Eigenvalues of the Gramian",
            spectrum_bars(gramian, theme()),
            spectrum_caption(gramian),
            code=code("spectrum_bars", 'step.gramian, "light"'),
        ),
        Panel(
            "lens-plane",
            "The plane of the two leading eigenvectors",
            leading_plane_figure(gramian, names, theme()),
            leading_plane_caption(gramian, names),
            code=code("leading_plane_figure", 'step.gramian, step.names, "light"'),
        ),
        Panel(
            "lens-angles",
            "Angles between the gradients",
            angle_histogram(gramian, theme()),
            angle_caption(gramian),
            code=code("angle_histogram", 'step.gramian, "light"'),
        ),
    )


def _layers_panel(
    view: RunView, record: StepRecord, step: LensStep, code: FigureCode, *, live: bool
) -> Panel | None:
    """Which layers carry the conflict, at this step or at the nearest that was split."""
    split, shown = record, step
    if step.shares is None:
        near = view.store.nearest(view.run.run_id, record.step, what="shares")
        arranged = None if near is None else arrange(view, near)
        if near is None or arranged is None:
            st.info(_NO_SPLIT)
            return None
        split, shown = near, lay_out(arranged, "recorded")
        code = StepCode(view, near.step, "recorded")
        _say_other_step(record, split, live=live)
    if shown.shares is None:
        return None
    title = "Conflict by layer"
    return Panel(
        "lens-layers",
        title if split is record else f"{title}, step {split.step:,}",
        layer_conflict(shown.shares, theme()),
        layer_conflict_caption(shown.shares),
        code=code("layer_conflict", 'step.shares, "light"'),
    )


def _say_other_step(record: StepRecord, split: StepRecord, *, live: bool) -> None:
    words, way = st.columns([3.4, 1], vertical_alignment="center")
    words.caption(
        f"Step {record.step:,} was not split over the layers; the layers shown are those of step "
        f"{split.step:,}, the nearest that was."
    )
    if not live:
        way.button(
            f"Go to step {split.step:,}",
            key="lens:split",
            on_click=go_to,
            args=(split.step,),
            width="stretch",
        )
