"""Examples for the Directions page; each makes one point."""

from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from jdviz.pages.controls import forget_address
from jdviz.pages.directions_settings import (
    BUILD,
    BUILD_VIEW,
    METHOD_CHOICE,
    REGULARISATION,
    RISES,
    SEED,
    SPACE_VIEW,
    SPREAD,
    VIEW,
    Polar,
    set_gradients,
)
from jdviz.pages.lecture import ALL, locked

_KEY = "directions:preset"
_TOLD = "directions:told"


@dataclass(frozen=True)
class Preset:
    """Settings of the page that show one thing.

    Attributes:
        point: What one sees, in a sentence or two.
        polar: Angle in degrees and length of every gradient.
        rises: Angle above the plane of each, for the view in space.
        other: Further settings that differ from their defaults, by key.
    """

    point: str
    polar: Polar
    rises: tuple[float, ...] = ()
    other: dict[str, Any] = field(default_factory=dict)


PRESETS: dict[str, Preset] = {
    "Three that pull apart": Preset(
        "The mean follows the longest gradient and makes two objectives worse. UPGrad stays in "
        "the shaded cone, where nobody loses.",
        SPREAD[:3],
    ),
    "Two opposed, one longer": Preset(
        "Less than a right angle is agreement, more is conflict. Drag g₂ across that border and "
        "watch MGDA and UPGrad part.",
        ((15.0, 2.0), (140.0, 1.0)),
    ),
    "Exactly antiparallel": Preset(
        "The cone is a line across both: no step improves one objective without harm to the "
        "other. UPGrad and MGDA stand still, the mean sacrifices g₁.",
        ((0.0, 1.0), (180.0, 2.0)),
    ),
    "One is 100 times longer": Preset(
        "To the mean the short gradient does not exist. MGDA sees little else: its step is as "
        "short as the shortest gradient.",
        ((20.0, 4.0), (150.0, 0.04)),
    ),
    "One is zero": Preset(
        "An objective at its optimum asks for nothing: its gradient is a dot and takes no part in "
        "the cone. MGDA gives it all the weight and stops.",
        ((30.0, 1.0), (120.0, 0.0), (160.0, 1.0)),
    ),
    "More gradients than dimensions": Preset(
        "Five gradients in two dimensions still share a cone. Drag g₅ to the other side and it "
        "closes: then every direction hurts someone.",
        ((0.0, 1.0), (40.0, 1.4), (80.0, 0.8), (115.0, 1.2), (150.0, 1.0)),
    ),
    "PCGrad depends on the order": Preset(
        "PCGrad projects the gradients off each other in random order, so one Jacobian has several "
        "answers: the fan holds those of every order. UPGrad has one.",
        ((0.0, 1.5), (115.0, 1.5), (205.0, 1.0)),
        other={METHOD_CHOICE.key: ["PCGrad", "UPGrad"]},
    ),
    "The regularisation trap": Preset(
        "Solvers are often helped by adding ε to the diagonal of the Gramian. With lengths this "
        "different, ε = 0.0001 outweighs the short gradient, and the projection that should "
        "protect it hurts it. Set ε to 0 to see the exact answer.",
        ((20.0, 4.0), (150.0, 0.04)),
        other={VIEW.key: BUILD_VIEW, BUILD.key: "mean", REGULARISATION.key: 1e-4},
    ),
    "Three in space": Preset(
        "With three parameters the cone has faces and edges. Turn the picture by dragging it.",
        SPREAD[:3],
        rises=(10.0, -30.0, 35.0),
        other={VIEW.key: SPACE_VIEW},
    ),
}


def draw_presets() -> None:
    """Draw the choice of an example, and its point once it is chosen."""
    st.selectbox(
        "Begin with",
        list(PRESETS),
        index=None,
        placeholder="an example",
        key=_KEY,
        on_change=_apply,
        disabled=locked(ALL),
    )
    told = st.session_state.get(_TOLD)
    if told is not None:
        st.caption(PRESETS[told].point)


def forget_preset() -> None:
    """The gradients are no longer those of the example."""
    st.session_state.pop(_TOLD, None)
    st.session_state[_KEY] = None


def _apply() -> None:
    name = st.session_state[_KEY]
    st.session_state[_TOLD] = name
    if name is None:
        return
    preset = PRESETS[name]
    set_gradients(preset.polar)
    for rise, box in zip(preset.rises, RISES, strict=False):
        st.session_state[box.key] = rise
    for setting in (VIEW, BUILD, REGULARISATION, SEED):
        st.session_state[setting.key] = setting.default
    st.session_state[METHOD_CHOICE.key] = list(METHOD_CHOICE.default)
    st.session_state.update(preset.other)
    forget_address("directions")
