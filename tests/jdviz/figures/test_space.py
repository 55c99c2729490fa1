import math

import numpy as np
import pytest

from engines.aggregation import METHODS
from jdviz.figures import directions_radius, figure_table, space_caption, space_figure
from jdviz.figures.arrows_space import SPOKEN_HEADS, cut_at_ball, space_arrows, space_labels
from jdviz.figures.directions import LABELLED_GRADIENTS
from jdviz.figures.theme import DISTINCT_METHODS, LineStyle, method_style
from tests.jdviz.figures.test_cone_space import CONES

OCTANT = np.eye(3)
STYLE = LineStyle("#000000", "dash", "circle")


def places(trace) -> np.ndarray:
    """The points of a trace without its gaps."""
    points = zip(trace.x, trace.y, trace.z, strict=True)
    return np.array([point for point in points if point[0] is not None]).reshape(-1, 3)


def triangles(mesh) -> np.ndarray:
    vertices = np.stack([mesh.x, mesh.y, mesh.z], axis=1)
    return vertices[np.stack([mesh.i, mesh.j, mesh.k], axis=1)]


def test_arrows_end_in_heads_at_their_tips() -> None:
    vectors = np.array([[1.0, 0.0, 0.0], [0.0, -0.5, 0.5], [0.0, 0.0, 0.0], [np.nan, 1.0, 1.0]])
    shafts, heads, tips = space_arrows(vectors, STYLE, name="a", hover=list("abcd"), radius=2.0)
    np.testing.assert_array_equal(places(tips), vectors[:3])
    assert tips.hovertext == ("a", "", "b", "", "c", "")
    # A zero is a dot larger than the tips within heads.
    sizes = tips.marker.size[::2]
    assert sizes[0] == sizes[1] < sizes[2]
    assert shafts.line.dash == tips.line.dash == "dash"
    ends = places(shafts)
    np.testing.assert_array_equal(ends[0::2], np.zeros((2, 3)))
    for body, vector, end in zip(np.split(triangles(heads), 2), vectors, ends[1::2], strict=False):
        length = np.linalg.norm(vector)
        along = body.reshape(-1, 3) @ vector / length
        # The head ends at the tip, starts where the shaft has not ended yet, and points outwards.
        assert along.max() == pytest.approx(length)
        assert along.min() < np.linalg.norm(end) < length
        np.testing.assert_allclose(np.cross(end, vector), 0.0, atol=1e-15)
        middle = body.reshape(-1, 3).mean(axis=0)
        a, b, c = body.transpose(1, 0, 2)
        outwards = np.einsum("td,td->t", np.cross(b - a, c - a), a - middle)
        assert (outwards > 0).all()
    # One entry in the legend hides and shows all three.
    assert {trace.legendgroup for trace in (shafts, heads, tips)} == {"a"}
    assert (shafts.showlegend, heads.showlegend, tips.showlegend) == (False, False, None)


def test_heads_of_few_arrows_speak_and_short_arrows_have_short_heads() -> None:
    few = np.eye(3)[[0] * SPOKEN_HEADS]
    _, heads, _ = space_arrows(few, STYLE, name="a", hover=["b"] * len(few), radius=1.0)
    assert set(heads.hovertext) == {"b"}
    assert len(heads.hovertext) == len(heads.x)
    more = np.concatenate([few, few[:1]])
    _, heads, _ = space_arrows(more, STYLE, name="a", hover=["b"] * len(more), radius=1.0)
    assert (heads.hovertext, heads.hoverinfo) == (None, "skip")
    _, heads, _ = space_arrows(few[:1] * 0.01, STYLE, name="a", hover=["b"], radius=1.0)
    assert 0 < np.min(heads.x) < np.max(heads.x) == 0.01


def test_labels_stand_beyond_their_tips_and_crowded_ones_are_one() -> None:
    vectors = np.array([[1.0, 0, 0], [0, 2.0, 0], [1.0, 0.01, 0], [0, 0, 0], [np.nan, 0, 0]])
    labels = space_labels(vectors, list("abcde"), 2.0, "light")
    assert labels.text == ("a, c", "b", "d")
    np.testing.assert_allclose(places(labels), [[1.14, 0, 0], [0, 2.14, 0], [0, 0, 0]])


def test_what_leaves_the_ball_ends_on_it() -> None:
    ends, cut = cut_at_ball(np.array([[3.0, 0.0, 4.0], [0.1, 0.2, 0.3], [np.nan, 0, 0]]), 1.0)
    np.testing.assert_allclose(ends[:2], [[0.6, 0.0, 0.8], [0.1, 0.2, 0.3]])
    assert cut == 1


def test_directions_are_drawn_where_they_point() -> None:
    fan = np.array([[0.1, 0.2, 0.3], [0.3, 0.4, -0.5]])
    figure = space_figure(OCTANT, {"UPGrad": [0.2, 0.5, 0.1], "PCGrad": fan}, "light")
    cone, edges, _, _, gradients, _, _, upgrad, shafts, _, pcgrad, labels = figure.data
    assert (cone.type, edges.name) == ("mesh3d", "hurts none: a cone")
    np.testing.assert_array_equal(places(gradients), OCTANT)
    np.testing.assert_array_equal(places(upgrad), [[0.2, 0.5, 0.1]])
    np.testing.assert_array_equal(places(pcgrad), fan)
    style = method_style("PCGrad", "light")
    assert (shafts.line.color, shafts.line.dash) == (style.color, style.dash)
    assert pcgrad.name == "PCGrad (2 seeds)"
    assert upgrad.hovertext[0] == "UPGrad: length 0.548, makes no objective worse"
    assert pcgrad.hovertext[2] == "PCGrad: length 0.707, makes objective 3 worse"
    assert labels.text == ("g₁", "g₂", "g₃")
    # The surface hides the arrows inside from the pointer, so it says what they would.
    assert cone.hovertext == (
        "hurts none: a cone with 3 edges<br>UPGrad: length 0.548, makes no objective worse"
    )
    known = space_figure(OCTANT, {"PCGrad": fan}, "light", remarks={"PCGrad": "2 orders"})
    assert known.data[-2].name == "PCGrad (2 orders)"


def test_the_ball_is_as_large_as_the_gradients_need() -> None:
    # Gradients of length 1, so a direction of length √12 = 3.46 ends at 1.5.
    directions = {"Mean": [2.0, 2.0, 2.0]}
    # And 1.18 times that is 1.77; the next round number is 2.
    assert directions_radius(OCTANT, directions) == 2.0
    assert directions_radius(np.zeros((3, 3)), {"Mean": [0.0, 0.0, 3.0]}) == 4.0
    figure = space_figure(OCTANT, directions, "dark")
    cone, edges = figure.data[:2]
    for trace in (cone, edges):
        lengths = np.linalg.norm(places(trace), axis=1)
        assert lengths.max() == pytest.approx(1.5)
    np.testing.assert_allclose(places(figure.data[7]), [[0.75**0.5] * 3])
    assert figure.data[7].hovertext[0].startswith("Mean: length 3.46, cut short here")


def test_the_box_is_close_around_all_that_is_drawn() -> None:
    # The labels are 0.07 radii beyond the tips, and the room around them is 0.06.
    flat = [[1.0, 0.0, 0.0], [0.0, 0.5, 0.0], [-1.0, 0.0, 0.0]]
    figure = space_figure(flat, {}, "light")
    scene = figure.layout.scene
    np.testing.assert_allclose(scene.xaxis.range, [-1.13, 1.13])
    # The cone holds what has no first part and points upwards in the second: a half disc.
    np.testing.assert_allclose(scene.zaxis.range, [-1.06, 1.06])
    # The half disc is from 0 to 1, the heads of the two arrows across 0.12 · 0.3 to either side.
    # Three fifths of the widest, 2.14, is 1.284: 0.642 to either side of 0.482.
    np.testing.assert_allclose(scene.yaxis.range, [0.482 - 0.702, 0.482 + 0.702])
    assert scene.aspectmode == "manual"
    ratio = scene.aspectratio
    np.testing.assert_allclose([ratio.x, ratio.y, ratio.z], [1.0, 1.404 / 2.26, 2.12 / 2.26])
    scene = space_figure(OCTANT, {}, "light", radius=2.0).layout.scene
    for axis in (scene.xaxis, scene.yaxis, scene.zaxis):
        assert axis.range == (-2.0, 2.0)
    assert (scene.aspectratio.x, scene.aspectratio.z) == (1.0, 1.0)


def test_a_radius_keeps_all_but_arrows_and_cone_still() -> None:
    near = space_figure(OCTANT, {"Mean": [0.3, 0.3, 0.3]}, "light", radius=2.0)
    far = space_figure(-4 * OCTANT, {"Mean": [0.0, 3.0, 4.0]}, "light", radius=2.0)
    assert near.layout == far.layout
    assert [t.name for t in near.data] == [t.name for t in far.data]
    assert near.data[1].name == "hurts none"
    gradients, mean, labels = far.data[4], far.data[7], far.data[8]
    np.testing.assert_array_equal(places(gradients), -2 * OCTANT)
    assert gradients.hovertext[0] == "g₁, objective 1: length 4.00, cut short here"
    np.testing.assert_allclose(places(mean), [[0.0, 1.2, 1.6]])
    assert mean.hovertext[0] == (
        "Mean: length 5.00, cut short here, makes objective 2 and objective 3 worse"
    )
    np.testing.assert_allclose(places(labels), -2 * 1.07 * OCTANT)


def test_a_turn_is_kept_while_the_figure_changes() -> None:
    scenes = [space_figure(k * OCTANT, {}, "light").layout.scene for k in (1, 5)]
    assert scenes[0].camera == scenes[1].camera
    assert scenes[0].uirevision == scenes[1].uirevision is not None
    assert scenes[0].dragmode == "turntable"


@pytest.mark.parametrize("name", CONES)
def test_every_kind_of_cone_has_as_many_traces(name: str) -> None:
    J = np.array(CONES[name][1])
    figure = space_figure(J, {"Mean": np.zeros(3)}, "light")
    assert [t.type for t in figure.data] == [
        "mesh3d",
        "scatter3d",
        *("scatter3d", "mesh3d", "scatter3d") * 2,
        "scatter3d",
    ]
    edges = figure.data[1]
    # A trace without any place has no entry in the legend.
    assert len(places(edges))
    assert (edges.mode == "markers") == (CONES[name][0] == "origin")
    assert edges.hovertext.startswith(edges.name)


def test_methods_beyond_the_colours_share_three_traces() -> None:
    directions = {name: [index + 1.0, 1.0, 1.0] for index, name in enumerate(METHODS)}
    figure = space_figure(30 * OCTANT, directions, "light")
    assert len(figure.data) == 6 + 3 * (DISTINCT_METHODS + 1)
    others = figure.data[7]
    assert others.name == f"{len(METHODS) - DISTINCT_METHODS} other methods"
    np.testing.assert_array_equal(places(others), list(directions.values())[DISTINCT_METHODS:])


@pytest.mark.parametrize("m", [LABELLED_GRADIENTS, LABELLED_GRADIENTS + 1])
def test_only_few_gradients_have_labels(m: int) -> None:
    angles = np.arange(m)
    rows = np.stack([np.cos(angles), np.sin(angles), np.ones(m)], axis=1)
    figure = space_figure(rows, {}, "light")
    shown = [label for text in figure.data[-1].text for label in text.split(", ")]
    assert len(shown) == (m if m <= LABELLED_GRADIENTS else 0)
    assert len(places(figure.data[4])) == m


def test_pinned_captions() -> None:
    assert space_caption(OCTANT, {"Mean": [1.0, 1.0, 1.0]}) == (
        "The directions that make none of 3 objectives worse are a cone with 3 edges; every method "
        "shown stays among them."
    )
    # Half-spaces whose normals are 135° apart leave 45°.
    assert space_caption([[1.0, 0, 0], [-1.0, 1.0, 0]], {}) == (
        "The directions that make none of 2 objectives worse are a wedge between two planes, 45° "
        "wide."
    )
    hurting = {"Mean": [-1.0, 0.0, 0.0], "PCGrad": [[0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]}
    assert space_caption(OCTANT, hurting, names=["a", "b", "c"]).endswith(
        "; Mean makes a worse and PCGrad can make b and c worse."
    )


def test_the_table_has_places_along_three_axes() -> None:
    table = figure_table(space_figure(OCTANT, {"Mean": [0.5, 0.25, 0.0]}, "light"))
    assert list(table["name"]) == ["hurts none: a cone", *["gradients"] * 3, "Mean"]
    axes = ["first parameter", "second parameter", "third parameter"]
    assert list(table.columns) == ["name", *axes, "in words"]
    np.testing.assert_array_equal(table[axes].to_numpy()[1:], [*OCTANT, [0.5, 0.25, 0.0]])
    assert all(math.isnan(value) for value in table[axes].to_numpy()[0])
    assert table["in words"][0] == "hurts none: a cone with 3 edges"
    assert table["in words"][4] == "Mean: length 0.559, makes no objective worse"


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[m, 3\]"):
        space_figure(np.eye(2), {}, "light")
    with pytest.raises(ValueError, match=r"for Mean, expected \[3\] or \[s, 3\]"):
        space_figure(OCTANT, {"Mean": [1.0, 2.0]}, "light")
