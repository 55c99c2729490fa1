import numpy as np
import pytest

from engines.errors import NonFiniteGradientError
from jdviz.construction import upgrad_construction
from jdviz.figures import (
    CONSTRUCTION_STEPS,
    construction_caption,
    construction_figure,
    figure_table,
)
from jdviz.figures.construction import MARK
from jdviz.figures.theme import PALETTES, objective_colors
from tests.jdviz.test_construction import JACOBIANS

PLANAR = {name: np.array(J) for name, J in JACOBIANS.items() if np.shape(J)[1] == 2}
CONFLICT = [[2.0, 0.0], [-1.0, 1.0]]
STEPS = range(len(CONSTRUCTION_STEPS))


def points(trace) -> list[tuple[float, float]]:
    """The places of a trace without its gaps."""
    return [(x, y) for x, y in zip(trace.x, trace.y, strict=True) if x is not None]


@pytest.mark.parametrize("name", PLANAR)
def test_nothing_but_the_traces_points_changes_over_the_steps(name: str) -> None:
    J = PLANAR[name]
    figures = [construction_figure(J, step, "light") for step in STEPS]
    for figure in figures:
        assert len(figure.data) == 3 * len(J) + 4
        assert figure.layout == figures[0].layout
        assert [t.name for t in figure.data] == [t.name for t in figures[0].data]
        assert [t.showlegend for t in figure.data] == [t.showlegend for t in figures[0].data]
        # A trace without any place has no entry in the legend, which would then move.
        assert all(len(t.x) for t in figure.data if t.name and t.showlegend is not False)


def test_every_step_adds_its_part() -> None:
    drawn = []
    for step in STEPS:
        cone, g1, way1, p1, g2, way2, p2, squares, mean, labels = construction_figure(
            CONFLICT, step, "light"
        ).data
        assert (points(g1)[1], points(g2)[1]) == ((2.0, 0.0), (-1.0, 1.0))
        parts = {
            "cone": cone,
            "way1": way1,
            "way2": way2,
            "p1": p1,
            "p2": p2,
            "squares": squares,
            "mean": mean,
        }
        drawn.append({part for part, trace in parts.items() if points(trace)})
        assert labels.text[:2] == ("g₁", "g₂")
    projected = {"cone", "way1", "way2", "p1", "p2", "squares"}
    assert drawn == [set(), {"cone"}, projected, projected | {"mean"}]


def test_projections_and_mean_are_where_they_belong() -> None:
    made, theme = upgrad_construction(CONFLICT), "dark"
    figure = construction_figure(CONFLICT, 3, theme)
    _, g1, way, p1, *_, squares, mean, labels = figure.data
    np.testing.assert_array_equal(points(way), [CONFLICT[0], made.projections[0]])
    np.testing.assert_array_equal(points(p1)[1], made.projections[0])
    np.testing.assert_array_equal(points(mean)[1], made.direction)
    color = objective_colors(2, theme)[0]
    assert (g1.line.color, way.line.color, p1.line.color) == (color,) * 3
    assert (g1.line.dash, way.line.dash) == ("solid", "dash")
    assert mean.line.color == PALETTES[theme].text
    assert labels.text == ("g₁", "g₂", "π(g₁)", "π(g₂)", "A(J)")
    assert p1.hovertext[1] == "π(g₁): length 1.41, 1.41 from g₁, square to g₂"
    # Each mark has three corners, and the one across from the tip is at a right angle there.
    side = MARK * 2 * 1.5
    corners = np.array(points(squares)).reshape(2, 3, 2)
    for tip, (along, corner, across) in zip(made.projections, corners, strict=True):
        assert (along - tip) @ (across - tip) == pytest.approx(0.0, abs=1e-12)
        assert np.linalg.norm(along - tip) == pytest.approx(side)
        np.testing.assert_allclose(along - tip + across - tip, corner - tip)


def test_a_frame_is_kept_and_the_cone_has_one_name() -> None:
    for J in PLANAR.values():
        figure = construction_figure(J, 1, "light", frame=2.5)
        assert figure.layout.xaxis.range == figure.layout.yaxis.range == (-2.5, 2.5)
        assert figure.data[0].name == "dual cone: hurts none"
    assert construction_figure(CONFLICT, 1, "light").data[0].name == "hurts none: a wedge"


def test_what_is_still_to_come_is_in_no_table() -> None:
    names = [
        set(figure_table(construction_figure(CONFLICT, step, "light")).get("name", []))
        for step in STEPS
    ]
    gradients = {"g₁ objective 1", "g₂ objective 2"}
    assert names[0] == gradients
    assert names[1] == gradients | {"hurts none: a wedge"}
    assert names[3] == names[1] | {"π(g₁)", "π(g₂)", "UPGrad: their mean"}


def test_where_nothing_moves_or_nothing_is_left_the_words_say_so() -> None:
    stays = construction_figure(PLANAR["agree"], 2, "light").data[3]
    assert stays.hovertext[1] == "π(g₁) = g₁: it lies in the cone"
    gone = construction_figure(PLANAR["antiparallel"], 2, "light").data[3]
    assert gone.hovertext[1] == "π(g₁) = 0: nothing of g₁ is left"
    assert construction_figure(PLANAR["agree"], 2, "light").data[-1].text == ("g₁", "g₂")
    # No edge, no angle to it.
    assert points(construction_figure(PLANAR["all opposed"], 2, "light").data[-3]) == []


# For CONFLICT: angles 0° and 135°; the cone leaves 180° − 135° = 45°; both ways by
# |(2, 0) − (1, 1)| = √2 and |(-1, 1) − (0, 1)| = 1; the mean of (1, 1) and (0, 1) is √1.25 long.
@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        (
            "conflict",
            (
                "1 of 1 pair is in conflict, more than 90° apart; the widest angle is 135°.",
                "The directions that make none of 2 objectives worse are a wedge 45° wide; 2 of 2 "
                "gradients are outside.",
                "g₁ and g₂ go to the nearest point of the cone, g₁ farthest, by 1.41.",
                "The mean of the projections is UPGrad, of length 1.12: it makes no objective "
                "worse.",
            ),
        ),
        (
            "agree",
            (
                "No two gradients conflict: the widest angle between two is 45°.",
                "The directions that make none of 2 objectives worse are a wedge 135° wide; every "
                "gradient lies in it.",
                "Every gradient lies in the cone, so each is its own projection.",
                "The mean of the projections is UPGrad, of length 1.12: it makes no objective "
                "worse.",
            ),
        ),
        (
            "antiparallel",
            (
                "1 of 1 pair is in conflict, more than 90° apart; the widest angle is 180°.",
                "The directions that make none of 2 objectives worse are a line; 2 of 2 gradients "
                "are outside.",
                "g₁ and g₂ go to the nearest point of the cone, g₂ farthest, by 4.47.",
                "The mean of the projections is zero, so UPGrad stays where it is.",
            ),
        ),
        (
            "one",
            (
                "There is no pair of gradients, so there is nothing that could conflict.",
                "The directions that make none of 1 objective worse are a half-plane; every "
                "gradient lies in it.",
                "Every gradient lies in the cone, so each is its own projection.",
                "The mean of the projections is UPGrad, of length 3.16: it makes no objective "
                "worse.",
            ),
        ),
        ("none", ("There is no gradient to show yet.",) * 4),
    ],
)
def test_pinned_captions(name: str, sentences: tuple[str, ...]) -> None:
    assert tuple(construction_caption(PLANAR[name], step) for step in STEPS) == sentences


def test_the_mean_that_would_hurt_is_named() -> None:
    # The mean of (100, 0) and (-0.5, 0.5) goes against the second.
    assert construction_caption(PLANAR["100 to 1"], 3).endswith(
        "where the mean of the gradients makes g₂ worse."
    )
    assert construction_caption([[1.0, 0.0], [-2.0, 0.1], [0.0, 1.0]], 2).endswith("others stay.")


@pytest.mark.parametrize("step", [-1, 4])
def test_other_steps_are_refused(step: int) -> None:
    with pytest.raises(ValueError, match=f"got step {step}, expected 0 to 3"):
        construction_figure(CONFLICT, step, "light")
    with pytest.raises(ValueError, match=f"got step {step}"):
        construction_caption(CONFLICT, step)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[m, 2\]"):
        construction_figure(np.eye(3), 0, "light")
    with pytest.raises(NonFiniteGradientError):
        construction_figure([[np.inf, 0.0]], 0, "light")
    with pytest.raises(ValueError, match="expected one for each of the 2 objectives"):
        construction_figure(CONFLICT, 0, "light", names=["a"])
