import numpy as np
import pytest

from jdviz.figures import (
    conflict_caption,
    conflict_history,
    engine_difference,
    engine_difference_caption,
    weights_history,
    weights_history_caption,
)
from jdviz.figures.lockstep import EXACT, FLOOR
from jdviz.figures.theme import objective_colors

STEPS = np.array([0, 5, 10])


def test_share_and_cosine_on_one_axis() -> None:
    figure = conflict_history(STEPS, [0.5, np.nan, 0.0], [-0.8, np.nan, 0.1], "light")
    rate, cosine = figure.data
    np.testing.assert_array_equal(rate.x, STEPS)
    np.testing.assert_array_equal(rate.y, np.float32([0.5, np.nan, 0.0]))
    np.testing.assert_array_equal(cosine.y, np.float32([-0.8, np.nan, 0.1]))
    assert rate.fill == "tozeroy"
    assert figure.layout.yaxis.range == (-1.05, 1.05)


def test_pinned_conflict_captions() -> None:
    assert conflict_caption(STEPS, [0.5, np.nan, 0.0], [-0.8, np.nan, 0.1]) == (
        "A pair is in conflict at 1 of 2 steps shown; on average 25.0 % of the pairs are. The "
        "smallest cosine is −0.800, at step 0."
    )
    assert conflict_caption(STEPS, np.zeros(3), np.ones(3)) == (
        "No pair is in conflict at any of the 3 steps shown."
    )
    assert conflict_caption([], [], []).startswith("No step with two gradients")


def test_a_line_for_each_weight_and_the_distribution_of_many() -> None:
    weights = np.array([[0.2, 0.8], [0.5, 0.5], [0.0, 1.0]])
    figure = weights_history(STEPS, weights, ["a", "b"], "dark")
    for place, line in enumerate(figure.data):
        np.testing.assert_array_equal(line.y, weights[:, place].astype(np.float32))
        assert line.line.color == objective_colors(2, "dark")[place]
    assert figure.layout.shapes[0].y0 == 0.5
    logarithmic = weights_history(STEPS, weights, ["a", "b"], "dark", scale="log")
    np.testing.assert_array_equal(np.isnan(logarithmic.data[0].y), [False, False, True])
    many = np.random.default_rng(0).uniform(size=(3, 9))
    names = [str(place) for place in range(9)]
    _, _, median, mean, heaviest = weights_history(STEPS, many, names, "light").data
    np.testing.assert_array_equal(median.y, np.median(many, axis=1).astype(np.float32))
    np.testing.assert_array_equal(mean.y, many.mean(axis=1).astype(np.float32))
    np.testing.assert_array_equal(heaviest.y, many.max(axis=1).astype(np.float32))
    assert heaviest.name == "heaviest"


def test_pinned_weight_captions() -> None:
    weights = [[0.2, 0.8], [0.75, 0.25], [0.0, 1.0], [np.nan, 1.0]]
    assert weights_history_caption([0, 5, 10, 15], weights, ["a", "b"]) == (
        "From step 0 to 10, b weighs most on average, 0.683 (from 0.250 to 1.00), and most of all "
        "at 2 of 3 steps; the mean gives 0.500."
    )
    assert weights_history_caption([], np.zeros((0, 2)), ["a", "b"]) == "No step with weights yet."


def test_differences_with_zero_at_the_floor() -> None:
    figure = engine_difference(STEPS, [0.0, 1e-7, np.nan], [1e-8] * 3, [1e-6] * 3, "light")
    gramian, gradient, rounding = figure.data
    np.testing.assert_array_equal(gramian.y, np.float32([FLOOR, 1e-7, np.nan]))
    np.testing.assert_array_equal(gramian.customdata, np.float32([0.0, 1e-7, np.nan]))
    assert "%{customdata:.2g}" in gramian.hovertemplate
    np.testing.assert_array_equal(gradient.y, np.full(3, 1e-8, np.float32))
    np.testing.assert_array_equal(rounding.y, np.full(3, 1e-6, np.float32))
    assert figure.layout.shapes[0].y0 == EXACT
    low, high = figure.layout.yaxis.range
    assert low < np.log10(FLOOR)
    assert high >= -4
    axis = figure.layout.yaxis
    assert all(low <= np.log10(tick) <= high for tick in axis.tickvals)
    assert (axis.tickvals[0], axis.ticktext[0]) == (1e-4, "10⁻⁴")
    assert (axis.tickvals[-1], axis.ticktext[-1]) == (FLOOR, "0")
    never_zero = engine_difference([0], [1e-7], [1e-7], [1e-6], "light").layout.yaxis
    assert "0" not in never_zero.ticktext


def test_pinned_difference_captions() -> None:
    assert engine_difference_caption(STEPS, [0.0, 2e-7, 0.0], [0.0] * 3, [1e-6] * 3) == (
        "Over 3 steps the engines differ by at most 2.00·10⁻⁷ (step 5), and never by more than "
        "rounding explains; that is below 10⁻⁵, up to which they count as exact."
    )
    assert engine_difference_caption(STEPS, [0.0] * 3, [1e-7, 1e-4, 0.0], [1e-6] * 3) == (
        "Over 3 steps the engines differ by at most 0.000100 (step 5), and at 1 by more than "
        "rounding explains; that is above 10⁻⁵, up to which they count as exact."
    )
    assert engine_difference_caption(STEPS, np.zeros(3), np.zeros(3), np.ones(3)) == (
        "Both engines agree to the last bit at all 3 steps."
    )
    assert engine_difference_caption([], [], [], []) == "No step of both engines yet."


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[k\] for both"):
        conflict_history(STEPS, [1.0], STEPS, "light")
    with pytest.raises(ValueError, match=r"expected \[k\] for both"):
        engine_difference(STEPS, STEPS, STEPS, [1.0], "light")
    with pytest.raises(ValueError, match=r"expected \[k\] and \[k, m\]"):
        weights_history(STEPS, np.zeros((2, 2)), ["a", "b"], "light")
    with pytest.raises(ValueError, match="expected one for each"):
        weights_history(STEPS, np.zeros((3, 2)), ["a"], "light")
