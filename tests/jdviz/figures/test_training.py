import numpy as np
import pytest

from jdviz.figures import loss_caption, loss_history, weight_bars, weight_caption
from jdviz.figures.theme import objective_colors
from tests.jdviz.figures.samples import losses, names


@pytest.mark.parametrize("m", [1, 3, 7])
def test_a_line_for_each_of_few(m: int) -> None:
    steps, values = np.arange(5) * 10, losses(5, m)
    figure = loss_history(steps, values, names(m), theme="light")
    assert len(figure.data) == m
    for index, line in enumerate(figure.data):
        np.testing.assert_array_equal(line.x, steps)
        np.testing.assert_array_equal(line.y, values[:, index].astype(np.float32))
        assert line.name == names(m)[index]
        assert line.line.color == objective_colors(m, "light")[index]
    assert len({line.line.dash for line in figure.data}) == min(m, 6)


def test_distribution_of_many() -> None:
    values = losses(6, 40)
    figure = loss_history(np.arange(6), values, names(40), theme="dark", kind="samples")
    low, high, median, mean, worst = figure.data
    for trace, expected in (
        (low, np.percentile(values, 10, axis=1)),
        (high, np.percentile(values, 90, axis=1)),
        (median, np.median(values, axis=1)),
        (mean, values.mean(axis=1)),
        (worst, values.max(axis=1)),
    ):
        np.testing.assert_array_equal(trace.y, expected.astype(np.float32))
    assert high.fill == "tonexty"


def test_gaps_instead_of_what_is_not_finite() -> None:
    values = losses(4, 2)
    values[1, 0], values[2, 1] = np.inf, np.nan
    figure = loss_history(np.arange(4), values, names(2), theme="light")
    assert np.isnan(figure.data[0].y[1])
    assert np.isnan(figure.data[1].y[2])
    assert np.isfinite(figure.data[0].y[[0, 2, 3]]).all()
    many = losses(3, 9)
    many[1, 4] = -np.inf
    for trace in loss_history(np.arange(3), many, names(9), theme="light").data:
        np.testing.assert_array_equal(np.isnan(trace.y), [False, True, False])


def test_logarithmic_axis_leaves_out_what_has_no_logarithm() -> None:
    figure = loss_history([0, 1], [[1.0], [0.0]], ["a"], theme="light", scale="log")
    assert figure.layout.yaxis.type == "log"
    np.testing.assert_array_equal(np.isnan(figure.data[0].y), [False, True])


def test_pinned_captions() -> None:
    # Means 1.5 and 1; b rose from 1 to 1.5, by the most.
    values = [[2.0, 1.0], [0.5, 1.5]]
    assert loss_caption([0, 9], values, ["a", "b"]) == (
        "Between step 0 and step 9 the mean loss went from 1.50 to 1.00; 1 of 2 rose, the most b."
    )
    assert loss_caption([0, 9], values, ["a", "b"], kind="samples") == (
        "Between step 0 and step 9 the mean loss went from 1.50 to 1.00; "
        "the worst of the last 2 samples has 1.50."
    )
    assert loss_caption([4], [[0.25]], ["a"]) == "At step 4 the mean loss is 0.250."
    assert loss_caption([4], [[np.nan]], ["a"]) == "No complete step yet."
    assert weight_caption([0.5, 0.0, 1.0], ["a", "b", "c"]) == (
        "C has the largest weight, 1.00 (the mean gives 0.333); 1 of 3 have none."
    )
    assert weight_caption([0.5, 0.5], ["a", "b"]) == (
        "Every objective has the same weight, 0.500 (the mean gives 0.500)."
    )


def test_weights() -> None:
    figure = weight_bars([0.2, -0.1, 0.9], ["a", "b", "c"], "light")
    np.testing.assert_array_equal(figure.data[0].y, np.float32([0.2, -0.1, 0.9]))
    assert tuple(figure.data[0].marker.color) == objective_colors(3, "light")
    assert figure.layout.shapes[0].y0 == figure.layout.shapes[0].y1 == 1 / 3
    low, high = figure.layout.yaxis.range
    assert low < -0.1
    assert high > 0.9


@pytest.mark.parametrize(
    ("steps", "values", "labels"),
    [([0], [[1.0], [2.0]], ["a"]), ([0], [1.0], ["a"]), ([0], [[1.0, 2.0]], ["a", "a"])],
)
def test_what_does_not_fit_is_refused(steps: list, values: list, labels: list) -> None:
    with pytest.raises(ValueError, match="expected"):
        loss_history(steps, values, labels, theme="light")
    with pytest.raises(ValueError, match="expected"):
        weight_bars([[1.0]], labels, "light")


def test_many_weights_have_a_logarithmic_axis_that_holds_them() -> None:
    weights = np.geomspace(1e-6, 1e6, 20)
    axis = weight_bars(weights, names(20), "light").layout.yaxis
    assert axis.type == "log"
    assert axis.range[0] < np.log10(1 / 20)
    assert axis.range[1] >= 6
    assert weight_bars(weights[:5], names(5), "light").layout.yaxis.type is None


def test_only_weights_that_vanish_count_as_none() -> None:
    # 1/m = 0.25: the second is small beside the first and still counts, the last two do not.
    caption = weight_caption(np.array([1e7, 0.25, 0.0, 1e-12]), names(4))
    assert caption.endswith("; 2 of 4 have none.")
