"""The figures of the Trajectories page at one step, and the way from a step to Directions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from jdviz.figures import (
    CosineField,
    distance_caption,
    distance_lines,
    objective_paths,
    objective_paths_caption,
    outcome_sentence,
    parameter_paths,
    parameter_paths_caption,
)
from jdviz.figures.words import number
from jdviz.landscapes import LANDSCAPES, Landscape
from jdviz.pages.frame import NUMBERS, Panel, draw_clickable, draw_panels, theme
from jdviz.pages.lecture import locked
from jdviz.pages.registry import PAGES
from jdviz.pages.trajectories_code import (
    CELLS,
    CELLS_APART,
    PARETO_POINTS,
    distances_code,
    objectives_code,
    parameters_code,
)
from jdviz.pages.trajectories_controls import FROM, LOOK, Asked, ProblemSettings
from jdviz.pages.trajectories_play import playing
from jdviz.trajectories import Path

Paths = Mapping[str, Sequence[Path]]

#: A point of the set is so close to one of these that its distance is exact to what is said of it.
_DENSE = 4001
#: In the session, whether a click on the map has placed a start.
_PLACED = "trajectories:placed"
#: Lengths that the controls of Directions take as they are.
_SHORTEST, _LONGEST = 0.1, 100.0


def draw_figures(asked: Asked, paths: Paths, step: int) -> None:
    """Draw the paths in both planes, and their distances to the front.

    Args:
        asked: What the page is asked to show.
        paths: Of every method, one for each start.
        step: The step shown.
    """
    n = CELLS_APART if asked.apart else CELLS
    main, beside = _parameter_panel(asked, paths, step, n), _objective_panel(asked, paths, step)
    click = partial(_clicked, asked.problem, n)
    if asked.apart:
        draw_clickable(main, range(n), click)
        draw_panels(beside)
    else:
        left, right = st.columns([1.25, 1], gap="medium")
        with left:
            draw_clickable(main, range(n), click)
        with right:
            draw_panels(beside)
    draw_panels(_distance_panel(asked, paths, step))


def sentence(paths: Paths, steps: int) -> str:
    """One sentence on where all paths end.

    Args:
        paths: Of every method, one for each start.
        steps: Steps asked for.
    """
    return outcome_sentence(_distances(paths), steps=steps)


def draw_way_to_directions(asked: Asked, paths: Paths, step: int) -> None:
    """Draw the gradients at one point of one path, and the button that opens them in Directions.

    Args:
        asked: What the page is asked to show.
        paths: Of every method, one for each start.
        step: The step shown.
    """
    st.markdown(f"**The gradients at step {step}**")
    first, second, third = st.columns([1, 1, 2.5], vertical_alignment="bottom", gap="medium")
    with first:
        method = replace(LOOK, options=tuple(paths), default=next(iter(paths))).draw()
    places = tuple(str(place) for place in range(1, len(asked.starts) + 1))
    with second:
        place = int(replace(FROM, options=places).draw())
    point = paths[method][place - 1].at(step)
    rows = asked.problem.jacobian(point)
    with third:
        st.page_link(
            PAGES["directions"].path,
            label="**Open this step in Directions**",
            query_params=_address(rows),
        )
    st.caption(_gradient_words(method, place, point, rows))


def _gradient_words(
    method: str, place: int, point: NDArray[np.float64], rows: NDArray[np.float64]
) -> str:
    lengths = np.linalg.norm(rows, axis=1)
    if lengths.min() > 0:
        cosine = float(np.clip(rows[0] @ rows[1] / lengths.prod(), -1.0, 1.0))
        ending = f"their cosine is {number(cosine, signed=True)}"
        ending += ", a conflict" if cosine < 0 else ""
    else:
        ending = "one of them is zero, so they have no angle"
    x, g1, g2 = (
        f"({', '.join(number(float(value)) for value in vector)})" for vector in (point, *rows)
    )
    return f"{method} from start {place} is at x = {x}. There g₁ = {g1} and g₂ = {g2}; {ending}."


def _address(rows: NDArray[np.float64]) -> dict[str, str]:
    """Two gradients as Directions' address names them; lengths at another scale if need be."""
    lengths = np.linalg.norm(rows, axis=1)
    longest = float(lengths.max())
    scale = 1.0 if longest == 0 or _SHORTEST <= longest <= _LONGEST else 1.0 / longest
    named = {"d_m": "2"}
    for place, (row, length) in enumerate(zip(rows, lengths, strict=True), start=1):
        # No minus zero.
        angle = round(math.degrees(math.atan2(row[1], row[0])), 1) + 0.0
        named |= {f"d_a{place}": f"{angle:g}", f"d_l{place}": f"{scale * length:.4g}"}
    return named


def follow_click() -> None:
    """Draw the whole page once a start was placed: it is among the controls beside the figures."""
    if st.session_state.pop(_PLACED, False):
        st.rerun()


def _clicked(problem: Landscape, n: int, cell: tuple[int, int]) -> None:
    row, column = cell
    own = ProblemSettings(problem)
    if not (0 <= row < n and 0 <= column < n) or locked(own.count.key):
        return
    first, second = problem.grid(n)
    own.place_start((float(first[column]), float(second[row])))
    st.session_state[_PLACED] = True


@lru_cache(maxsize=16)
def _field(key: str, n: int) -> CosineField:
    problem = LANDSCAPES[key]
    return CosineField(*problem.grid(n), problem.cosines(n), problem.frame)


def _parameter_panel(asked: Asked, paths: Paths, step: int, n: int) -> Panel:
    problem, steps = asked.problem, asked.steps
    tracks = {name: [path.points for path in own] for name, own in paths.items()}
    field = _field(problem.key, n)
    return Panel(
        "trajectories-parameters",
        "Parameters: paths over the cosine of the gradients",
        parameter_paths(
            field,
            tracks,
            problem.pareto_set(PARETO_POINTS),
            step,
            theme(),
            steps=steps,
            apart=asked.apart,
            sketch=_sketch("trajectories-parameters"),
        ),
        parameter_paths_caption(field, tracks, problem.pareto_set(_DENSE), step, steps=steps),
        code=parameters_code(asked, step),
    )


def _objective_panel(asked: Asked, paths: Paths, step: int) -> Panel:
    tracks = {name: [path.values for path in own] for name, own in paths.items()}
    front = asked.problem.pareto_front(PARETO_POINTS)
    return Panel(
        "trajectories-objectives",
        "Objectives: the same paths and the Pareto front",
        objective_paths(
            tracks,
            front,
            step,
            theme(),
            steps=asked.steps,
            apart=asked.apart,
            sketch=_sketch("trajectories-objectives"),
        ),
        objective_paths_caption(tracks, step, steps=asked.steps),
        code=objectives_code(asked, step),
    )


def _distance_panel(asked: Asked, paths: Paths, step: int) -> Panel:
    distances = _distances(paths)
    return Panel(
        "trajectories-distances",
        "Distance to the Pareto front",
        distance_lines(
            distances,
            step,
            theme(),
            steps=asked.steps,
            sketch=_sketch("trajectories-distances"),
        ),
        distance_caption(distances, step, steps=asked.steps),
        code=distances_code(asked, step),
    )


def _sketch(key: str) -> bool:
    """Whether a figure does with what a screen needs: it moves, and nobody reads its numbers."""
    return playing() and not st.session_state.get(f"{NUMBERS}{key}", False)


def _distances(paths: Paths) -> dict[str, list[NDArray[np.float64]]]:
    return {name: [path.distances for path in own] for name, own in paths.items()}
