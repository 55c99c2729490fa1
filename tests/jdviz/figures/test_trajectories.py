"""Pictures of descent paths: what they draw, what stays from step to step, and their sentences."""

import json
import re

import numpy as np
import pytest

from jdviz.figures import (
    CosineField,
    distance_caption,
    distance_lines,
    figure_table,
    objective_paths,
    objective_paths_caption,
    outcome_sentence,
    parameter_paths,
    parameter_paths_caption,
)
from jdviz.figures.frame import template
from jdviz.figures.outline import outline
from jdviz.figures.theme import PALETTES, UI_REVISION, method_styles
from jdviz.figures.trajectory_traces import last_seen

STEPS = 4
LINE = np.arange(5.0)[:, None] * [[-1.0, 0.0]]
# From (4, 1) and (4, 2) to the left; Mean ends early from the second start.
TRACKS = {
    "UPGrad": [LINE + np.array([4, 1]), LINE / 2 + [4, 2]],
    "Mean": [LINE / 4 + [4, 1], np.array([[4, 2], [6, 2], [9, 2]])],
}
PARETO = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
FIELD = CosineField(
    np.linspace(0, 4, 4),
    np.linspace(0, 3, 4),
    np.linspace(-1, 1, 16).reshape(4, 4),
    ((0, 4), (0, 3)),
)
DISTANCES = {
    "UPGrad": [[4.0, 2.0, 1.0, 0.5, 1e-9], [3.0, 1.0, 0.0, 0.0, 0.0]],
    "Mean": [[4.0, 3.0, 2.0, 1.0, 0.5], [3.0, 5.0, 9.0]],
}
COLOR = re.compile(r"#[0-9A-Fa-f]{6}\b|rgba?\([^)]*\)")


def parameters(step=STEPS, theme="light", tracks=TRACKS, **given):
    return parameter_paths(FIELD, tracks, PARETO, step, theme, steps=STEPS, **given)


def objectives(step=STEPS, theme="light", tracks=TRACKS, **given):
    return objective_paths(tracks, PARETO, step, theme, steps=STEPS, **given)


def distances(step=STEPS, theme="light"):
    return distance_lines(DISTANCES, step, theme, steps=STEPS)


FIGURES = {
    "parameters": parameters,
    "parameters apart": lambda *a: parameters(*a, apart=True),
    "objectives": objectives,
    "objectives apart": lambda *a: objectives(*a, apart=True),
    "distances": distances,
}


def named(figure, name):
    return [trace for trace in figure.data if trace.name == name]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_frame_and_colours(name, theme):
    figure = FIGURES[name](2, theme)
    assert figure.layout.template.to_plotly_json() == template(theme).to_plotly_json()
    assert figure.layout.uirevision == UI_REVISION
    assert figure.layout.width is None
    other = PALETTES["dark" if theme == "light" else "light"]
    foreign = {other.background, other.grid, *other.categorical} - {
        *PALETTES[theme].categorical,
        *PALETTES[theme].ink,
    }
    text = figure.to_json()
    json.loads(text, parse_constant=pytest.fail)
    assert not set(COLOR.findall(text)) & foreign


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_moves_but_the_paths_from_step_to_step(name):
    first, last = FIGURES[name](0), FIGURES[name](STEPS)
    assert [trace.type for trace in first.data] == [trace.type for trace in last.data]
    assert [trace.name for trace in first.data] == [trace.name for trace in last.data]
    assert [trace.showlegend for trace in first.data] == [trace.showlegend for trace in last.data]
    assert first.layout.height == last.layout.height
    for key in first.layout:
        if key[1:5] == "axis":
            assert first.layout[key].range == last.layout[key].range


@pytest.mark.parametrize("build", [parameters, objectives])
def test_a_path_is_drawn_up_to_the_step(build):
    figure = build(2)
    (trace,) = named(figure, "UPGrad, start 2")
    np.testing.assert_array_equal(trace.x, [4.0, 3.5, 3.0])
    np.testing.assert_array_equal(trace.y, [2.0, 2.0, 2.0])
    style = method_styles(["UPGrad", "Mean"], "light")["UPGrad"]
    assert (trace.line.color, trace.line.dash) == (style.color, style.dash)
    (heads,) = named(figure, "UPGrad")
    np.testing.assert_array_equal(heads.x, np.float32([2.0, np.nan, 3.0, np.nan]))
    assert heads.marker.symbol == style.symbol
    (starts,) = [trace for trace in figure.data if trace.text is not None]
    assert starts.text == ("1", "2")
    np.testing.assert_array_equal(starts.y, [1.0, 2.0])


@pytest.mark.parametrize("build", [parameters, objectives])
def test_a_path_that_diverged_ends_in_a_cross_once_it_has(build):
    (before,), (after,) = named(build(2), "diverged"), named(build(3), "diverged")
    assert len(before.x) == 0
    # From (4, 2) to the right: at the edge of the frame, or 6 % beyond the last start.
    edge = 4.0 if build is parameters else np.float32(4.24)
    np.testing.assert_array_equal([*after.x, *after.y], [edge, 2.0])
    assert before.showlegend
    assert after.showlegend
    complete = {"UPGrad": TRACKS["UPGrad"]}
    (none,) = named(build(4, tracks=complete), "diverged")
    assert len(none.x) == 0
    assert not none.showlegend


def test_where_a_path_is_last_seen():
    low, high = np.array([-1.0, -1.0]), np.array([1.0, 1.0])
    # Out by the upper edge after a third of the way, and in again to leave by the left one.
    path = np.array([[0, 0], [1, 3], [0.5, -0.5], [-2.5, 0.5], [-9, 9]])
    np.testing.assert_allclose(last_seen(path, low, high), [-1.0, 0.0])
    np.testing.assert_allclose(last_seen(path[:2], low, high), [1 / 3, 1.0])
    np.testing.assert_array_equal(last_seen(path[:3], low, high), [0.5, -0.5])


def test_the_cosines_lie_behind_and_answer_to_a_click():
    figure = parameters()
    field = figure.data[0]
    assert field.type == "contour"
    np.testing.assert_array_equal(field.z, FIELD.cosines.round(2))
    assert (field.x0, field.dx, field.y0, field.dy) == (0.0, 4 / 3, 0.0, 1.0)
    assert (field.zmin, field.zmax) == (-1.0, 1.0)
    # A trace with hover text would take the click from what lies behind it.
    assert all(trace.hoverinfo == "skip" for trace in figure.data[1:])
    assert field.hoverinfo != "skip"
    assert figure.layout.xaxis.range == (0, 4)
    assert figure.layout.yaxis.range == (0, 3)


def test_where_there_is_no_angle_the_field_has_a_hole():
    gap = CosineField(FIELD.x, FIELD.y, np.array([[np.nan, -0.001], [0.126, 1]]), FIELD.frame)
    figure = parameter_paths(gap, TRACKS, PARETO, 0, "light", steps=STEPS)
    assert json.dumps(figure.data[0].z) == "[[null, 0.0], [0.13, 1.0]]"


def test_lines_of_one_cosine_only_where_it_varies():
    assert parameters().data[0].contours.showlines
    flat = CosineField(FIELD.x, FIELD.y, np.zeros((4, 4)), FIELD.frame)
    figure = parameter_paths(flat, TRACKS, PARETO, 0, "light", steps=STEPS)
    assert not figure.data[0].contours.showlines


@pytest.mark.parametrize("build", [parameters, objectives])
def test_a_panel_for_each_method(build):
    figure = build(apart=True)
    assert [note.text for note in figure.layout.annotations] == ["<b>UPGrad</b>", "<b>Mean</b>"]
    (first,), (second,) = named(figure, "UPGrad, start 1"), named(figure, "Mean, start 1")
    assert (first.xaxis, second.xaxis) == ("x", "x2")
    assert figure.layout.xaxis2.matches == "x"
    assert figure.layout.yaxis2.matches == "y"
    assert figure.layout.xaxis.domain[1] < figure.layout.xaxis2.domain[0]
    assert figure.layout.yaxis.domain == figure.layout.yaxis2.domain
    many = dict.fromkeys(("UPGrad", "MGDA", "PCGrad", "CAGrad", "Mean"), TRACKS["Mean"])
    rows = build(tracks=many, apart=True)
    assert rows.layout.height > figure.layout.height
    assert rows.layout.yaxis4.domain[1] < rows.layout.yaxis.domain[0]
    # The fourth begins the second row; the third has none below it.
    assert rows.layout.xaxis4.domain == rows.layout.xaxis.domain
    assert [rows.layout[f"xaxis{n}"].title.text is not None for n in ("", 2, 3, 4, 5)] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_the_axes_hold_the_paths_and_the_front_next_to_them():
    figure = objectives()
    (front,) = named(figure, "Pareto front")
    np.testing.assert_array_equal(front.y, [1.0, 2.0, 3.0])
    low, high = figure.layout.xaxis.range
    # From 0 to 4 with 6 % of that on either side; the path that left does not count.
    np.testing.assert_allclose([low, high], [-0.24, 4.24])
    # From 1 to 2: no path comes near the front's end at 3.
    np.testing.assert_allclose(figure.layout.yaxis.range, [0.94, 2.06])
    (path,) = named(figure, "Mean, start 2")
    assert "Mean, start 2, step %{pointNumber}: f₁" in path.hovertemplate


def test_the_front_is_on_the_picture_where_no_path_comes_near():
    still = {"Mean": [np.array([[4.0, 2.5]] * 3)]}
    layout = objectives(tracks=still).layout
    # The closest point of the front is (0, 2); a quarter of the heights from 1 to 3 is the least.
    np.testing.assert_allclose(layout.xaxis.range, [-0.24, 4.24])
    np.testing.assert_allclose(layout.yaxis.range, [1.97, 2.53])
    there = {"Mean": [np.array([[0.0, 2.0]] * 3)]}
    np.testing.assert_allclose(objectives(tracks=there).layout.yaxis.range, [1.72, 2.28])


def test_an_outline_is_as_close_as_a_screen_can_tell():
    angles = np.linspace(0, np.pi, 301)
    arc = np.stack([40 * np.cos(angles), np.sin(angles)], axis=1)
    few = outline(arc, (80, 1), 0.01)
    np.testing.assert_array_equal(few[[0, -1]], arc[[0, -1]])
    assert 5 < len(few) < 20
    assert all((point == arc).all(axis=1).any() for point in few)
    across = np.interp(-arc[:, 0], -few[:, 0], few[:, 1])
    # Measured upwards a distance is longer than across a steep line.
    assert np.abs(across - arc[:, 1])[100:200].max() < 0.011
    # There and back is no straight line, and where a value is missing all points stay.
    np.testing.assert_array_equal(outline(arc[[0, 9, 0]], (80, 1)), arc[[0, 9, 0]])
    np.testing.assert_array_equal(outline(arc[[4]], (80, 1)), arc[[4]])
    gap = np.array([[0.0, 0], [1, np.nan], [2, 0]])
    np.testing.assert_array_equal(outline(gap, (1, 1)), gap)


@pytest.mark.parametrize("build", [parameters, objectives])
def test_a_sketch_leaves_out_what_nobody_sees(build):
    full, sketch = build(2), build(2, sketch=True)
    assert [trace.name for trace in full.data] == [trace.name for trace in sketch.data]
    assert full.layout == sketch.layout
    # Straight, so its ends are enough; and its points are no longer numbered by the steps.
    (path,) = named(sketch, "UPGrad, start 2")
    np.testing.assert_array_equal(path.x, [4.0, 3.0])
    assert path.hoverinfo == "skip"
    (bent,) = named(sketch, "Mean, start 2")
    np.testing.assert_array_equal(bent.x, [4.0, 9.0])
    (edge,) = named(sketch, "Pareto set" if build is parameters else "Pareto front")
    np.testing.assert_array_equal(edge.y, [1.0, 3.0])


def test_a_sketch_of_distances_keeps_their_corners():
    figure = distance_lines(DISTANCES, 3, "light", steps=STEPS, sketch=True)
    (line,) = named(figure, "UPGrad, start 2")
    # From 0 on, all is drawn at the floor.
    np.testing.assert_array_equal(line.x, [0, 1, 2, 4])
    np.testing.assert_array_equal(line.customdata, [3.0, 1.0, 0.0, 0.0])
    assert figure.layout == distances(3).layout


@pytest.mark.parametrize("name", ["Pareto set", "Pareto front"])
def test_a_set_of_one_point_is_a_star(name):
    point = np.zeros((5, 2))
    if name == "Pareto set":
        figure = parameter_paths(FIELD, TRACKS, point, 0, "light", steps=STEPS)
    else:
        figure = objective_paths(TRACKS, point, 0, "light", steps=STEPS)
    (trace,) = named(figure, name)
    assert (trace.mode, trace.marker.symbol, len(trace.x)) == ("markers", "star", 1)


def test_distances_on_a_logarithmic_axis_with_true_values_in_the_table():
    figure = distances(3)
    (line,) = named(figure, "UPGrad, start 2")
    np.testing.assert_array_equal(line.y, np.float32([3, 1, 1e-12, 1e-12, 1e-12]))
    np.testing.assert_array_equal(line.customdata, DISTANCES["UPGrad"][1])
    assert figure.layout.yaxis.type == "log"
    low, high = figure.layout.yaxis.range
    assert low < -12 < np.log10(9) < high
    (mark,) = figure.layout.shapes
    assert (mark.x0, mark.x1) == (3, 3)
    table = figure_table(figure)
    assert table["UPGrad, start 2: distance to the front"].tolist() == DISTANCES["UPGrad"][1]


def test_tables_hold_the_paths():
    table = figure_table(parameters(2))
    rows = table[table["name"] == "Mean, start 1"]
    assert rows["x₁"].tolist() == [4.0, 3.75, 3.5]
    assert rows["x₂"].tolist() == [1.0, 1.0, 1.0]


def test_captions():
    # 8 of 16 cosines are negative. At step 2: UPGrad at x₁ = 2 and 3, Mean at 3.5 and 9.
    assert parameter_paths_caption(FIELD, TRACKS, PARETO, 2, steps=STEPS) == (
        "The two gradients are in conflict on 50 % of this map. At step 2, the paths of UPGrad are "
        "closest to the Pareto set (at most 3.00 away) and those of Mean farthest (up to 9.00); "
        "1 of 4 paths diverged."
    )
    assert objective_paths_caption(TRACKS, 1, steps=STEPS) == (
        "From start 1, step 1 is at (f₁, f₂) = (3.00, 1.00) with UPGrad, (3.75, 1.00) with Mean; "
        "1 of 4 paths diverged."
    )
    assert distance_caption(DISTANCES, 1, steps=STEPS) == (
        "After 1 of 4 steps from 2 starts, the paths of UPGrad are closest to the Pareto front "
        "(at most 2.00 away) and those of Mean farthest (up to 5.00); "
        "1 of 4 paths diverged."
    )
    assert outcome_sentence({"UPGrad": DISTANCES["UPGrad"]}, steps=4) == (
        "After 4 steps from 2 starts, the distance to the Pareto front is less than 10⁻⁶ with "
        "UPGrad."
    )


def test_a_path_that_diverged_has_no_distance_in_the_end():
    assert outcome_sentence(DISTANCES, steps=4) == (
        "After 4 steps from 2 starts, the distance to the Pareto front is less than 10⁻⁶ with "
        "UPGrad; diverged: Mean from start 2 at step 3."
    )
    assert outcome_sentence({"Mean": DISTANCES["Mean"][1:]}, steps=4) == (
        "No method completes 4 steps from its start; diverged: Mean from start 1 at step 3."
    )


def test_captions_of_ties_and_of_one_start():
    same = {"UPGrad": [[2.0, 1e-8]], "Sum": [[2.0, 1e-9]], "Mean": [[2.0, 0.5]]}
    assert distance_caption(same, 0, steps=1) == (
        "After 0 of 1 step from one start, the paths are at most 2.00 from the Pareto front."
    )
    assert distance_caption(same, 1, steps=1) == (
        "After 1 of 1 step from one start, the paths of UPGrad and Sum are closest to the Pareto "
        "front (less than 10⁻⁶ away) and those of Mean farthest (up to 0.500)."
    )
    assert outcome_sentence(same, steps=1) == (
        "After 1 step from one start, the distance to the Pareto front is less than 10⁻⁶ with "
        "Sum and UPGrad and at most 0.500 with Mean."
    )
    nowhere = CosineField(FIELD.x, FIELD.y, np.full((4, 4), np.nan), FIELD.frame)
    assert parameter_paths_caption(nowhere, {}, PARETO, 0, steps=0) == (
        "The two gradients are in conflict nowhere on this map."
    )


def test_many_that_diverged_are_counted():
    lost = {"Sum": [[1.0]] * 5}
    assert (
        "start 1 at step 1, Sum from start 2 at step 1, Sum from start 3 at step 1 and 2 more."
        in (outcome_sentence(lost, steps=9))
    )


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        ({"Mean": [np.zeros((3, 3))]}, r"got paths of points of shapes \{\(3,\)\}"),
        ({"Mean": [np.zeros((0, 2))]}, "expected .k . 1, 2. with k ≥ 0"),
        ({"Mean": [LINE], "Sum": [LINE, LINE]}, "got 1 of Mean, 2 of Sum paths"),
        ({str(n): [LINE] for n in range(9)}, "got 9 methods, expected at most 8"),
    ],
)
def test_paths_that_cannot_be_drawn(tracks, message):
    with pytest.raises(ValueError, match=message):
        parameters(tracks=tracks)
    with pytest.raises(ValueError, match=message):
        objectives(tracks=tracks)


def test_no_path_at_all():
    assert distance_caption({}, 0, steps=0) == "There is no path to show."
    assert objective_paths_caption({}, 0, steps=0) == "There is no path to show."
    assert outcome_sentence({}, steps=0) == "There is no path to show."
