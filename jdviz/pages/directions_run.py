"""A recorded step, or an uploaded Gramian, on the Directions page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from jdviz.compare import GRAMIAN_METHODS, RANDOM_DRAWS, compare, plane_of_directions
from jdviz.figures import directions_figure, leading_directions_caption
from jdviz.gradients import polar_from_rows, rows_from_gramian
from jdviz.pages.controls import check_address, escaped, quoted
from jdviz.pages.directions_compared import draw_comparison, fit_parameters
from jdviz.pages.directions_settings import (
    ANGLES,
    COUNT,
    LENGTHS,
    MAX_GRADIENTS,
    METHOD_CHOICE,
    PREFIX,
    SEED,
    VIEW,
    Polar,
    set_gradients,
)
from jdviz.pages.frame import Panel, plain_errors, prose, split, theme
from jdviz.pages.method_controls import draw_parameters, parameter_settings
from jdviz.pages.run_view import RunView, arrange, example_view, view_of
from jdviz.server import find_run

RUN_KEY, STEP_KEY = "d_run", "d_step"
UPLOADED = "directions:uploaded"
_KEPT = "directions:step"

#: Names of the address that say what gradients of one's own are.
_OWN = (COUNT.key, *(one.key for one in (*ANGLES, *LENGTHS)))

_OUT_HELP = (
    "Takes them as they lie in this plane, scaled so that the longest has length 2. What is "
    "outside the plane is left behind, so weights and angles may differ."
)

#: Random methods are drawn less often on more objectives than this: the time grows with m².
MANY, FEW_DRAWS = 64, 12


@dataclass(frozen=True, eq=False)
class GivenStep:
    """Gradients that are known by their inner products alone.

    Attributes:
        title: Where they come from, for a sentence; Markdown.
        notes: What else has to be known about them, a sentence each.
        names: Name of every objective, length m.
        gramian: Their inner products, shape [m, m].
    """

    title: str
    notes: tuple[str, ...]
    names: tuple[str, ...]
    gramian: NDArray[np.float64]


def given_step() -> GivenStep | None:
    """The recorded step of the address, or the uploaded Gramian; None for gradients of one's own.

    An address wins over an upload, and gradients that it names over both. What was opened stays
    open while the visitor looks at another page. What the address names and cannot be shown is
    said.

    Raises:
        StoreError: If the run store cannot be read.
    """
    if RUN_KEY in st.query_params:
        st.session_state.pop(UPLOADED, None)
        st.session_state[_KEPT] = st.query_params[RUN_KEY], st.query_params.get(STEP_KEY, "")
    elif any(key in st.query_params for key in _OWN):
        for key in (UPLOADED, _KEPT):
            st.session_state.pop(key, None)
    elif UPLOADED in st.session_state:
        st.session_state.pop(_KEPT, None)
        return _uploaded(*st.session_state[UPLOADED])
    if _KEPT not in st.session_state:
        return None
    run_id, step = st.session_state[_KEPT]
    found = _recorded(run_id, step)
    if isinstance(found, str):
        # One element whether there is something to say or not, like the check of the address.
        st.warning(f"The address was not followed: {found}")
        return None
    st.query_params[RUN_KEY] = run_id
    if step:
        st.query_params[STEP_KEY] = step
    return found


def draw_given_step(given: GivenStep) -> None:
    """Draw the page for gradients that are known by their inner products alone.

    Args:
        given: The gradients.
    """
    m = len(given.names)
    fit_parameters(m)
    check_address("directions", (METHOD_CHOICE, *parameter_settings(PREFIX, m)))
    rail, stage = split()
    with rail:
        st.info(f"{given.title}. {m} gradients, known by their inner products.")
        st.button("Back to gradients of your own", on_click=_leave, key="directions:back")
        methods = METHOD_CHOICE.draw()
        possible = [name for name in methods if name in GRAMIAN_METHODS]
        parameters = draw_parameters(PREFIX, possible, m)
    with stage, plain_errors():
        _draw(given, methods, possible, parameters)


def _recorded(run_id: str, text: str) -> GivenStep | str:
    """The step of a run that is kept and closest to the wanted one; why there is none."""
    view = _find(run_id)
    if view is None:
        return f"there is no run “{quoted(run_id)}” that you may see; using gradients of your own."
    if text and not text.isdecimal():
        return f"step “{quoted(text)}” is not a whole number; using gradients of your own."
    # The newest step where the address names none.
    wanted = min(int(text), np.iinfo(np.int64).max) if text else np.iinfo(np.int64).max
    record = view.store.nearest(view.run.run_id, int(wanted))
    shown = None if record is None else arrange(view, record)
    if record is None or shown is None:
        return f"of the run “{quoted(view.title)}” no Gramian is kept; using gradients of your own."
    notes = []
    if text and record.step != wanted:
        notes.append(f"The Gramian of step {quoted(text)} is not kept; this is the closest one.")
    if len(shown.names) < len(record.losses):
        notes.append(
            f"Of {len(record.losses)} objectives, the inner products of {len(shown.names)} are "
            "kept, evenly spaced; the methods are given these."
        )
    example = "Example: a recorded run of " if view.example else ""
    title = f"{example}**{escaped(view.title)}**, step {record.step:,}"
    return GivenStep(title, tuple(notes), shown.names, shown.gramian)


def _draw_way_out(rows: NDArray[np.float64]) -> None:
    """The way from a recorded step to gradients that can be dragged."""
    taken = polar_from_rows(rows, most=MAX_GRADIENTS)
    few = len(taken.places) < len(rows)
    label = f"Drag the {MAX_GRADIENTS} longest of these" if few else "Drag these gradients"
    st.button(
        label,
        key="directions:drag-these",
        help=_OUT_HELP,
        on_click=_take_along,
        args=(taken.polar,),
        disabled=len(taken.polar) < 2,
    )


def _take_along(polar: Polar) -> None:
    _leave()
    set_gradients(polar)
    st.session_state[VIEW.key] = VIEW.default


def _find(run_id: str) -> RunView | None:
    example = example_view()
    if run_id == example.run.run_id:
        return example
    run = find_run(run_id)
    return None if run is None else view_of(run)


def _uploaded(name: str, gramian: NDArray[np.float64]) -> GivenStep:
    names = tuple(f"objective {place}" for place in range(1, len(gramian) + 1))
    title = f"Your file **{quoted(name)}**"
    return GivenStep(title, (), names, gramian)


def _leave() -> None:
    for key in (UPLOADED, _KEPT):
        st.session_state.pop(key, None)
    for key in (RUN_KEY, STEP_KEY):
        if key in st.query_params:
            del st.query_params[key]


def _draw(
    given: GivenStep,
    methods: list[str],
    possible: list[str],
    parameters: Mapping[str, dict[str, Any]],
) -> None:
    m = len(given.names)
    draws = RANDOM_DRAWS if m <= MANY else FEW_DRAWS
    try:
        rows = rows_from_gramian(given.gramian)
    except ValueError as error:
        st.error(f"No gradients have these inner products: {escaped(str(error))}")
        return
    compared = compare(rows, possible, int(SEED.default), parameters, draws=draws)
    plane = plane_of_directions(rows, compared.outcomes)
    sentence = leading_directions_caption(plane.rows, plane.outside, plane.outside_directions)
    st.markdown(sentence)
    for note in given.notes:
        st.caption(note)
    inner = {outcome.method: outcome.inner for outcome in compared.outcomes}
    figure = directions_figure(
        plane.rows,
        plane.directions,
        theme(),
        names=given.names,
        inner=inner,
        remarks=compared.drawn,
    )
    title = "The plane of the two leading eigenvectors of G"
    panel = Panel("directions", title, figure, sentence, spoken_only=True)
    draw_comparison(panel, compared, given.names, possible)
    _draw_way_out(plane.rows)
    missing = [name for name in methods if name not in GRAMIAN_METHODS]
    if missing:
        st.info(
            f"Not shown: {', '.join(missing)}. What goes coordinate by coordinate cannot be had "
            "from inner products; set gradients of your own to see it."
        )
    prose(
        "A Gramian says how long the gradients are and how they lie to each other, and that is all "
        "that most aggregators use: weights, lengths and who gets hurt are those of the recorded "
        "step's gradients. The picture is a cut: the shaded region holds the directions **within "
        "the plane** that improve all objectives, and arrows are drawn without their part outside."
    )
