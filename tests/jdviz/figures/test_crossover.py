import numpy as np
import pytest

from jdviz.figures import crossover_caption, crossover_map
from jdviz.figures.theme import diverging_colors
from tests.jdviz.figures.lab import crossover


def test_map_is_centred_where_both_need_the_same() -> None:
    heat, line, numbers, dots = crossover_map(*crossover(), "light").data
    assert (heat.zmin, heat.zmax) == (-3, 3)
    np.testing.assert_allclose(heat.z, [[-2, 1], [0, 3]])
    assert heat.colorbar.ticktext == ("1/8×", "1/4×", "1/2×", "1×", "2×", "4×", "8×")
    assert heat.hovertext[0][0] == (
        "2 objectives, 1,000 parameters: autojac needs 0.250× the memory of autogram, predicted"
    )
    assert (line.contours.start, line.contours.end) == (0, 0)
    assert numbers.text == ("0.250×", "2.00×", "1.00×", "8.00×")
    # log 10 000 lies in the middle between log 1000 and log 100 000.
    assert (list(dots.x), list(dots.y)) == ([0.0, 1.0], [0.0, 0.5])
    expected = diverging_colors([-1.0, np.log2(3)], 3, "light")
    assert dots.marker.color == expected
    assert dots.hovertext[1] == (
        "8 objectives, 10,000 parameters: autojac needs 3.00× the memory of autogram, measured, "
        "3.00 MiB and 1.00 MiB"
    )


def test_many_cells_have_no_numbers_and_a_gap_stays_open() -> None:
    sizes = list(range(1, 9))
    values = np.full((8, 8), 0.5)
    values[0, 0] = np.inf
    heat, line, dots = crossover_map(sizes, sizes, values, [], "dark").data
    assert np.isnan(heat.z[0][0])
    assert heat.hovertext[0][0] == "1 objective, 1 parameters: no prediction"
    assert (heat.zmin, heat.zmax) == (-1, 1)
    assert not line.showlegend
    assert not dots.showlegend


def test_caption_counts_both_sides_and_the_agreement() -> None:
    assert crossover_caption(*crossover()) == (
        "autogram is predicted to need less in 2 of 4 cases, by up to 8.00× (8 objectives, 100,000 "
        "parameters); autojac is predicted to need less in 1 of 4 cases, by up to 4.00× "
        "(2 objectives, 1,000 parameters); 2 of 2 measurements fall on the predicted side."
    )
    assert crossover_caption([1], [1], [[0.0]], []) == (
        "Both engines are predicted to need the same everywhere."
    )
    assert crossover_caption([1], [1], [[np.nan]], []) == "Nothing is predicted for these sizes."


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got ratios of shape \(1, 2\), expected \(2, 1\)"):
        crossover_map([1], [1, 2], [[0.0, 1.0]], [], "light")
    with pytest.raises(ValueError, match=r"got objectives \[2, 1\], expected positive increasing"):
        crossover_caption([2, 1], [1], [[0.0, 1.0]], [])
