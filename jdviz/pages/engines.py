"""Engines: what a training step costs by each method, measured and predicted."""

from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from jdviz.pages import engines_fits, engines_growth, engines_step
from jdviz.pages.controls import check_address, escaped, forget_address
from jdviz.pages.engines_controls import (
    VIEW,
    VIEW_KEY,
    VIEWS,
    Asked,
    Shown,
    draw_controls,
    settings,
    shown,
    suggest,
)
from jdviz.pages.frame import open_page, plain_errors, prose, split
from jdviz.pages.lecture import hidden, locked
from jdviz.problems import own_paths
from jdviz.server import lab

SAID, KEPT_VIEW = "engines:said", "engines:view"


class View(NamedTuple):
    """One way to look at an engine's cost.

    Attributes:
        button: What the button that measures says; "" where there is nothing to measure.
        note: How long that takes.
        measure: Measures, and says what failed.
        draw: Draws what is known.
    """

    button: str
    note: str
    measure: Callable[[Asked, Callable[[str], None]], list[str]]
    draw: Callable[[Asked], None]


def _nothing(asked: Asked, watch: Callable[[str], None]) -> list[str]:
    return []


_VIEWS = dict(
    zip(
        VIEWS,
        (
            View(
                "Measure",
                "About half a minute; one measurement at a time on this server.",
                engines_step.measure,
                engines_step.draw,
            ),
            View(
                "Measure the growth",
                "About 5 seconds for each method and size.",
                engines_growth.measure,
                engines_growth.draw,
            ),
            View(
                "Measure some places",
                "About two minutes.",
                engines_growth.measure_map,
                engines_growth.draw_map,
            ),
            View(
                "Verify",
                "Some minutes: about ten processes for each method.",
                engines_fits.measure,
                engines_fits.draw,
            ),
            View("", "", _nothing, engines_fits.draw_plan),
        ),
        strict=True,
    )
)


def _measure(view: View, asked: Asked) -> None:
    """Measures while the former figures stay; what fails says so, the rest goes on."""
    with st.status("Measuring", expanded=True, type="compact") as status:
        line = st.empty()

        def watch(sentence: str) -> None:
            # Writing to the page also ends the measurement of a visitor who has left.
            status.update(label=escaped(sentence))
            line.caption(escaped(sentence))

        st.session_state[SAID] = view.measure(asked, watch)
    # The page is drawn again as a whole, so that nothing of the former one stays in between.
    st.rerun()


def _draw(subject: Shown) -> None:
    check_address("engines", settings(subject))
    suggest(subject)
    if VIEW_KEY not in st.session_state and KEPT_VIEW in st.session_state:
        # Tabs forget on another page which of them was open.
        st.session_state[VIEW_KEY] = st.session_state[KEPT_VIEW]
    VIEW.begin()
    name = VIEW.taken(st.session_state[VIEW_KEY])
    st.session_state[KEPT_VIEW] = name
    view = _VIEWS[name]
    rail, stage = split()
    pressed = False
    with rail:
        asked = draw_controls(subject, name)
        if view.button and not subject.failure:
            pressed = st.button(view.button, type="primary", width="stretch", key="measure")
            st.caption(view.note)
    with stage:
        work = st.container()
        fixed = hidden(VIEW_KEY) or locked(VIEW_KEY)
        tabs = [] if fixed else st.tabs(list(VIEWS), key=VIEW_KEY, on_change="rerun")
        if subject.failure:
            st.error(escaped(subject.failure))
            if st.button("Load it again", key="engines:load-again"):
                lab().forget(subject.key)
                st.rerun()
            return
        for sentence in st.session_state.pop(SAID, []):
            st.error(escaped(sentence))
        if fixed:
            with plain_errors():
                view.draw(asked)
        for tab, label in zip(tabs, VIEWS, strict=not fixed):
            if tab.open:
                with tab, plain_errors():
                    _VIEWS[label].draw(asked)
        if pressed:
            forget_address("engines")
            with work, plain_errors():
                _measure(view, asked)


open_page("engines")
with plain_errors():
    _draw(shown())
engines_fits.draw_own(own_paths())
prose(
    "**Why autogram needs less.** autojac keeps the whole Jacobian, m × n numbers. autogram adds "
    "each layer's share to the m × m Gramian and drops it. With few objectives the Jacobian is "
    "only a few rows, and little or nothing is gained.\n\n"
    "**Try this.** Choose the large model, measure again, and compare how the peaks grew. "
    "Then choose the regression, four tasks on a small model, and see which engine needs more."
)
