"""The figures of the tour's lessons: what is seen before the answer, and the answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from jdviz import lessons
from jdviz.figures import (
    directions_caption,
    directions_figure,
    gramian_caption,
    gramian_heatmap,
    improvement_bars,
    improvement_caption,
    memory_caption,
    memory_timelines,
    mirrored_caption,
    mirrored_timelines,
)
from jdviz.figures.arrows import subscript
from jdviz.gradients import rows_from_polar
from jdviz.pages import tour_code
from jdviz.pages.controls import Choice, Number
from jdviz.pages.frame import Panel, draw_panels, theme
from jdviz.pages.run_view import arrange, example_view
from jdviz.pages.train_view import cosine_panel
from jdviz.profiling.example import example_comparison

Array = NDArray[np.float64]
HEIGHT = 360

ANGLE = Number("u_angle", "Angle between g₁ and g₂, °", 0.0, 180.0, 125.0, 5.0)
LENGTH = Number("u_length", "Length of g₁", 0.1, 5.0, lessons.LONGER, 0.1, 2)
TURN = Number("u_turn", "Turned by, °", -360.0, 360.0, lessons.TURN_DEG, 15.0)
SITUATIONS: Mapping[str, tuple[str, Sequence[float], Sequence[float]]] = {
    "long": ("One is ten times as long", *lessons.UNEQUAL),
    "three": ("Three that pull apart", lessons.ANGLES, (lessons.LONGER, 1.0, 1.0)),
    "opposed": ("Exactly opposed", (0.0, 180.0), (1.0, 2.0)),
    "agree": ("No conflict", (20.0, 80.0), (1.0, 2.0)),
}
SITUATION = Choice("u_case", "Gradients", tuple(SITUATIONS), "long")
SETTINGS = (ANGLE, LENGTH, TURN, SITUATION)


@dataclass(frozen=True)
class Way:
    """A way on to another page.

    Attributes:
        page: The page's key.
        label: What the link says.
        query: The page's whole state.
    """

    page: str
    label: str
    query: dict[str, str | list[str]]


@dataclass(frozen=True)
class Scene:
    """What a lesson shows.

    Attributes:
        before: Draws what is seen at first.
        after: Draws the answer.
        answer: Computes it.
        way: Where one can go on, after the answer or before.
        stays: Whether what is seen at first stays below the answer.
    """

    before: Callable[[], None]
    after: Callable[[], None]
    answer: Callable[[], lessons.Answer]
    way: Callable[[], Way]
    stays: bool = True


def plane_panel(key: str, title: str, jacobian: Array, methods: Sequence[str], code: str) -> Panel:
    """Gradients, dual cone and the directions of some methods."""
    names = _names(jacobian)
    ways = {
        one.method: one.draws if len(one.draws) > 1 else one.direction
        for one in lessons.outcomes_of(jacobian, methods)
    }
    figure = directions_figure(jacobian, ways, theme(), names=names, height=HEIGHT)
    return Panel(key, title, figure, directions_caption(jacobian, ways, names=names), code=code)


def bars_panel(key: str, jacobian: Array, methods: Sequence[str], code: str) -> Panel:
    """How fast every objective falls by some methods."""
    names = _names(jacobian)
    inner = {one.method: one.inner for one in lessons.outcomes_of(jacobian, methods)}
    figure = improvement_bars(inner, names, theme(), height=HEIGHT)
    caption = improvement_caption(inner, names)
    return Panel(key, "Who gets hurt: gᵢ·A(J)", figure, caption, code=code)


def gramian_panel(key: str, title: str, jacobian: Array, code: str) -> Panel:
    """The Gramian of some gradients."""
    names, G = _names(jacobian), jacobian @ jacobian.T
    figure = gramian_heatmap(G, names, theme(), height=HEIGHT)
    return Panel(key, title, figure, gramian_caption(G, names), code=code)


def _names(jacobian: Array) -> tuple[str, ...]:
    return tuple(f"g{subscript(index + 1)}" for index in range(len(jacobian)))


def _draw_pair() -> None:
    jacobian = lessons.pair_of_gradients(ANGLE.draw())
    st.markdown(lessons.pair_sentence(jacobian))
    code = tour_code.directions(jacobian, ())
    draw_panels(plane_panel("tour-pair", "Two gradients and their dual cone", jacobian, (), code))


def _first_gramian() -> Array:
    """The Gramian of the example's first step, shape [32, 32]."""
    view = example_view()
    record = view.store.record(view.run.run_id, 0)
    if record is None or record.gramian is None:
        raise ValueError("got an example without a first Gramian; record it anew.")
    return record.gramian


def _draw_first_step() -> None:
    view = example_view()
    record = view.store.record(view.run.run_id, 0)
    shown = None if record is None else arrange(view, record)
    if shown is not None:
        title = "Cosines of 32 gradients at the first step, sorted by digit"
        draw_panels(cosine_panel("tour-cosines", shown, title=title, spoken_only=False))


def _draw_equal() -> None:
    jacobian = lessons.three_gradients(1.0)
    _draw_mean("tour-equal", "Three gradients of equal length and their mean", jacobian)


def _draw_longer() -> None:
    jacobian = lessons.three_gradients(LENGTH.draw())
    _draw_mean("tour-longer", "The first one longer, and their mean", jacobian)


def _draw_mean(key: str, title: str, jacobian: Array) -> None:
    methods = ("Mean",)
    draw_panels(
        plane_panel(key, title, jacobian, methods, tour_code.directions(jacobian, methods)),
        bars_panel(f"{key}-hurt", jacobian, methods, tour_code.hurt(jacobian, methods)),
    )


def _draw_gramian() -> None:
    _draw_turned_by("tour-gramian", 0.0)


def _draw_turned() -> None:
    _draw_turned_by("tour-turned", TURN.draw())


def _draw_turned_by(key: str, turn_deg: float) -> None:
    jacobian = lessons.three_gradients(1.0, turn_deg)
    methods = ("UPGrad",) if turn_deg else ()
    title = f"The gradients turned by {turn_deg:g}°" if turn_deg else "Three gradients"
    code = tour_code.directions(jacobian, methods)
    draw_panels(
        plane_panel(f"{key}-plane", title, jacobian, methods, code),
        gramian_panel(f"{key}-map", "Their Gramian", jacobian, tour_code.gramian(jacobian)),
    )


def _draw_autojac() -> None:
    found = [example_comparison().of(name) for name in ("autojac", "sgd")]
    shown = [one for one in found if one is not None]
    draw_panels(
        Panel(
            "tour-autojac",
            "Memory during one step: autojac, and a plain step",
            memory_timelines(shown, theme()),
            memory_caption(shown),
            code=tour_code.timelines(),
        )
    )


def _draw_mirrored() -> None:
    found = example_comparison()
    upper, lower = found.of("autojac"), found.of("fused")
    if upper is not None and lower is not None:
        draw_panels(
            Panel(
                "tour-mirrored",
                "The same step by both engines: autojac upward, autogram downward",
                mirrored_timelines(upper, lower, theme(), found.of("sgd")),
                mirrored_caption(upper, lower),
                code=tour_code.mirrored(),
            )
        )


def _situation() -> Array:
    """Draw the choice of gradients; the chosen ones."""
    SITUATION.draw(lambda key: SITUATIONS[key][0])
    _, angles, lengths = SITUATIONS[SITUATION.current()]
    return rows_from_polar(angles, lengths)


def _draw_situation() -> None:
    jacobian = _situation()
    code = tour_code.directions(jacobian, ())
    draw_panels(plane_panel("tour-case", "Gradients and their dual cone", jacobian, (), code))


def _draw_methods() -> None:
    jacobian, methods = _situation(), lessons.COMPARED
    code = tour_code.directions(jacobian, methods)
    draw_panels(plane_panel("tour-methods", "Where four methods go", jacobian, methods, code))
    code = tour_code.hurt(jacobian, methods)
    draw_panels(bars_panel("tour-methods-hurt", jacobian, methods, code))
    st.table(lessons.properties_table())


def _to_directions(
    label: str, angles: Sequence[float], lengths: Sequence[float], methods: Sequence[str]
) -> Way:
    """The Directions page with the gradients of a lesson."""
    query: dict[str, str | list[str]] = {"d_m": str(len(angles)), "d_methods": list(methods)}
    for place, (angle, length) in enumerate(zip(angles, lengths, strict=True), start=1):
        query[f"d_a{place}"], query[f"d_l{place}"] = f"{angle:g}", f"{length:g}"
    return Way("directions", label, query)


def _way_of_pair() -> Way:
    angle = float(st.session_state.get(ANGLE.key, ANGLE.default))
    return _to_directions(
        "Go on in Directions, with these two gradients", (0.0, angle), (1.0, 1.0), lessons.COMPARED
    )


def _way_of_mean() -> Way:
    length = float(st.session_state.get(LENGTH.key, LENGTH.default))
    return _to_directions(
        "Go on in Directions: does UPGrad do better?",
        lessons.ANGLES,
        (length, 1.0, 1.0),
        ("UPGrad", "Mean"),
    )


def _way_of_methods() -> Way:
    _, angles, lengths = SITUATIONS[SITUATION.current()]
    label = "Go on in Directions, with these gradients and methods"
    return _to_directions(label, angles, lengths, lessons.COMPARED)


def _way_of_gramian() -> Way:
    query: dict[str, str | list[str]] = {"l_run": "example", "l_step": "0", "l_view": "gramian"}
    return Way("lens", "Go on in Lens: the Gramian of a network with 32 objectives", query)


def _way_of_memory() -> Way:
    spec = example_comparison().measurements[0].spec
    query: dict[str, str | list[str]] = {
        "e_problem": spec.problem,
        "e_size": spec.size,
        "e_batch": str(spec.batch_size),
    }
    return Way("engines", "Go on in Engines, and measure this step on this machine", query)


SCENES: dict[str, Scene] = {
    "conflict": Scene(
        _draw_pair,
        _draw_first_step,
        lambda: lessons.conflict_answer(_first_gramian()),
        _way_of_pair,
    ),
    "mean": Scene(
        _draw_equal,
        _draw_longer,
        lambda: lessons.mean_answer(lessons.three_gradients(lessons.LONGER)),
        _way_of_mean,
    ),
    "gramian": Scene(
        _draw_gramian,
        _draw_turned,
        lambda: lessons.gramian_answer(
            lessons.three_gradients(1.0), lessons.three_gradients(1.0, lessons.TURN_DEG)
        ),
        _way_of_gramian,
    ),
    "memory": Scene(
        _draw_autojac,
        _draw_mirrored,
        lambda: lessons.memory_answer(example_comparison()),
        _way_of_memory,
        stays=False,
    ),
    "methods": Scene(
        _draw_situation,
        _draw_methods,
        lambda: lessons.methods_answer(rows_from_polar(*lessons.UNEQUAL)),
        _way_of_methods,
        stays=False,
    ),
}
