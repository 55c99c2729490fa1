"""Directions: a few gradients, and where each aggregation method goes."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from jdviz.pages.controls import check_address
from jdviz.pages.directions_compared import draw_rest, fit_parameters
from jdviz.pages.directions_pad import draw_pad, end_drag
from jdviz.pages.directions_presets import draw_presets
from jdviz.pages.directions_run import draw_given_step, given_step
from jdviz.pages.directions_settings import (
    ANGLES,
    BUILD,
    BUILD_TITLES,
    BUILD_VIEW,
    COUNT,
    LENGTHS,
    METHOD_CHOICE,
    PREFIX,
    REGULARISATION,
    RISES,
    SEED,
    SETTINGS,
    SPACE_VIEW,
    VIEW,
    VIEW_TITLES,
    Asked,
    Gradients,
)
from jdviz.pages.frame import open_page, plain_errors, prose, split
from jdviz.pages.method_controls import draw_parameters, parameter_settings


def _rail() -> Asked:
    """Draw the controls; what the page is to show."""
    draw_presets()
    view = VIEW.draw(VIEW_TITLES.__getitem__)
    build, regularisation = BUILD.current(), 0.0
    methods: list[str] = []
    parameters: Mapping[str, dict[str, Any]] = {}
    count = int(COUNT.draw())
    if view == BUILD_VIEW:
        build = BUILD.draw(BUILD_TITLES.__getitem__)
        regularisation = REGULARISATION.draw(
            help_text="Added to the diagonal of the Gramian, divided by its trace, before the "
            "projections are found; 0 is exact."
        )
    else:
        methods = METHOD_CHOICE.draw()
        parameters = draw_parameters(PREFIX, methods, count)
    with st.expander("Gradients as numbers"):
        polar, rises = _draw_numbers(count, in_space=view == SPACE_VIEW)
    seed = int(SEED.draw()) if view != BUILD_VIEW else int(SEED.default)
    gradients = Gradients(tuple(polar), tuple(rises) if view == SPACE_VIEW else None)
    return Asked(gradients, view, build, regularisation, methods, parameters, seed)


def _draw_numbers(count: int, *, in_space: bool) -> tuple[list[tuple[float, float]], list[float]]:
    """Draw the twin of the figure's handles; angle and length of each, and its rise in space."""
    polar, rises = [], []
    for angle, rise, length in zip(ANGLES[:count], RISES[:count], LENGTHS[:count], strict=True):
        left, right = st.columns(2)
        with left:
            turned = angle.draw()
        with right:
            long = length.draw()
        polar.append((float(turned), float(long)))
        if in_space:
            rises.append(float(rise.draw()))
    return polar, rises


def _draw_own() -> None:
    """Draw the page for gradients set by hand."""
    end_drag()
    count = int(COUNT.current())
    fit_parameters(count)
    check_address("directions", (*SETTINGS, *parameter_settings(PREFIX, count)))
    rail, stage = split()
    with rail:
        asked = _rail()
    with stage:
        draw_pad(asked)
        with plain_errors():
            draw_rest(asked)
    prose(
        "The shaded region is the **dual cone**: every direction in it improves all objectives. "
        "A method whose arrow leaves it hurts someone. Most arrows are a sum of the gradients with "
        "weights, A(J) = Jᵀw; a dash in the table says that there are no weights.\n\n"
        "**Try this.** Drag g₃ until it points away from g₁, and watch the cone close to a line "
        "and then to nothing. Begin with *One is 100 times longer* and compare Mean with UPGrad. "
        "A gradient that has the focus moves by the arrow keys too: left and right turn it by "
        "1°, up and down change its length, with Shift ten times as far."
    )


open_page("directions")
with plain_errors():
    given = given_step()
    if given is None:
        _draw_own()
    else:
        draw_given_step(given)
