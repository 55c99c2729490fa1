"""What holds for every figure, in both themes and at the edges of its data."""

import json
import re

import plotly.io
import pytest

from jdviz.figures.frame import template
from jdviz.figures.theme import PALETTES, UI_REVISION, Figure, Theme
from tests.jdviz.figures.samples import cases

SIZES = (1, 2, 3, 7, 8, 64)
FIGURES = tuple(cases(2))
THEMES: tuple[Theme, ...] = ("light", "dark")
COLOR = re.compile(r"#[0-9A-Fa-f]{6}\b|rgba?\([^)]*\)")


@pytest.fixture(params=THEMES)
def theme(request: pytest.FixtureRequest) -> Theme:
    return request.param


def colors_of(figure: Figure) -> set[str]:
    return set(COLOR.findall(figure.to_json()))


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("m", SIZES)
def test_frame_is_explicit(name: str, m: int, theme: Theme) -> None:
    # What Streamlit does when it is imported: a default template of placeholder colours.
    former = plotly.io.templates.default
    plotly.io.templates.default = "plotly_dark"
    try:
        figure = cases(m)[name].build(theme)
    finally:
        plotly.io.templates.default = former
    layout = figure.layout
    assert layout.template.to_plotly_json() == template(theme).to_plotly_json()
    assert layout.template.layout.paper_bgcolor == PALETTES[theme].background
    assert isinstance(layout.height, int | float)
    assert layout.uirevision == UI_REVISION
    assert layout.width is None


@pytest.mark.parametrize("name", FIGURES)
def test_only_colours_of_its_own_theme(name: str, theme: Theme) -> None:
    other: Theme = "dark" if theme == "light" else "light"
    palette = PALETTES[other]
    foreign = {palette.background, palette.text, palette.muted, palette.grid, *palette.categorical}
    foreign -= {PALETTES[theme].ink[0], PALETTES[theme].ink[1]}
    foreign -= {*PALETTES[theme].categorical}
    assert not colors_of(cases(7)[name].build(theme)) & foreign


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("m", SIZES)
def test_same_shape_at_every_tick(name: str, m: int, theme: Theme) -> None:
    first, later = cases(m, k=1)[name].build(theme), cases(m, k=30, seed=5)[name].build(theme)
    assert [trace.type for trace in first.data] == [trace.type for trace in later.data]
    assert first.layout.height == later.layout.height


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("m", SIZES)
def test_json_and_caption_are_clean(name: str, m: int, theme: Theme) -> None:
    case = cases(m)[name]
    json.loads(case.build(theme).to_json(), parse_constant=pytest.fail)
    caption = case.caption()
    assert caption.endswith(".")
    assert not re.search(r"nan|inf\b|None\b", caption)


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_yet(name: str, theme: Theme) -> None:
    # No objective and no step: a page shows its example instead, but nothing breaks.
    case = cases(0, k=0)[name]
    json.loads(case.build(theme).to_json(), parse_constant=pytest.fail)
    assert case.caption().endswith(".")


@pytest.mark.parametrize("name", ["cosine", "gramian", "angles", "loss", "hurt", "weights"])
def test_a_tick_is_small(name: str) -> None:
    # Six figures twice a second: the largest, 64 objectives as a map, stays below 40 kB.
    assert len(cases(64, k=500)[name].build("light").to_json(validate=False)) < 40_000
