"""The rail of the Trajectories page: problem, methods, rates, starts, and how paths are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from jdviz.figures.theme import DISTINCT_METHODS
from jdviz.landscapes import LANDSCAPES, Landscape, Point
from jdviz.pages.controls import Choice, Number, Setting, Several
from jdviz.pages.lecture import locked
from jdviz.pages.method_controls import draw_parameters, parameter_settings
from jdviz.pages.trajectories_play import SPEED, forget_step
from jdviz.trajectories import MOST_STEPS, TWO_OBJECTIVE_METHODS

PREFIX = "p"
SAME, OWN = "same", "own"
TOGETHER, APART = "together", "apart"
ADD, MOVE = "add", "move"
MOST_STARTS = 5

PROBLEM = Choice("p_problem", "Problem", tuple(LANDSCAPES), next(iter(LANDSCAPES)))
METHOD_CHOICE = Several(
    "p_methods", "Aggregators", TWO_OBJECTIVE_METHODS, ("UPGrad", "MGDA", "PCGrad", "Mean")
)
RATES = Choice("p_rates", "Learning rate", (SAME, OWN), SAME)
VIEW = Choice("p_view", "Paths", (TOGETHER, APART), TOGETHER)
CLICK = Choice("p_click", "A click on the map", (ADD, MOVE), ADD)
#: The path whose gradients are shown in numbers.
LOOK = Choice("p_look", "Method", TWO_OBJECTIVE_METHODS, TWO_OBJECTIVE_METHODS[0])
FROM = Choice("p_from", "From start", tuple(str(n) for n in range(1, MOST_STARTS + 1)), "1")
SEED = Number("p_seed", "Seed of random methods", 0, 9999, 0, 1)
_RATE_TITLES = {SAME: "one for all methods", OWN: "one for each method"}
_VIEW_TITLES = {TOGETHER: "in one picture", APART: "a panel for each method"}
_CLICK_TITLES = {ADD: "adds a start", MOVE: "moves the nearest start"}


@dataclass(frozen=True)
class ProblemSettings:
    """The settings that each problem has of its own, so that each begins with telling values.

    Attributes:
        problem: The problem.
    """

    problem: Landscape

    @property
    def rate(self) -> Number:
        """The learning rate of all methods."""
        return self._rate("rate", "η", self.problem.rate)

    @property
    def steps(self) -> Number:
        """How many steps."""
        key = f"p_{self.problem.key}_steps"
        return Number(key, "Steps", 1, MOST_STEPS, self.problem.steps, 10)

    @property
    def count(self) -> Choice:
        """How many starts."""
        options = tuple(str(amount) for amount in range(1, MOST_STARTS + 1))
        return Choice(f"p_{self.problem.key}_n", "Starts", options, str(self.problem.count))

    def rate_of(self, method: str) -> Number:
        """The learning rate of one method where each has its own."""
        return self._rate(f"rate_{method}", f"η of {method}", self.problem.rate_of(method))

    def start(self, place: int) -> tuple[Number, Number]:
        """The coordinates of a start.

        Args:
            place: Its number from 1.
        """
        point = self.problem.starts[place - 1]
        first, second = (
            Number(
                f"p_{self.problem.key}_{letter}{place}",
                f"start {place}, x{digit}",
                *self.problem.frame[axis],
                point[axis],
                0.1,
                2,
            )
            for axis, (letter, digit) in enumerate((("x", "₁"), ("y", "₂")))
        )
        return first, second

    def all(self) -> tuple[Setting, ...]:
        """All of them, for the check of an address."""
        starts = (self.start(place) for place in range(1, MOST_STARTS + 1))
        rates = (self.rate_of(method) for method in TWO_OBJECTIVE_METHODS)
        return (
            self.rate,
            self.steps,
            self.count,
            *rates,
            *(one for pair in starts for one in pair),
        )

    def current_starts(self) -> list[Point]:
        """The starts before their controls are drawn."""
        amount = int(self.count.current())
        return [_current_point(self.start(place)) for place in range(1, amount + 1)]

    def place_start(self, point: Point) -> None:
        """Add a start, or move the one that is nearest on the picture.

        To be called before the controls are drawn.

        Args:
            point: Where.
        """
        starts = self.current_starts()
        if CLICK.current() == ADD and len(starts) < MOST_STARTS:
            place = len(starts) + 1
            st.session_state[self.count.key] = str(place)
        else:
            place = 1 + min(range(len(starts)), key=lambda at: self._away(starts[at], point))
        for number, value in zip(self.start(place), point, strict=True):
            if number.key in st.session_state:
                st.session_state[number.key] = round(value, 2)
            else:
                # Of a control that is not there yet, Streamlit takes the value from the address;
                # one of the session would never get into it.
                st.query_params[number.key] = f"{value:.2f}"

    def _away(self, start: Point, point: Point) -> float:
        sizes = [high - low for low, high in self.problem.frame]
        return sum(((a - b) / size) ** 2 for a, b, size in zip(start, point, sizes, strict=True))

    def _rate(self, name: str, label: str, value: float) -> Number:
        key = f"p_{self.problem.key}_{name}"
        return Number(key, label, 1e-4, 20.0, value, 10.0 ** _exponent(value), None)


@dataclass(frozen=True)
class Asked:
    """What the page is asked to show.

    Attributes:
        problem: The problem.
        rates: Method to its learning rate, in the registry's order.
        starts: The first points.
        steps: How many steps.
        seed: Of the random methods.
        parameters: Of some methods, by name, instead of their defaults.
        apart: Whether each method has a panel of its own.
    """

    problem: Landscape
    rates: Mapping[str, float]
    starts: tuple[Point, ...]
    steps: int
    seed: int
    parameters: Mapping[str, Mapping[str, Any]]
    apart: bool


def current_problem() -> ProblemSettings:
    """The settings of the problem chosen, before its control is drawn."""
    return ProblemSettings(LANDSCAPES[PROBLEM.current()])


def all_settings(own: ProblemSettings) -> tuple[Setting, ...]:
    """Every setting of the page, for the check of an address.

    Args:
        own: Of the problem chosen.
    """
    shared = (PROBLEM, METHOD_CHOICE, RATES, VIEW, CLICK, LOOK, FROM, SEED, SPEED)
    return (*shared, *own.all(), *parameter_settings(PREFIX, 2))


def draw_controls() -> Asked:
    """Draw the rail.

    Returns:
        What the page is asked to show; of more than eight methods, the first eight.
    """
    key = PROBLEM.draw(lambda key: LANDSCAPES[key].title, on_change=forget_step)
    own = ProblemSettings(LANDSCAPES[key])
    methods = METHOD_CHOICE.draw(help_text="At most eight are drawn.")
    if len(methods) > DISTINCT_METHODS:
        st.caption(f"Drawn are the first {DISTINCT_METHODS} of {len(methods)}.")
        methods = methods[:DISTINCT_METHODS]
    view = VIEW.draw(_VIEW_TITLES.__getitem__)
    rates = _draw_rates(own, methods)
    starts = _draw_starts(own)
    with st.expander("Steps and seed"):
        steps = int(own.steps.draw())
        seed = int(SEED.draw())
    parameters = draw_parameters(PREFIX, methods, 2)
    return Asked(own.problem, rates, starts, steps, seed, parameters, view == APART)


def _draw_rates(own: ProblemSettings, methods: list[str]) -> dict[str, float]:
    with st.expander("Learning rate η"):
        kind = RATES.draw(
            _RATE_TITLES.__getitem__,
            help_text="With one for each, the methods begin with rates that make their steps about "
            "as long as the mean's, from TorchJD's trajectories.",
        )
        if kind == SAME:
            rate = own.rate.draw(help_text="x ← x − η A(J).")
            return dict.fromkeys(methods, rate)
        return {method: own.rate_of(method).draw() for method in methods}


def _draw_starts(own: ProblemSettings) -> tuple[Point, ...]:
    with st.expander("Starts"):
        amount = int(own.count.draw())
        CLICK.draw(_CLICK_TITLES.__getitem__)
        starts = []
        for place in range(1, amount + 1):
            pair = []
            for number, column in zip(own.start(place), st.columns(2), strict=True):
                with column:
                    pair.append(float(number.draw()))
            starts.append((pair[0], pair[1]))
        st.button(
            "Back to the problem's own starts",
            key="trajectories:starts",
            on_click=partial(_reset_starts, own),
            type="tertiary",
            disabled=locked(own.count.key),
        )
    return tuple(starts)


def _reset_starts(own: ProblemSettings) -> None:
    st.session_state[own.count.key] = own.count.default
    for place in range(1, MOST_STARTS + 1):
        for number in own.start(place):
            if number.key in st.session_state:
                st.session_state[number.key] = number.default


def _current_point(pair: tuple[Number, Number]) -> Point:
    first, second = (float(st.session_state.get(one.key, one.default)) for one in pair)
    return first, second


def _exponent(value: float) -> int:
    """The power of ten of the last of a rate's digits that a press on the arrows changes."""
    return int(f"{value:e}".partition("e")[2]) - 1
