"""What holds for every figure, in both themes and at the edges of its data."""

import json
import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.io
import pytest

from jdviz import figures
from jdviz.figures.frame import TRUE_VALUES, WORDS_ONLY, template
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


@pytest.fixture(scope="module")
def foreign_default() -> Iterator[None]:
    """What Streamlit does when it is imported: a default template that is not ours.

    Once for all tests, because plotly validates the whole template each time it is set.
    """
    former = plotly.io.templates.default
    plotly.io.templates.default = "plotly_dark"
    yield
    plotly.io.templates.default = former


@pytest.mark.usefixtures("foreign_default")
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("m", SIZES)
def test_frame_is_explicit(name: str, m: int, theme: Theme) -> None:
    layout = cases(m)[name].build(theme).layout
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


@pytest.mark.parametrize("name", tuple(cases(0, k=0)))
def test_nothing_yet(name: str, theme: Theme) -> None:
    # No objective and no step: a page shows its example instead, but nothing breaks.
    case = cases(0, k=0)[name]
    json.loads(case.build(theme).to_json(), parse_constant=pytest.fail)
    assert case.caption().endswith(".")


@pytest.mark.parametrize("name", ["cosine", "gramian", "angles", "loss", "hurt", "weights"])
def test_a_tick_is_small(name: str) -> None:
    # Six figures twice a second: the largest, 64 objectives as a map, stays below 40 kB.
    assert len(cases(64, k=500)[name].build("light").to_json(validate=False)) < 40_000


def numbers_of(trace: object) -> set[float]:
    """Every number that a trace shows, as far as a trace is no text alone."""
    sides = [trace.z] if trace.type == "heatmap" else [trace.x, trace.y]
    if trace.type == "scatter3d":
        sides.append(trace.z)
    if trace.meta == TRUE_VALUES:
        sides = [*sides[:-1], trace.customdata]
    if trace.meta == WORDS_ONLY:
        sides = []
    found = set()
    for side in sides:
        for value in np.ravel(np.asarray(side, dtype=object)) if side is not None else ():
            if isinstance(value, int | float | np.number) and np.isfinite(value):
                found.add(float(value))
    return found


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("m", [2, 7, 64])
def test_every_figure_is_a_table_too(name: str, m: int) -> None:
    figure = cases(m)[name].build("light")
    table = figures.figure_table(figure)
    assert not table.empty
    assert table.columns.is_unique
    inside = {
        float(value)
        for value in [*table.to_numpy(dtype=object).ravel(), *table.index]
        if isinstance(value, int | float | np.number)
    }
    heatmaps = [trace for trace in figure.data if trace.type == "heatmap"]
    shown = [t for t in heatmaps or figure.data if t.name or t.hoverinfo != "skip"]
    for trace in shown:
        # An arrow's origin is no number of the figure.
        assert numbers_of(trace) - {0.0} <= inside, trace.name
    # The form in which a figure comes back from JSON says the same.
    again = figures.figure_table(plotly.io.from_json(figure.to_json()))
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    assert figures.figure_csv(figure).count("\n") == len(table) + 1
