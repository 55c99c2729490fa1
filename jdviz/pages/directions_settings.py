"""What the Directions page shows, as settings that live in the address."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from engines.aggregation import METHODS
from jdviz.compare import Comparison, compare
from jdviz.figures import CONSTRUCTION_STEPS
from jdviz.figures.arrows import subscript
from jdviz.gradients import rows_from_polar, rows_from_spherical
from jdviz.pages.controls import Choice, Number, Setting, Several

MAX_GRADIENTS = 8
PREFIX = "d"

METHODS_VIEW, BUILD_VIEW, SPACE_VIEW = "methods", "upgrad", "space"
VIEW_TITLES = {
    METHODS_VIEW: "Every method in the plane",
    BUILD_VIEW: "UPGrad, step by step",
    SPACE_VIEW: "Every method in space",
}
BUILD_TITLES = dict(
    zip(("gradients", "cone", "projections", "mean"), CONSTRUCTION_STEPS, strict=True)
)

#: Angle in degrees and length of each gradient to begin with; what is beyond the third is there
#: for whoever asks for more.
SPREAD = (
    (20.0, 2.5),
    (110.0, 1.0),
    (165.0, 1.0),
    (60.0, 1.0),
    (130.0, 1.0),
    (80.0, 1.5),
    (40.0, 0.8),
    (150.0, 1.2),
)
#: Angle above the plane of the first two parameters, in degrees.
RISE = (10.0, -30.0, 35.0, 60.0, -15.0, 20.0, -45.0, 5.0)

VIEW = Choice("d_view", "View", tuple(VIEW_TITLES), METHODS_VIEW)
BUILD = Choice("d_build", "Step", tuple(BUILD_TITLES), "mean")
COUNT = Choice("d_m", "Gradients", tuple(str(m) for m in range(2, MAX_GRADIENTS + 1)), "3")
ANGLES = tuple(
    Number(f"d_a{index + 1}", f"g{subscript(index + 1)} angle, °", -360.0, 360.0, angle, 5.0, 1)
    for index, (angle, _) in enumerate(SPREAD)
)
RISES = tuple(
    Number(f"d_e{index + 1}", f"g{subscript(index + 1)} rise, °", -90.0, 90.0, rise, 5.0, 1)
    for index, rise in enumerate(RISE)
)
LENGTHS = tuple(
    Number(f"d_l{index + 1}", f"g{subscript(index + 1)} length", 0.0, 1000.0, length, 0.1, 2)
    for index, (_, length) in enumerate(SPREAD)
)
SEED = Number("d_seed", "Seed of random methods", 0, 9999, 0, 1)
REGULARISATION = Number("d_reg", "Regularisation ε", 0.0, 1.0, 0.0, 1e-4, None)
METHOD_CHOICE = Several(
    "d_methods", "Aggregators", tuple(METHODS), ("UPGrad", "MGDA", "PCGrad", "Mean")
)
SETTINGS: tuple[Setting, ...] = (
    VIEW,
    BUILD,
    COUNT,
    METHOD_CHOICE,
    *ANGLES,
    *RISES,
    *LENGTHS,
    SEED,
    REGULARISATION,
)

Polar = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Gradients:
    """The gradients of the page, as a visitor sets them.

    Attributes:
        polar: Angle in degrees and length of each.
        rises: Angle of each above the plane in degrees; None in the plane.
    """

    polar: Polar
    rises: tuple[float, ...] | None

    @property
    def names(self) -> tuple[str, ...]:
        """What each is called."""
        return tuple(f"g{subscript(index + 1)}" for index in range(len(self.polar)))

    @property
    def jacobian(self) -> NDArray[np.float64]:
        """The gradients as rows, shape [m, 2] or [m, 3]."""
        angles, lengths = zip(*self.polar, strict=True)
        if self.rises is None:
            return rows_from_polar(angles, lengths)

        return rows_from_spherical(angles, self.rises, lengths)


@dataclass(frozen=True)
class Asked:
    """What the page is asked to show of its gradients.

    Attributes:
        gradients: The gradients.
        view: One of `VIEW_TITLES`.
        build: One of `BUILD_TITLES`.
        regularisation: ε of the construction.
        methods: Keys of `engines.aggregation.METHODS`.
        parameters: For some methods, parameters by name instead of their defaults.
        seed: Of the random methods.
    """

    gradients: Gradients
    view: str
    build: str
    regularisation: float
    methods: Sequence[str]
    parameters: Mapping[str, Mapping[str, Any]]
    seed: int

    @cached_property
    def compared(self) -> Comparison:
        """What the methods make of the gradients."""
        return compare(self.gradients.jacobian, self.methods, self.seed, self.parameters)


def set_gradients(polar: Polar) -> None:
    """Put gradients into the settings; to be called before their controls are drawn.

    Args:
        polar: Angle in degrees and length of each, two to eight.
    """
    st.session_state[COUNT.key] = str(len(polar))
    for (angle, length), angle_box, length_box in zip(polar, ANGLES, LENGTHS, strict=False):
        st.session_state[angle_box.key] = angle
        st.session_state[length_box.key] = length
