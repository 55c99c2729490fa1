"""The pair of objectives that the Lens page looks at: losses, gradients, images, layers."""

from collections.abc import Callable

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from jdviz.conflict import cosines, pair_angles_deg
from jdviz.figures import pair_layers, pair_layers_caption
from jdviz.figures.words import degrees, number
from jdviz.pages.controls import escaped
from jdviz.pages.frame import Panel, draw_panels, theme
from jdviz.pages.lecture import locked
from jdviz.pages.lens_controls import PAIR_KEY, recall_pair, remember_pair
from jdviz.problems import Problem
from jdviz.problems.pictures import picture
from jdviz.runs.layout import LensStep

# Pixels on the page for one of an image.
_SCALE = 10


def draw_pair(step: LensStep, pair: tuple[int, int], problem: Problem | None) -> None:
    """Draw the menus that choose a pair, and what is known of the two.

    Args:
        step: The step.
        pair: Rows of the two objectives.
        problem: What the run trains, if it is one of the problems here.
    """
    with st.container(key=PAIR_KEY):
        _draw_menus(step, pair)
    i, j = pair
    st.markdown(_sentence(step, i, j))
    _draw_images(step, pair, problem)
    st.markdown(_facts(step, pair))


def draw_pair_layers(
    step: LensStep, pair: tuple[int, int], code: Callable[[str, str], str]
) -> None:
    """Draw how the pair's inner product splits over the layers, where the step was split.

    Args:
        step: The step.
        pair: Rows of the two objectives.
        code: Writes the code of the figure.
    """
    if step.shares is None:
        return
    i, j = pair
    draw_panels(
        Panel(
            "lens-pair-layers",
            f"gᵢ·gⱼ by layer: {step.names[i]} and {step.names[j]}",
            pair_layers(step.shares, i, j, step.names, theme()),
            pair_layers_caption(step.shares, i, j, step.names),
            code=code("pair_layers", f'step.shares, {i}, {j}, step.names, "light"'),
        )
    )


def _draw_menus(step: LensStep, pair: tuple[int, int]) -> None:
    """The keyboard's way to a pair; a click on the matrix is the other."""
    names = dict(zip(step.places.tolist(), step.names, strict=True))
    # Menus of their own for each pair and its names. Of one whose value or options the page
    # changes, the browser may still send what was there before, and that would count as a choice.
    places = tuple(int(step.places[row]) for row in pair)
    shown = hash((step.names, places))
    keys = tuple(f"lens:pair-{letter}:{shown}" for letter in "ij")
    for at, column in enumerate(st.columns(2)):
        others = [place for place in names if place != places[1 - at]]
        column.selectbox(
            f"Objective {'ij'[at]}",
            others,
            index=others.index(places[at]),
            format_func=names.__getitem__,
            key=keys[at],
            on_change=_pair_chosen,
            args=keys,
            disabled=locked(PAIR_KEY),
        )
    if recall_pair() is not None:
        st.button(
            "Back to the pair in the strongest conflict",
            key="lens:worst",
            on_click=remember_pair,
            args=(None,),
            type="tertiary",
            disabled=locked(PAIR_KEY),
        )


def _pair_chosen(first_key: str, second_key: str) -> None:
    remember_pair((st.session_state[first_key], st.session_state[second_key]))


def _sentence(step: LensStep, i: int, j: int) -> str:
    """Whether the two are in conflict, in words."""
    cosine = float(cosines(step.gramian)[i, j])
    if not np.isfinite(cosine):
        return "One of the two gradients is zero, so there is no angle between them."
    angle = degrees(float(pair_angles_deg(step.gramian[np.ix_([i, j], [i, j])])[0]))
    verdict = (
        "**In conflict**: a small step that follows one gradient makes the other objective worse"
        if cosine < 0
        else "**No conflict**: a small step that follows one gradient does not harm the other"
    )
    return f"{verdict}. Cosine {number(cosine, signed=True)}, angle {angle}."


def _facts(step: LensStep, pair: tuple[int, int]) -> str:
    """What is known of each of the two as a table in Markdown, a column each.

    For Streamlit's own table a browser loads most of a megabyte, before the first figure.
    """
    lines = [
        "| | " + " | ".join(escaped(step.names[row]) for row in pair) + " |",
        "| --- | --: | --: |",
    ]

    def add(title: str, values: NDArray[np.float64] | None, *, signed: bool = False) -> None:
        if values is not None:
            cells = (number(float(values[row]), signed=signed) for row in pair)
            lines.append(f"| {title} | " + " | ".join(cells) + " |")

    add("Loss", step.losses)
    add("Length of the gradient", step.lengths)
    add("Weight in the update", step.weights)
    add("Gets from the step, gᵢ·A(J)", step.inner, signed=True)
    return "\n".join(lines)


def _draw_images(step: LensStep, pair: tuple[int, int], problem: Problem | None) -> None:
    if problem is None or step.sample_ids is None:
        return
    for column, row in zip(st.columns(2), pair, strict=True):
        pixels = picture(problem, int(step.sample_ids[row]), scale=_SCALE)
        if pixels is not None:
            name = step.names[row]
            column.image(
                pixels, caption=escaped(name), width=8 * _SCALE, alt=f"The picture of {name}"
            )
