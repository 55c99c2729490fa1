import math

import numpy as np
import pytest

from jdviz.figures import directions_figure, leading_directions_caption
from jdviz.figures.directions import LABELLED_GRADIENTS, LEADING_AXES


def test_shares_outside_of_the_plane_are_said() -> None:
    sentence = leading_directions_caption(
        [[1.0, 0.0], [-1.0, 1.0]], 0.25, {"Mean": 0.5, "MGDA": 0.0}
    )
    assert sentence == (
        "Not in this plane: 25.0 % of the gradients' squared length and, of the directions', "
        "50.0 % (Mean) and 0 % (MGDA). Its directions that make none of 2 objectives worse are a "
        "wedge."
    )


def test_of_many_methods_the_least_and_the_greatest_share_is_said() -> None:
    shares = {f"m{index}": index / 10 for index in range(1, 8)} | {"zero": math.nan}
    sentence = leading_directions_caption(np.eye(2), 0.1, shares)
    assert "from 10.0 % (m1) to 70.0 % (m7) of 7 methods" in sentence


def test_a_plane_that_shows_everything() -> None:
    # What float32 leaves is nothing.
    sentence = leading_directions_caption(np.eye(2), 1e-7, {"Mean": 0.0, "zero": math.nan})
    assert sentence == (
        "This plane shows gradients and directions whole. The directions that make none of 2 "
        "objectives worse are a wedge."
    )


def test_directions_longer_than_many_gradients_are_cut_at_the_frame() -> None:
    rows = np.stack([np.cos(np.arange(9)), np.sin(np.arange(9))], axis=1)
    directions = {"Mean": [0.3, 0.1], "Sum": [30.0, 15.0]}
    mean, total = directions_figure(rows, directions, "light").data[2:4]
    # Gradients of length 1 give a frame of 1.5, the next nice limit of 1.18.
    assert (mean.name, total.name) == ("Mean", "Sum (cut short)")
    assert (mean.x[1], mean.y[1]) == (0.3, 0.1)
    assert (total.x[1], total.y[1]) == (1.5, 0.75)
    assert total.hovertext[1].startswith("Sum: length 33.5, ")
    few = directions_figure(rows[:8], directions, "light").data[3]
    assert (few.name, few.x[1]) == ("Sum", 30.0)


def test_without_a_length_there_is_no_share() -> None:
    sentence = leading_directions_caption(np.zeros((2, 2)), math.nan, {"Mean": math.nan})
    assert sentence == (
        "The gradients are all zero. Its directions that make none of 2 objectives worse are the "
        "whole plane."
    )


def test_who_gets_hurt_is_known_better_than_the_plane_shows() -> None:
    # In the plane the direction goes along both gradients; over all parameters it hurts the second.
    rows = np.array([[1.0, 0.0], [0.0, 1.0]])
    figure = directions_figure(
        rows, {"Mean": [0.5, 0.5]}, "light", names=("a", "b"), inner={"Mean": [1.0, -0.5]}
    )
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == LEADING_AXES
    (mean,) = [trace for trace in figure.data if trace.name == "Mean"]
    assert mean.hovertext[1] == "Mean: length in the plane 0.707, makes b worse"
    plain = directions_figure(rows, {"Mean": [0.5, 0.5]}, "light", names=("a", "b"))
    (mean,) = [trace for trace in plain.data if trace.name == "Mean"]
    assert mean.hovertext[1] == "Mean: length 0.707, makes no objective worse"


@pytest.mark.parametrize("m", [LABELLED_GRADIENTS, LABELLED_GRADIENTS + 1, 256])
def test_only_few_gradients_have_labels(m: int) -> None:
    rows = np.stack([np.cos(np.arange(m)), np.sin(np.arange(m))], axis=1)
    figure = directions_figure(rows, {}, "light", inner={})
    labels = figure.data[-1]
    shown = [label for text in labels.text for label in text.split(", ")]
    assert len(shown) == (m if m <= LABELLED_GRADIENTS else 0)
    assert len(figure.data[1].x) == 3 * m


def test_inner_products_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\) for Mean, expected \(2,\)"):
        directions_figure(np.eye(2), {"Mean": [1.0, 1.0]}, "light", inner={"Mean": np.ones(3)})
