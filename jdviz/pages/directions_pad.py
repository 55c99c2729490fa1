"""The figure of the Directions page that answers while its gradients are dragged."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from jdviz.compare import Comparison
from jdviz.components.live_plot import Handles, Move
from jdviz.construction import Construction, upgrad_construction
from jdviz.figures import (
    construction_caption,
    construction_figure,
    directions_caption,
    directions_figure,
    directions_frame,
    improvement_bars,
    improvement_caption,
    space_caption,
    space_figure,
)
from jdviz.pages.controls import forget_address
from jdviz.pages.directions_code import construction_code, directions_code, hurt_code
from jdviz.pages.directions_presets import forget_preset
from jdviz.pages.directions_settings import (
    ANGLES,
    BUILD,
    BUILD_TITLES,
    BUILD_VIEW,
    LENGTHS,
    SPACE_VIEW,
    Asked,
    Gradients,
    Polar,
    set_gradients,
)
from jdviz.pages.frame import Panel, draw_panels, draw_with_handles, plain_errors, theme
from jdviz.pages.lecture import locked

#: What a drag has made of the gradients, until it ends; the axes it began with; its last message.
_DRAG, _FRAME, _SEQ = "directions:drag", "directions:frame", "directions:seq"
_SETTLED = "directions:settled"

#: Height of the figure in pixels: the room that is left of the first screen of a laptop.
HEIGHT = 520

#: The frame is divided into this many steps of a gradient's length.
STEPS = 60


def end_drag() -> None:
    """Put what a drag came to into the settings; called before the whole page is drawn.

    Not done where the drag ends: Streamlit tells a browser of values that are set in the run that
    draws their controls, and of no others.
    """
    st.session_state.pop(_DRAG, None)
    settled: Polar | None = st.session_state.pop(_SETTLED, None)
    if settled is not None:
        set_gradients(settled)


@st.fragment(key="directions-pad")
def draw_pad(asked: Asked) -> None:
    """Draw the figure, its sentence, and who gets hurt; again and again during a drag.

    Args:
        asked: What to show.
    """
    dragged: Polar | None = st.session_state.get(_DRAG)
    if dragged is not None and len(dragged) == len(asked.gradients.polar):
        asked = replace(asked, gradients=Gradients(dragged, asked.gradients.rises))
    moving = dragged is not None
    with plain_errors():
        if asked.view == SPACE_VIEW:
            _draw_space(asked)
        elif asked.view == BUILD_VIEW:
            _draw_construction(asked, moving=moving)
        else:
            _draw_plane(asked, moving=moving)


def _draw_plane(asked: Asked, *, moving: bool) -> None:
    J, names, compared = asked.gradients.jacobian, asked.gradients.names, asked.compared
    directions = compared.directions
    frame = _frame(directions_frame(J, directions), moving)
    sentence = directions_caption(J, directions, names=names)
    st.markdown(sentence)
    plane = Panel(
        "directions",
        "Gradients, dual cone and directions",
        directions_figure(
            J,
            directions,
            theme(),
            names=names,
            remarks=compared.drawn,
            frame=frame,
            height=HEIGHT,
        ),
        sentence,
        spoken_only=True,
        code=directions_code(asked, frame, HEIGHT),
    )
    left, right = st.columns([1.6, 1], gap="medium")
    with left:
        _draw_movable(plane, asked, frame)
    with right:
        _draw_hurt(asked, compared)


def _draw_construction(asked: Asked, *, moving: bool) -> None:
    J = asked.gradients.jacobian
    built = upgrad_construction(J, asked.regularisation)
    step = list(BUILD_TITLES).index(asked.build)
    frame = _frame(directions_frame(J, {"UPGrad": built.direction}), moving)
    sentence = construction_caption(J, step, regularisation=asked.regularisation)
    st.markdown(sentence)
    plane = Panel(
        "directions",
        "How UPGrad finds its direction",
        construction_figure(
            J, step, theme(), frame=frame, regularisation=asked.regularisation, height=HEIGHT
        ),
        sentence,
        spoken_only=True,
        code=construction_code(asked, frame, HEIGHT),
    )
    left, right = st.columns([1.6, 1], gap="medium")
    with left:
        _draw_movable(plane, asked, frame)
    with right:
        _draw_steps(step)
        _draw_built_hurt(asked, built)


def _draw_steps(step: int) -> None:
    """The steps as a list, and the way through them."""
    titles = [f"{index + 1}\\. {title}" for index, title in enumerate(BUILD_TITLES.values())]
    titles[step] = f"**{titles[step]}**"
    st.markdown("  \n".join(titles))
    back, on = st.columns(2)
    places = list(BUILD_TITLES)
    back.button(
        "Step back",
        key="directions:back-step",
        disabled=step == 0 or locked(BUILD.key),
        on_click=_go_to,
        args=(places[max(step - 1, 0)],),
        width="stretch",
    )
    on.button(
        "Next step",
        key="directions:next-step",
        disabled=step == len(places) - 1 or locked(BUILD.key),
        on_click=_go_to,
        args=(places[min(step + 1, len(places) - 1)],),
        width="stretch",
    )


def _go_to(place: str) -> None:
    st.session_state[BUILD.key] = place
    st.rerun()


def _draw_space(asked: Asked) -> None:
    J, names, compared = asked.gradients.jacobian, asked.gradients.names, asked.compared
    directions = compared.directions
    sentence = space_caption(J, directions, names=names)
    st.markdown(sentence)
    space = Panel(
        "space",
        "Gradients, dual cone and directions in space",
        space_figure(J, directions, theme(), names=names, remarks=compared.drawn, height=HEIGHT),
        sentence,
        spoken_only=True,
        code=directions_code(asked, None, HEIGHT),
    )
    left, right = st.columns([1.6, 1], gap="medium")
    with left:
        draw_panels(space)
    with right:
        _draw_hurt(asked, compared)


def _draw_hurt(asked: Asked, compared: Comparison) -> None:
    inner = {outcome.method: outcome.inner for outcome in compared.outcomes}
    if inner:
        _draw_bars(inner, asked, hurt_code(asked))


def _draw_built_hurt(asked: Asked, built: Construction) -> None:
    _draw_bars({"UPGrad": built.inner}, asked, hurt_code(asked))


def _draw_bars(inner: Mapping[str, NDArray[np.float64]], asked: Asked, code: str) -> None:
    names = asked.gradients.names
    bars = improvement_bars(inner, names, theme())
    sentence = improvement_caption(inner, names)
    draw_panels(Panel("hurt", "Who gets hurt: gᵢ·A(J)", bars, sentence, code=code))


def _frame(fitting: float, moving: bool) -> float:
    """Half the width of the picture; nothing jumps while a gradient is dragged."""
    if not moving or _FRAME not in st.session_state:
        st.session_state[_FRAME] = fitting
    return float(st.session_state[_FRAME])


def _draw_movable(plane: Panel, asked: Asked, frame: float) -> None:
    m = len(asked.gradients.polar)
    if any(locked(setting.key) for setting in (*ANGLES[:m], *LENGTHS[:m])):
        draw_panels(plane)
    else:
        draw_with_handles(plane, _handles(asked, frame), _moved)


def _handles(asked: Asked, frame: float) -> Handles:
    # What the number boxes show has two decimals.
    unit = max(0.01, round(frame / STEPS, 2))
    seq = int(st.session_state.get(_SEQ, 0))
    return Handles(asked.gradients.polar, asked.gradients.names, unit, seq)


def _moved(move: Move) -> None:
    """A gradient was dragged or moved by a key."""
    st.session_state[_SEQ] = move.seq
    longest = LENGTHS[0].high
    polar = tuple(
        (round((angle + 180.0) % 360.0 - 180.0, 1), round(min(length, longest), 2))
        for angle, length in move.polar
    )
    if not move.done:
        st.session_state[_DRAG] = polar
        return
    st.session_state[_SETTLED] = polar
    forget_preset()
    forget_address("directions")
    st.rerun()
