"""Directions: a few gradients in the plane, and where each aggregation method goes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from jdviz.compare import RANDOM_DRAWS, compare, rows_from_polar
from jdviz.figures import directions_caption, directions_figure
from jdviz.pages.controls import Choice, Number, check_address, forget_address
from jdviz.pages.directions_compared import (
    METHOD_CHOICE,
    PREFIX,
    SEED,
    draw_comparison,
    fit_parameters,
)
from jdviz.pages.directions_run import draw_given_step, given_step
from jdviz.pages.frame import Panel, open_page, plain_errors, theme
from jdviz.pages.method_controls import draw_parameters, parameter_settings

MAX_GRADIENTS = 5

# Each makes one point: (angle in degrees, length) of every gradient.
PRESETS: dict[str, tuple[tuple[float, float], ...]] = {
    "Two in conflict, one longer": ((15.0, 2.0), (140.0, 1.0)),
    "Three that pull apart": ((20.0, 2.5), (110.0, 1.0), (165.0, 1.0)),
    "One is 100 times longer": ((20.0, 4.0), (150.0, 0.04)),
    "Exactly opposed": ((0.0, 1.0), (180.0, 2.0)),
    "One is zero": ((30.0, 1.0), (120.0, 0.0), (160.0, 1.0)),
    "Five in the plane": ((0.0, 1.0), (40.0, 1.4), (80.0, 0.8), (115.0, 1.2), (150.0, 1.0)),
}
FIRST = PRESETS["Three that pull apart"]
SPREAD = (*FIRST, (60.0, 1.0), (130.0, 1.0))

COUNT = Choice(
    "d_m", "Gradients", tuple(str(m) for m in range(2, MAX_GRADIENTS + 1)), str(len(FIRST))
)
ANGLES = tuple(
    Number(f"d_a{index + 1}", f"g{index + 1} angle, °", -360.0, 360.0, angle, 5.0, 1)
    for index, (angle, _) in enumerate(SPREAD)
)
LENGTHS = tuple(
    Number(f"d_l{index + 1}", f"g{index + 1} length", 0.0, 100.0, length, 0.1, 2)
    for index, (_, length) in enumerate(SPREAD)
)


def _apply_preset() -> None:
    name = st.session_state["directions:preset"]
    if name is None:
        return
    gradients = PRESETS[name]
    st.session_state[COUNT.key] = str(len(gradients))
    for (angle, length), angle_box, length_box in zip(gradients, ANGLES, LENGTHS, strict=False):
        st.session_state[angle_box.key] = angle
        st.session_state[length_box.key] = length
    forget_address("directions")


def _rail() -> tuple[NDArray[np.float64], list[str], Mapping[str, dict[str, Any]]]:
    """Draw the controls; the gradients, the methods to compare and what is set of them."""
    st.selectbox(
        "Begin with",
        list(PRESETS),
        index=None,
        placeholder="an example",
        key="directions:preset",
        on_change=_apply_preset,
    )
    count = int(COUNT.draw())
    methods = METHOD_CHOICE.draw()
    angles, lengths = [], []
    for angle_box, length_box in zip(ANGLES[:count], LENGTHS[:count], strict=True):
        left, right = st.columns(2)
        with left:
            angles.append(angle_box.draw())
        with right:
            lengths.append(length_box.draw())
    parameters = draw_parameters(PREFIX, methods, count)
    return rows_from_polar(angles, lengths), methods, parameters


def _draw(
    jacobian: NDArray[np.float64], methods: list[str], parameters: Mapping[str, dict[str, Any]]
) -> None:
    names = tuple(f"g{index + 1}" for index in range(len(jacobian)))
    compared = compare(jacobian, methods, SEED, parameters)
    directions = {
        outcome.method: outcome.draws if len(outcome.draws) > 1 else outcome.direction
        for outcome in compared.outcomes
    }
    sentence = directions_caption(jacobian, directions, names=names)
    st.markdown(sentence)
    plane = Panel(
        "directions",
        "Gradients, dual cone and directions",
        directions_figure(jacobian, directions, theme(), names=names),
        sentence,
        spoken_only=True,
    )
    draw_comparison(plane, compared, names, methods, RANDOM_DRAWS)


def _draw_own() -> None:
    """Draw the page for gradients set by hand."""
    count = int(COUNT.current())
    fit_parameters(count)
    parameters = parameter_settings(PREFIX, count)
    check_address("directions", (COUNT, METHOD_CHOICE, *ANGLES, *LENGTHS, *parameters))
    rail, stage = st.columns([1, 3.4], gap="medium")
    with rail:
        controls = _rail()
    with stage, plain_errors():
        _draw(*controls)
    st.markdown(
        "The shaded region is the **dual cone**: every direction in it improves all objectives. "
        "A method whose arrow leaves it hurts someone. Most arrows are a sum of the gradients with "
        "weights, A(J) = Jᵀw; a dash in the table says that there are no weights.\n\n"
        "**Try this.** Begin with *One is 100 times longer* and compare Mean with UPGrad: Mean "
        "follows the long gradient and hurts the short one. Begin with *Exactly opposed*: the cone "
        "is a line."
    )


open_page("directions")
with plain_errors():
    given = given_step()
    if given is None:
        _draw_own()
    else:
        draw_given_step(given)
