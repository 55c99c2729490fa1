import numpy as np
import pytest

from jdviz.figures import GrowthPoint, growth_caption, growth_lines
from tests.jdviz.figures.lab import MIB, growth


def named(figure, name: str):
    (found,) = [trace for trace in figure.data if trace.name == name]
    return found


def test_measured_are_marks_and_predicted_are_lines() -> None:
    figure = growth_lines(growth(), "light")
    marks, line = named(figure, "autogram, fused"), named(figure, "autogram, fused, predicted")
    assert (marks.mode, line.mode) == ("markers", "lines")
    assert list(marks.x) == list(line.x) == [1, 4, 16, 64]
    np.testing.assert_allclose(marks.y, [2, 4, 8, 16])
    np.testing.assert_allclose(line.y, [2.2, 4.4, 8.8, 17.6], rtol=1e-6)
    assert marks.hovertext[1] == (
        "autogram, fused, batch size 4: 4.00 MiB measured, 4.40 MiB predicted (+10.0 %)"
    )
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert figure.layout.xaxis.tickvals == (1, 4, 16, 64)
    assert figure.layout.yaxis.tickvals == (1, 2, 5, 10, 20, 50)


def test_without_a_prediction_the_marks_have_their_line() -> None:
    points = [GrowthPoint("torchjd autojac", size, size * MIB, None) for size in (1, 2)]
    (marks,) = growth_lines(points, "dark", "width").data
    assert marks.mode == "lines+markers"
    assert marks.hovertext[0] == "torchjd autojac, width 1: 1.00 MiB measured"


def test_a_failure_is_a_cross_at_the_limit() -> None:
    figure = growth_lines(growth(), "light", limit_bytes=32 * MIB)
    cross = figure.data[-1]
    assert (list(cross.x), list(cross.y)) == ([64], [32])
    assert cross.marker.symbol == "x-open"
    assert cross.text == ("autojac out of memory at batch 64",)
    (line,), (note,) = figure.layout.shapes, figure.layout.annotations
    assert (line.y0, line.y1, note.text) == (32, 32, "limit 32 MiB")
    # Without a limit it lies at the prediction.
    assert list(growth_lines(growth(), "light").data[-1].y) == [64]


def test_caption_has_powers_crossing_and_failures() -> None:
    assert growth_caption(growth()) == (
        "The peak grows with the batch size to the power 0.500 for fused autogram and 1.00 for "
        "autojac; from about batch size 4 on fused autogram needs less than autojac; "
        "autojac: out of memory at batch 64."
    )


def test_caption_says_that_one_needs_more_throughout() -> None:
    points = [GrowthPoint("fused", size, 3 * size * MIB, None) for size in (1, 8)]
    points += [GrowthPoint("autojac", size, 2 * size * MIB, None) for size in (1, 8)]
    assert growth_caption(points, "width").endswith(
        "; fused autogram needs more than autojac throughout, 1.50× its memory at width 8."
    )
    assert growth_caption([GrowthPoint("sgd", 1, None, 5.0)]) == "Nothing is measured yet."


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="got no point"):
        growth_lines([], "light")
    with pytest.raises(ValueError, match="got a size of 0"):
        growth_caption([GrowthPoint("sgd", 0, None, None)])
    with pytest.raises(ValueError, match="got method 'unknown'"):
        growth_lines([GrowthPoint("unknown", 1, None, None)], "light")
