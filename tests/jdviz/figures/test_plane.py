import math
from types import SimpleNamespace

import numpy as np
import pytest

from engines.aggregation import METHODS
from jdviz.conflict import UpdatePlane, update_plane
from jdviz.figures import (
    comparison_caption,
    directions_caption,
    directions_figure,
    directions_frame,
    dual_cone_2d,
    plane_caption,
    update_plane_figure,
)
from jdviz.figures.arrows import tip_labels
from jdviz.figures.theme import DISTINCT_METHODS, method_style
from tests.jdviz.figures.samples import jacobian, names

CONES = {
    "plane": [[0.0, 0.0]],
    "half-plane": [[1.0, 1.0], [0.5, 0.5], [0.0, 0.0]],
    "wedge": [[1.0, 0.2], [-0.3, 1.0]],
    "line": [[1.0, 2.0], [-2.0, -4.0]],
    "ray": [[1.0, 0.0], [-1.0, 0.0], [0.3, 1.0]],
    "origin": [[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]],
}


def tips(trace) -> np.ndarray:
    """The arrow tips of a trace, whose points are origin, tip, gap in turn."""
    x, y = np.array(trace.x, dtype=float), np.array(trace.y, dtype=float)
    assert not np.nan_to_num(x[0::3]).any()
    assert not np.nan_to_num(y[0::3]).any()
    return np.stack([x[1::3], y[1::3]], axis=1)


@pytest.mark.parametrize("kind", CONES)
class TestDualCone:
    def test_kind(self, kind: str) -> None:
        assert dual_cone_2d(CONES[kind]).kind == kind

    def test_outline_is_the_cone(self, kind: str) -> None:
        # Every direction against its definition, and against the described opening.
        gradients, cone = np.array(CONES[kind]), dual_cone_2d(CONES[kind])
        for angle in np.linspace(0, 2 * math.pi, 721):
            allowed = bool((gradients @ [math.cos(angle), math.sin(angle)] >= -1e-9).all())
            turned = (
                abs(math.remainder(angle - cone.center, 2 * math.pi))
                if cone.kind
                not in (
                    "plane",
                    "origin",
                )
                else 0.0
            )
            if kind in ("wedge", "half-plane"):
                assert allowed == (turned <= cone.opening / 2 + 1e-9)
            elif kind == "ray":
                assert allowed == (turned < 1e-9)
            elif kind == "line":
                assert not allowed or min(turned, math.pi - turned) < 1e-9
            else:
                assert allowed == (kind == "plane")
        edge = cone.outline(10.0)
        assert (edge @ gradients.T >= -1e-9).all()
        if kind != "origin":
            assert np.linalg.norm(edge, axis=1).max() == pytest.approx(10.0)

    def test_any_order_and_length(self, kind: str) -> None:
        gradients = np.array(CONES[kind])
        moved = dual_cone_2d((gradients * [[1e-6]])[::-1])
        assert moved.kind == kind
        if not math.isnan(moved.center) and kind != "line":
            assert moved.center == pytest.approx(dual_cone_2d(gradients).center)

    def test_figure_and_caption(self, kind: str) -> None:
        figure = directions_figure(CONES[kind], {"Mean": np.mean(CONES[kind], axis=0)}, "light")
        assert figure.data[0].name.startswith("hurts none: ")
        assert (figure.data[0].fill == "toself") == (kind in ("plane", "half-plane", "wedge"))
        assert directions_caption(CONES[kind], {}).endswith(".")
        assert len(figure.data) == 4


def test_cone_ignores_what_is_not_finite() -> None:
    assert dual_cone_2d([[1.0, 0.0], [np.nan, 1.0]]).kind == "half-plane"
    with pytest.raises(ValueError, match=r"expected \[m, 2\]"):
        dual_cone_2d(np.eye(3))


@pytest.mark.parametrize("m", [1, 2, 7, 64])
def test_plane_shows_the_coordinates(m: int) -> None:
    rows = jacobian(m)
    plane = update_plane(rows @ rows.T, np.linspace(0.1, 1.0, m))
    figure = update_plane_figure(plane, names(m), "light")
    *first, mean, update = figure.data
    drawn = [trace for trace in first if trace.mode == "lines+markers"]
    np.testing.assert_array_equal(np.concatenate([tips(t) for t in drawn]), plane.gradients)
    np.testing.assert_array_equal(tips(mean)[0], plane.mean)
    np.testing.assert_array_equal(tips(update)[0], plane.update)
    assert mean.line.dash == "dot"
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        low, high = axis.range
        assert low == -high
        assert high > np.abs(plane.gradients).max()
    assert figure.layout.yaxis.scaleanchor == "x"


def test_heads_and_dots() -> None:
    plane = UpdatePlane(
        gradients=np.array([[1.0, 0.0], [0.0, 0.0], [np.nan, 1.0]]),
        mean=np.array([0.5, 0.0]),
        update=np.zeros(2),
        captured=np.ones(3),
    )
    figure = update_plane_figure(plane, list("abc"), "dark")
    long, zero, missing = figure.data[:3]
    assert long.marker.symbol[1] == "arrow"
    assert long.marker.angleref == "previous"
    assert zero.marker.symbol[1] == "circle"
    assert len(missing.x) == 0
    assert list(figure.data[3].text) == ["g₁", "g₂"]


def test_crowded_tips_share_a_label() -> None:
    labels = tip_labels(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.01]]), list("abc"), 1.0, "light")
    assert list(labels.text) == ["a, c", "b"]
    assert list(labels.textposition) == ["middle right", "top center"]


def test_pinned_plane_caption() -> None:
    # Mean along x with length 1, update (1, 1): 45 degrees and √2 times as long.
    plane = UpdatePlane(
        gradients=np.array([[1.0, 0.0]]),
        mean=np.array([1.0, 0.0]),
        update=np.array([1.0, 1.0]),
        captured=np.array([0.5]),
    )
    assert plane_caption(plane) == (
        "The update turns 45° from the mean gradient and is 1.41× as long; the plane shows 50.0 % "
        "of the gradients (mean share of squared length)."
    )


def test_directions_are_drawn_where_they_point() -> None:
    gradients, fan = np.array([[1.0, 0.0], [-0.5, 1.0]]), np.array([[0.1, 0.2], [0.3, 0.4]])
    figure = directions_figure(gradients, {"UPGrad": [0.2, 0.5], "PCGrad": fan}, "light")
    _, drawn, pcgrad, upgrad, _ = figure.data
    np.testing.assert_array_equal(tips(drawn), gradients)
    np.testing.assert_array_equal(tips(pcgrad), fan)
    np.testing.assert_array_equal(tips(upgrad), [[0.2, 0.5]])
    style = method_style("UPGrad", "light")
    assert (upgrad.line.color, upgrad.line.dash) == (style.color, style.dash)
    assert upgrad.hovertext[1].startswith("UPGrad: length 0.539, makes no objective worse")


def test_a_fan_says_what_its_directions_are() -> None:
    fan = np.array([[0.1, 0.2], [0.3, 0.4]])
    known = directions_figure(np.eye(2), {"PCGrad": fan}, "light", remarks={"PCGrad": "2 orders"})
    assert known.data[2].name == "PCGrad (2 orders)"
    assert directions_figure(np.eye(2), {"PCGrad": fan}, "light").data[2].name == "PCGrad (2 seeds)"


def test_methods_beyond_the_colours_share_one_trace() -> None:
    gradients = np.array([[1.0, 0.0], [0.0, 1.0]])
    directions = {name: [index + 1.0, 1.0] for index, name in enumerate(METHODS)}
    figure = directions_figure(gradients, directions, "light")
    assert len(figure.data) == 3 + DISTINCT_METHODS + 1
    others = figure.data[2]
    assert others.name == f"{len(METHODS) - DISTINCT_METHODS} other methods"
    np.testing.assert_array_equal(tips(others), list(directions.values())[DISTINCT_METHODS:])
    names_on_hover = [words.split(":")[0] for words in others.hovertext if words]
    assert names_on_hover == list(METHODS)[DISTINCT_METHODS:]
    few = directions_figure(gradients, {"Mean": [1.0, 1.0]}, "light")
    assert figure.layout.height > few.layout.height


def test_a_frame_keeps_all_but_the_arrows_still() -> None:
    near = directions_figure([[1.0, 0.0], [0.0, 1.0]], {"Mean": [0.5, 0.5]}, "light", frame=2.0)
    # The first gradient and the mean leave the square; the two together allow a line alone.
    far = directions_figure([[4.0, 0.0], [-1.0, 0.0]], {"Mean": [3.0, 1.0]}, "light", frame=2.0)
    for figure in (near, far):
        assert figure.layout.xaxis.range == figure.layout.yaxis.range == (-2.0, 2.0)
        assert [t.name for t in figure.data] == ["dual cone: hurts none", "gradients", "Mean", None]
    _, gradients, mean, labels = far.data
    np.testing.assert_array_equal(tips(gradients), [[2.0, 0.0], [-1.0, 0.0]])
    assert gradients.hovertext[1] == "g₁, objective 1: length 4.00, cut short here"
    assert gradients.hovertext[4] == "g₂, objective 2: length 1.00"
    np.testing.assert_allclose(tips(mean), [[2.0, 2 / 3]])
    assert mean.hovertext[1] == "Mean: length 3.16, cut short here, makes objective 2 worse"
    np.testing.assert_array_equal([labels.x, labels.y], [[2.0, -1.0], [0.0, 0.0]])


def test_what_has_to_be_known_about_the_methods_shown() -> None:
    def method(name: str, **known: object) -> SimpleNamespace:
        return SimpleNamespace(
            **{"name": name, "random": False, "stateful": False, "statistic": "gramian", **known}
        )

    assert comparison_caption([method("Plain")], {}) == ""
    assert comparison_caption(
        [method("Dice", random=True), method("Past", stateful=True)], {"Dice": "48 seeds"}
    ) == (
        "Random methods are drawn as fans, Dice for 48 seeds; bars and table show the mean. "
        "Past has memory: shown is its first step after reset."
    )
    assert comparison_caption([method("Twice", statistic="product")], {}) == (
        "Twice wants the gradients of two independent batches: here both are these."
    )
    many = comparison_caption([method(str(index)) for index in range(10)], {})
    assert many.startswith("The first 8 methods have colours, the other 2 are")


def test_caption_names_who_is_hurt() -> None:
    gradients = [[1.0, 0.0], [-1.0, 0.1]]
    assert directions_caption(gradients, {"Mean": [0.0, 0.05], "Sum": [1.0, 0.0]}) == (
        "The directions that make none of 2 objectives worse are a wedge; "
        "Sum makes objective 2 worse."
    )
    fan = [[1.0, 0.0], [-1.0, 0.0]]
    assert directions_caption(gradients, {"PCGrad": fan}).endswith(
        "PCGrad can make objective 1 and objective 2 worse."
    )
    # On the cone's edge up to rounding: nobody is hurt.
    assert directions_caption(gradients, {"Mean": [-1e-12, 1.0]}).endswith("stays among them.")
    with pytest.raises(ValueError, match=r"expected \[2\] or \[s, 2\]"):
        directions_figure(gradients, {"Mean": [1.0, 2.0, 3.0]}, "light")


def test_many_gradients_far_longer_than_the_update_are_cut_at_the_frame() -> None:
    rows = np.full((20, 2), 0.1)
    rows[0] = 400.0, 300.0
    plane = UpdatePlane(
        gradients=rows,
        mean=np.array([1.0, 0.0]),
        update=np.array([0.5, 0.5]),
        captured=np.ones(20),
    )
    figure = update_plane_figure(plane, names(20), "light")
    frame = figure.layout.xaxis.range[1]
    assert "1 cut at the frame" in figure.data[0].name
    # The direction stays, 4 to 3; the longer side ends at the frame.
    np.testing.assert_allclose(tips(figure.data[0])[0], [frame, 0.75 * frame])
    np.testing.assert_allclose(tips(figure.data[0])[1:], rows[1:])
    # The words still say the true length, 5 · 100.
    assert any("length in the plane 500," in words for words in figure.data[0].hovertext)


def test_the_frame_of_a_pad_holds_the_gradients_and_not_every_sum():
    gradients = np.array([[2.0, 0.0], [0.0, 1.0]])
    # 1.18 times the longest gradient, and the next round number.
    assert directions_frame(gradients, {}) == 3.0
    assert directions_frame(gradients, {"Mean": [1.0, 0.5]}) == 3.0
    assert directions_frame(gradients, {"Sum": [2.5, 1.0]}) == 3.0
    assert directions_frame(gradients, {"Sum": [0.0, 90.0]}) == 4.0
    assert directions_frame(np.zeros((2, 2)), {"Sum": [0.5, 0.0]}) == 0.75
    assert directions_frame(np.zeros((2, 2)), {}) == 1.0


def test_what_goes_on_beyond_the_frame_has_no_head():
    figure = directions_figure(
        [[1.0, 0.0], [0.0, 1.0]], {"Sum": [0.0, 9.0], "Mean": [0.5, 0.5]}, "light", frame=2.0
    )
    tall, mean = (
        next(trace for trace in figure.data if trace.name == name) for name in ("Sum", "Mean")
    )
    assert (tall.y[1], tall.marker.size[1]) == (2.0, 0.0)
    assert mean.marker.size[1] == 13.0
