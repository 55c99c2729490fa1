import numpy as np
import pytest

from engines.aggregation import METHODS
from jdviz.figures import improvement_bars, improvement_caption
from jdviz.figures.theme import PALETTES, method_style
from tests.jdviz.figures.samples import names

VALUES = {"Mean": [0.5, -0.25, 1.0], "UPGrad": [0.25, 0.0, np.nan]}


def test_bars_hold_every_value_once() -> None:
    figure = improvement_bars(VALUES, list("abc"), "light")
    good, bad, other_good, other_bad, explanation = figure.data
    np.testing.assert_array_equal(good.y, np.float32([0.5, np.nan, 1.0]))
    np.testing.assert_array_equal(bad.y, np.float32([np.nan, -0.25, np.nan]))
    np.testing.assert_array_equal(other_good.y, np.float32([0.25, 0.0, np.nan]))
    assert np.isnan(other_bad.y).all()
    assert bad.marker.pattern.shape == "/"
    assert good.marker.pattern.shape is None
    assert good.marker.color == bad.marker.color == method_style("Mean", "light").color
    assert good.offsetgroup == bad.offsetgroup
    assert explanation.name == "gets worse"
    low, high = figure.layout.yaxis.range
    assert low <= -0.25
    assert high >= 1.0


def test_rows_of_marks_for_many() -> None:
    values = np.linspace(-1.0, 2.0, 30)
    figure = improvement_bars({"Mean": values, "Sum": values * 30}, names(30), "dark")
    good, bad = figure.data[:2]
    np.testing.assert_array_equal(bad.x, values[values < 0].astype(np.float32))
    np.testing.assert_array_equal(good.x, values[values >= 0].astype(np.float32))
    assert list(bad.hovertext) == names(30)[: len(bad.x)]
    assert good.marker.symbol != bad.marker.symbol
    assert figure.layout.yaxis.ticktext[0] == "Mean<br>10 worse"
    # One method alone keeps its bars.
    assert improvement_bars({"Mean": values}, names(30), "dark").data[0].type == "bar"


def test_a_row_for_each_of_more_methods_than_bars_can_show() -> None:
    # The second objective of each is below zero; the shape says which objective it is.
    methods = list(METHODS)[:9]
    values = {name: np.array([row, -1.0 - row, 0.5]) for row, name in enumerate(methods)}
    figure = improvement_bars(values, list("abc"), "light")
    drawn = [trace for trace in figure.data if trace.hovertemplate]
    seen = {
        (y, trace.name, float(x)) for trace in drawn for x, y in zip(trace.x, trace.y, strict=True)
    }
    assert seen == {
        (name, objective, float(value))
        for name in methods
        for objective, value in zip("abc", values[name], strict=True)
    }
    for trace in drawn:
        worse = trace.marker.color == PALETTES["light"].negative
        assert all((x < 0) == worse for x in trace.x)
    assert len({trace.marker.symbol.removesuffix("-open") for trace in drawn}) == 3
    assert list(figure.layout.yaxis.ticktext) == methods
    shown = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert shown == ["a", "b", "c", "gets worse"]
    all_of_them = {name: np.ones(3) for name in METHODS}
    assert improvement_bars(all_of_them, list("abc"), "dark").layout.height > figure.layout.height


def test_many_methods_on_many_objectives_are_strokes() -> None:
    values = {name: np.linspace(-1.0, 1.0, 12) for name in list(METHODS)[:8]}
    figure = improvement_bars(values, names(12), "light")
    assert len(figure.data) == 2 * 8 + 1
    assert figure.data[0].marker.symbol == "line-ns"


def test_zero_hurts_nobody() -> None:
    assert improvement_caption({"UPGrad": [1.0, 0.0]}, ["a", "b"]) == (
        "UPGrad makes none of 2 objectives worse."
    )
    bad = improvement_bars({"UPGrad": [1.0, 0.0]}, ["a", "b"], "light").data[1]
    assert np.isnan(bad.y).all()


def test_pinned_captions() -> None:
    assert improvement_caption(VALUES, list("abc")) == (
        "Mean makes b worse; UPGrad makes none worse."
    )
    many = {"Sum": [-1.0, -2.0, -0.5, -0.1, 1.0]}
    assert improvement_caption(many, list("abcde")) == ("Sum makes 4 of 5 worse (most b, −2.00).")
    assert improvement_caption({}, ["a"]) == "No method is chosen yet."


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="for Mean"):
        improvement_bars({"Mean": [1.0]}, ["a", "b"], "light")
    with pytest.raises(ValueError, match="got method"):
        improvement_bars({"nobody": [1.0]}, ["a"], "light")
