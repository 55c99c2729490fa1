import numpy as np
import pytest

from jdviz.conflict import conflict_rate, cosines, pair_angles_deg
from jdviz.figures import (
    angle_caption,
    angle_histogram,
    cosine_caption,
    cosine_heatmap,
    gramian_caption,
    gramian_heatmap,
)
from tests.jdviz.figures.samples import jacobian, names


def gramian(m: int) -> np.ndarray:
    rows = jacobian(m)
    return rows @ rows.T


@pytest.mark.parametrize("m", [1, 2, 8, 9, 64])
def test_values_and_symmetric_colours(m: int) -> None:
    G = gramian(m)
    for figure, values, limit in (
        (
            gramian_heatmap(G, names(m), "light"),
            G,
            np.abs(G).max() if m <= 8 else np.quantile(np.diagonal(G), 0.9),
        ),
        (cosine_heatmap(G, names(m), "dark"), cosines(G), 1.0),
    ):
        cells = figure.data[0]
        np.testing.assert_array_equal(cells.z, values.astype(np.float32))
        assert cells.zmin == -cells.zmax
        assert cells.zmax == pytest.approx(limit)
        assert list(cells.x) == list(cells.y) == names(m)
        assert figure.layout.yaxis.scaleanchor == "x"
        assert figure.layout.yaxis.range == (m - 0.5, -0.5)
        assert len(figure.data) == (2 if m <= 8 else 1)


def test_a_gramian_of_mostly_zero_gradients_keeps_a_colour_scale() -> None:
    G = np.zeros((20, 20))
    G[0, 0] = 4.0
    assert gramian_heatmap(G, names(20), "light").data[0].zmax == 4.0
    assert gramian_heatmap(np.zeros((20, 20)), names(20), "light").data[0].zmax == 1.0


def test_a_cut_colour_scale_says_so() -> None:
    G = np.diag([*[1.0] * 19, 100.0])
    title = gramian_heatmap(G, names(20), "light").data[0].colorbar.title.text
    assert title == "inner product gᵢ·gⱼ, colour cut at the ends"
    assert "cut" not in gramian_heatmap(G[:8, :8], names(8), "light").data[0].colorbar.title.text


def test_groups_name_the_axes() -> None:
    groups = ["0", "0", "0", "3", "7", "7"]
    axis = cosine_heatmap(gramian(6), names(6), "light", groups=groups).layout.xaxis
    # The middle of places 0–2, of place 3, and of places 4–5 (rounded down).
    assert list(axis.tickvals) == [1, 3, 4]
    assert list(axis.ticktext) == ["0", "3", "7"]
    with pytest.raises(ValueError, match="5 groups, expected one for each of 6"):
        cosine_heatmap(gramian(6), names(6), "light", groups=groups[:5])


def test_hover_says_the_angle() -> None:
    G = np.array([[1.0, -1.0], [-1.0, 2.0]])
    cells = cosine_heatmap(G, ["a", "b"], "light").data[0]
    # cos⁻¹(-1/√2) is 135 degrees.
    np.testing.assert_array_equal(cells.customdata, [[0, 135], [135, 0]])
    assert "%{y} and %{x}: cosine" in cells.hovertemplate


def test_numbers_in_the_cells_of_few() -> None:
    numbers = cosine_heatmap([[1.0, -1.0], [-1.0, 2.0]], ["a", "b"], "light").data[1]
    assert list(numbers.text) == ["1.00", "−0.71", "−0.71", "1.00"]
    assert list(numbers.x) == ["a", "b", "a", "b"]
    assert list(numbers.y) == ["a", "a", "b", "b"]


def test_what_has_no_value_is_left_open() -> None:
    G = np.array([[1.0, np.nan, 0.0], [np.nan, np.inf, 0.0], [0.0, 0.0, 0.0]])
    raw, unit = gramian_heatmap(G, list("abc"), "light"), cosine_heatmap(G, list("abc"), "light")
    assert np.isnan(raw.data[0].z[1, :2]).all()
    assert raw.data[0].zmax == 1.0
    assert np.isfinite(unit.data[0].z).sum() == 1
    assert list(unit.data[1].text) == ["1.00"]
    assert unit.data[0].hoverongaps is False
    assert gramian_heatmap(np.zeros((2, 2)), list("ab"), "light").data[0].zmax == 1.0


def test_pinned_captions() -> None:
    # Lengths 1, 2 and √2; cosines 0, -1/√2 and 1/√2.
    rows = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    G = rows @ rows.T
    assert gramian_caption(G, ["a", "b", "c"]) == (
        "The longest gradient is 2.00× as long as the shortest (2.00 for b, 1.00 for a)."
    )
    assert cosine_caption(G, ["sample 1", "sample 2", "sample 5"]) == (
        "1 of 3 pairs is in conflict, the most sample 1 and 5: cosine −0.707, 135°."
    )
    assert cosine_caption(np.eye(2), ["a", "b"]) == (
        "No pair is in conflict; the lowest of 1 cosine is 0 (a and b, 90°)."
    )
    assert angle_caption(G) == (
        "1 of 3 pairs is in conflict, beyond 90° (33.3 %); the median angle is 90°."
    )
    assert "no" in angle_caption(np.zeros((2, 2))).lower()


def test_every_pair_is_in_the_histogram_once() -> None:
    G = gramian(20)
    agreement, conflict = angle_histogram(G, "light").data
    assert agreement.y.sum() + conflict.y.sum() == 190
    assert conflict.y.sum() / 190 == conflict_rate(G)
    angles = pair_angles_deg(G)
    for trace in (agreement, conflict):
        for (start, end), amount in zip(trace.customdata, trace.y, strict=True):
            assert amount == np.sum((angles > start) & (angles <= end))


def test_a_right_angle_is_no_conflict() -> None:
    agreement, conflict = angle_histogram(np.eye(3), "dark").data
    assert agreement.y[-1] == 3
    assert conflict.y.sum() == 0
    opposite = angle_histogram([[1.0, -1.0], [-1.0, 1.0]], "dark").data[1]
    assert opposite.y[-1] == 1
    # Two equal gradients have an angle of 0, which the first step holds.
    assert angle_histogram(np.ones((2, 2)), "dark").data[0].y[0] == 1


def test_what_does_not_fit_is_refused() -> None:
    for draw in (gramian_heatmap, cosine_heatmap):
        with pytest.raises(ValueError, match="expected a square one"):
            draw(np.zeros((2, 3)), ["a", "b"], "light")
        with pytest.raises(ValueError, match="expected one for each"):
            draw(np.eye(2), ["a"], "light")


def test_a_pair_has_a_frame_around_both_of_its_cells() -> None:
    figure = cosine_heatmap(gramian(4), names(4), "light", selected=(1, 3))
    frames = [(s.x0, s.x1, s.y0, s.y1) for s in figure.layout.shapes]
    assert frames == [(2.5, 3.5, 0.5, 1.5), (0.5, 1.5, 2.5, 3.5)]
    assert len(gramian_heatmap(gramian(4), names(4), "dark", selected=(2, 2)).layout.shapes) == 1
    assert not cosine_heatmap(gramian(4), names(4), "light").layout.shapes
    with pytest.raises(ValueError, match="expected places from 0 to 3"):
        gramian_heatmap(gramian(4), names(4), "light", selected=(0, 4))
