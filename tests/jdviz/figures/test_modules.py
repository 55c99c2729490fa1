import numpy as np
import pytest

from jdviz.figures import (
    layer_conflict,
    layer_conflict_caption,
    leading_plane_caption,
    leading_plane_figure,
    pair_layers,
    pair_layers_caption,
    spectrum_bars,
    spectrum_caption,
)
from jdviz.figures.modules import ROWS
from jdviz.figures.theme import PALETTES
from tests.jdviz.figures.watched import shares

NAMES = ["a", "b", "c"]


def split() -> dict[str, np.ndarray]:
    """Conflicts (0, 1) of -2 and (1, 2) of -0.5 in the sum, and an agreement (0, 2) of 2."""
    return {
        "body": np.array([[4.0, -3.0, 1.0], [-3.0, 4.0, -1.0], [1.0, -1.0, 1.0]]),
        "head": np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 0.5], [1.0, 0.5, 4.0]]),
    }


def test_parts_of_conflict_and_of_agreement() -> None:
    figure = layer_conflict(split(), "light")
    conflict, agreement = figure.data
    assert list(conflict.y) == ["body", "head"]
    # -4 and +1.5 of -2.5; 1 and 1 of 2.
    np.testing.assert_allclose(conflict.x, [160.0, -60.0])
    np.testing.assert_allclose(agreement.x, [50.0, 50.0])
    assert conflict.marker.color == PALETTES["light"].negative
    assert conflict.hovertext[0] == (
        "body: 160 % of the conflict (sum −4.00)<br>within it 66.7 % of the pairs conflict, "
        "smallest cosine −0.750"
    )
    assert list(figure.layout.yaxis.range) == [1.5, -0.5]


def test_many_modules_share_a_row_and_still_add_up() -> None:
    parts = shares(6, modules=40)
    figure = layer_conflict(parts, "dark")
    for trace in figure.data:
        assert len(trace.y) == ROWS
        assert trace.y[-1] == f"{40 - ROWS + 1} other modules"
        assert sum(trace.x) == pytest.approx(100.0, rel=1e-5)
    # Those that are kept stay in the order of the network.
    kept = list(figure.data[0].y[:-1])
    assert kept == [path for path in parts if path in kept]


def test_long_paths_keep_their_end_and_stay_distinct() -> None:
    paths = [f"{'encoder.' * 6}{place}.weight" for place in range(2)] + [""]
    rows = list(layer_conflict(dict.fromkeys(paths, np.eye(2)), "light").data[0].y)
    assert rows[0].startswith("…")
    assert rows[0].endswith("0.weight")
    assert rows[2] == "the model itself"
    alike = ["x" * 20 + "y" * 30, "z" * 20 + "y" * 30]
    assert len(set(layer_conflict(dict.fromkeys(alike, np.eye(2)), "light").data[0].y)) == 2


def test_pinned_layer_captions() -> None:
    assert layer_conflict_caption(split()) == (
        "The largest part of the conflict, 160 %, is in body, as is 50.0 % of the agreement; 1 of "
        "2 modules softens it."
    )
    assert layer_conflict_caption({"a": np.ones((2, 2)), "b": np.eye(2)}) == (
        "No pair is in conflict, so none of 2 modules carries any."
    )
    assert layer_conflict_caption({}) == "The step was not split over modules."


def test_one_entry_adds_up_over_the_modules() -> None:
    figure = pair_layers(split(), 0, 1, NAMES, "light")
    (trace,) = figure.data
    np.testing.assert_array_equal(trace.x, [-3.0, 1.0, -2.0])
    assert list(trace.measure) == ["relative", "relative", "total"]
    assert trace.totals.marker.color == PALETTES["light"].negative
    assert list(trace.hovertext) == ["body: −3.00", "head: +1.00", "sum, a · b: −2.00"]
    assert figure.layout.xaxis.title.text == "inner product a · b"
    length = pair_layers(split(), 2, 2, NAMES, "light")
    np.testing.assert_array_equal(length.data[0].x, [1.0, 4.0, 5.0])
    many = pair_layers(shares(3, modules=40), 0, 1, NAMES, "dark").data[0]
    assert len(many.x) == ROWS + 1
    assert sum(many.x[:-1]) == pytest.approx(many.x[-1], rel=1e-5)


def test_pinned_pair_captions() -> None:
    assert pair_layers_caption(split(), 0, 1, NAMES) == (
        "A and b are in conflict (−2.00): body pulls them apart most (−3.00), head together most "
        "(+1.00)."
    )
    assert pair_layers_caption(split(), 0, 2, NAMES) == (
        "A and c are in agreement (+2.00): body together most (+1.00)."
    )
    assert pair_layers_caption(split(), 2, 2, NAMES) == (
        "The squared length of the gradient of c is 5.00; the most of it, 4.00, is in head."
    )
    assert pair_layers_caption({"x": np.eye(2)}, 0, 1, ["a", "b"]) == (
        "A and b are at a right angle (0)."
    )


def test_what_does_not_fit_a_split_is_refused() -> None:
    with pytest.raises(ValueError, match="expected places from 0 to 2"):
        pair_layers(split(), 0, 3, NAMES, "light")
    with pytest.raises(ValueError, match="expected one for each of the 3 objectives"):
        pair_layers_caption(split(), 0, 1, ["a"])
    with pytest.raises(ValueError, match="expected a square matrix"):
        layer_conflict({"a": np.zeros((2, 3))}, "light")


def test_eigenvalues_descend_and_two_lead() -> None:
    leading, others = spectrum_bars(np.diag([1.0, 4.0, 5.0]), "light").data
    np.testing.assert_array_equal(leading.x, [1, 2])
    np.testing.assert_allclose(leading.y, [5.0, 4.0])
    np.testing.assert_allclose(others.y, [1.0])
    np.testing.assert_allclose(leading.customdata, [50.0, 40.0])
    assert leading.marker.color != others.marker.color
    assert spectrum_caption(np.diag([1.0, 1.0, 1.0, 0.0])) == (
        "The gradients spread over 3.00 of 4 directions (effective rank); the two leading ones "
        "hold 66.7 % of the squared lengths."
    )
    assert spectrum_caption(np.eye(2)) == (
        "The gradients spread over 2.00 of 2 directions (effective rank)."
    )
    assert spectrum_caption(np.zeros((2, 2))) == "There is no gradient with a length yet."


def test_leading_plane() -> None:
    figure = leading_plane_figure(np.diag([9.0, 4.0, 1.0]), NAMES, "dark")
    tips = [(trace.x[1], trace.y[1]) for trace in figure.data[:2]]
    np.testing.assert_allclose(tips, [(3.0, 0.0), (0.0, 2.0)], atol=1e-12)
    assert "64.3 % of the squared lengths" in figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text == "along the second (28.6 %)"
    assert leading_plane_caption(np.diag([9.0, 4.0, 1.0]), NAMES) == (
        "The plane shows 92.9 % of the gradients' squared lengths and does not show 7.14 %; of c "
        "it shows least, 0 %."
    )
    assert leading_plane_caption(np.eye(2), ["a", "b"]) == "The plane shows all of the gradients."
    assert leading_plane_caption(np.zeros((3, 3)), NAMES).startswith("There is no gradient")
