import io
import math

import numpy as np
import pandas as pd
import pytest
from plotly import graph_objects as go

from jdviz.figures import (
    cosine_heatmap,
    directions_figure,
    engine_difference,
    figure_csv,
    figure_html,
    figure_table,
    futures_bars,
    improvement_bars,
    loss_history,
    peak_split_bars,
    seed_bands,
)
from jdviz.figures.overlay import Line, overlay
from jdviz.figures.reading import ROWS_IN_HTML, WORDS
from jdviz.figures.seeds import SeedGroup
from tests.jdviz.figures import lab


def test_lines_become_columns_over_their_common_axis() -> None:
    figure = loss_history([0, 5], [[2.0, 1.0], [0.5, np.nan]], ["a", "b"], theme="light")
    expected = pd.DataFrame({"step": [0, 5], "a: loss": [2.0, 0.5], "b: loss": [1.0, np.nan]})
    pd.testing.assert_frame_equal(figure_table(figure), expected)
    assert figure_csv(figure) == "step,a: loss,b: loss\n0,2.0,1.0\n5,0.5,\n"


def test_lines_of_different_lengths_are_sorted_into_one_axis() -> None:
    lines = [Line("a", [0, 10], [1.0, 2.0]), Line("b", [5], [3.0])]
    table = figure_table(overlay(lines, "light", quantity="loss", unit="nats"))
    assert list(table["step"]) == [0, 5, 10]
    assert list(table.columns) == ["step", "a: loss (nats)", "b: loss (nats)"]
    np.testing.assert_array_equal(table["b: loss (nats)"], [np.nan, 3.0, np.nan])


def test_a_band_says_which_edge_is_which() -> None:
    runs = [([0], [value]) for value in (1.0, 2.0, 3.0)]
    table = figure_table(seed_bands([SeedGroup("A", runs)], "light", quantity="loss"))
    assert dict(table.iloc[0]) == {
        "step": 0.0,
        "A, quartiles, lower edge: loss": 1.5,
        "A, quartiles, upper edge: loss": 2.5,
        "A (3 seeds): loss": 2.0,
    }


def test_a_matrix_keeps_its_names() -> None:
    figure = cosine_heatmap([[1.0, -1.0], [-1.0, 2.0]], ["a", "b"], "dark")
    table = figure_table(figure)
    assert list(table.index) == list(table.columns) == ["a", "b"]
    np.testing.assert_allclose(table, [[1.0, -(0.5**0.5)], [-(0.5**0.5), 1.0]], rtol=1e-6)
    back = pd.read_csv(io.StringIO(figure_csv(figure)), index_col=0)
    np.testing.assert_array_equal(np.float32(back), table)


def test_two_halves_of_a_series_are_one_column() -> None:
    inner = {"UPGrad": [1.0, 0.5], "Mean": [2.0, -0.5]}
    table = figure_table(improvement_bars(inner, ["a", "b"], "light"))
    assert list(table.columns) == [
        "objective",
        "UPGrad: improvement gᵢ·A(J)",
        "Mean: improvement gᵢ·A(J)",
    ]
    assert list(table.iloc[:, 2]) == [2.0, -0.5]


def test_arrows_are_a_row_each_without_their_origin() -> None:
    table = figure_table(directions_figure([[3.0, 0.0], [0.0, 2.0]], {"Mean": [1.5, 1.0]}, "light"))
    rows = table[table["name"] != table["name"].iloc[0]]
    assert list(rows["name"]) == ["gradients", "gradients", "Mean"]
    assert list(rows["first parameter"]) == [3.0, 0.0, 1.5]
    assert list(rows["second parameter"]) == [0.0, 2.0, 1.0]
    assert rows[WORDS].iloc[0] == "g₁, objective 1: length 3.00"


def test_what_is_drawn_elsewhere_is_what_it_is() -> None:
    table = figure_table(engine_difference([0, 1], [0.0, 1e-7], [0.0, 0.0], [1.0, 1.0], "light"))
    np.testing.assert_array_equal(table["Gramian: relative difference"], np.float32([0.0, 1e-7]))


def test_a_cross_for_a_failure_is_no_number() -> None:
    comparison = lab.comparison()
    figure = peak_split_bars(lab.measurements(), "light", comparison.failures)
    last = figure_table(figure).iloc[-1]
    assert [value for value in last.drop([WORDS, "row"]) if math.isfinite(value)] == []
    assert "out of memory" in last[WORDS]


def test_a_distribution_names_its_objectives() -> None:
    losses = np.random.default_rng(0).uniform(size=(2, 13))
    names = [f"task {place}" for place in range(13)]
    table = figure_table(futures_bars({"Mean": losses}, names, "light"))
    assert list(table["objective"]) == names
    np.testing.assert_allclose(table["Mean: change of the loss"], losses[1] - losses[0], rtol=1e-5)


def test_markup_and_helpers_are_left_out() -> None:
    figure = go.Figure(
        [
            go.Bar(x=["<b>sum</b>"], y=[1.0], name="a &amp; b"),
            go.Scatter(x=["sum"], y=[7.0], hoverinfo="skip"),
            go.Scatter(x=[None], y=[None], name="only in the legend"),
        ]
    )
    pd.testing.assert_frame_equal(
        figure_table(figure), pd.DataFrame({"x": ["sum"], "a & b: y": [1.0]})
    )
    assert figure_table(go.Figure()).empty


@pytest.mark.parametrize(("k", "tables"), [(ROWS_IN_HTML, 1), (ROWS_IN_HTML + 1, 0)])
def test_html_has_sentence_figure_and_numbers(k: int, tables: int) -> None:
    figure = loss_history(np.arange(k), np.full((k, 1), 0.123456), ["<a>"], theme="light")
    page = figure_html(figure, "Loss & more", "It stays.")
    assert "<h1>Loss &amp; more</h1>" in page
    assert "<p>It stays.</p>" in page
    assert 'id="figure-0"' in page
    assert page.count('<div class="table">') == tables
    assert ("0.123</td>" in page) == bool(tables)
    assert ("rows of numbers are in its CSV file" in page) != bool(tables)
