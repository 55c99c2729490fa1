import numpy as np
import pytest
from scipy.optimize import nnls

from jdviz.figures import dual_cone_3d
from jdviz.figures.cone_space import FLAT, SOLID, SPACE_DESCRIPTIONS, SpaceConeKind

X, Y, Z = np.eye(3)

# By hand: what the constraints g·d ≥ 0 leave of space.
CONES: dict[str, tuple[SpaceConeKind, list]] = {
    "none": ("space", np.zeros((0, 3))),
    "a zero": ("space", [0 * X]),
    "one": ("half-space", [X + Y, 0 * X]),
    "parallel": ("half-space", [X, 3 * X, 1e-200 * X]),
    "two": ("wedge", [X, Y - X]),
    "three in a plane": ("wedge", [X, Y, X + Y]),
    "an octant": ("cone", [X, Y, Z]),
    # d·z ≥ |d·x|, |d·y|: a pyramid with four edges.
    "a pyramid": ("cone", [Z + X, Z - X, Z + Y, Z - Y]),
    # One more that touches the pyramid along its axis only, and one along an edge.
    "more than needed": ("cone", [Z + X, Z - X, Z + Y, Z - Y, Z, 2 * Z + X + Y]),
    "opposed": ("plane", [X, -2 * X]),
    # x = 0 and y ≥ 0.
    "opposed and one": ("half-plane", [X, -X, Y]),
    "opposed and one askew": ("half-plane", [X, -X, Y + 5 * X]),
    # x = 0, y ≥ 0, z ≥ 0.
    "opposed and two": ("sector", [X, -X, Y, Z]),
    "opposed twice": ("line", [X, -X, Y, -Y]),
    "around in a plane": ("line", [X, -X + Y, -X - Y]),
    "opposed twice and one": ("ray", [X, -X, Y, -Y, Z + X]),
    "around and one": ("ray", [X, -X + Y, -X - Y, Z]),
    "opposed thrice": ("origin", [X, -X, Y, -Y, Z, -Z]),
    "around": ("origin", [X, Y, Z, -X - Y - Z]),
}
RANDOM = {
    f"{m} at random, {seed}": np.random.default_rng(seed).normal(lean, 1.0, size=(m, 3))
    for seed, (m, lean) in enumerate(((1, 0), (2, 0), (3, 0), (3, 0), (4, 0.5), (5, 1), (8, 1)))
}


def spread(count: int) -> np.ndarray:
    """Directions of length 1 all over the sphere."""
    directions = np.random.default_rng(0).normal(size=(count, 3))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def normal(J: np.ndarray) -> np.ndarray:
    """The gradients with length 1, or 0."""
    rows = J / np.maximum(np.abs(J).max(axis=1, keepdims=True), 1e-300)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


def distance(rays: np.ndarray, lines: np.ndarray, direction: np.ndarray) -> float:
    """From a direction to the cone of non-negative sums."""
    generators = np.concatenate([rays, lines, -lines])
    return (
        float(np.linalg.norm(direction))
        if len(generators) == 0
        else nnls(generators.T, direction)[1]
    )


@pytest.mark.parametrize("name", CONES)
def test_kind(name: str) -> None:
    kind, J = CONES[name]
    assert dual_cone_3d(J).kind == kind
    assert kind in SPACE_DESCRIPTIONS


def test_every_kind_has_a_case() -> None:
    assert {kind for kind, _ in CONES.values()} == set(SPACE_DESCRIPTIONS)


@pytest.mark.parametrize("name", [*CONES, *RANDOM])
def test_rays_and_lines_make_up_the_cone(name: str) -> None:
    J = np.array(CONES[name][1] if name in CONES else RANDOM[name])
    cone = dual_cone_3d(J)
    units = normal(J)
    np.testing.assert_allclose(np.linalg.norm(cone.rays, axis=1), 1.0)
    np.testing.assert_allclose(cone.lines @ cone.lines.T, np.eye(len(cone.lines)), atol=1e-12)
    # Each is allowed, ...
    assert (units @ cone.rays.T >= -1e-9).all()
    np.testing.assert_allclose(units @ cone.lines.T, 0.0, atol=1e-9)
    # ... and together they reach what is allowed and nothing that is not.
    for direction in spread(200):
        margin = (units @ direction).min(initial=1.0)
        away = distance(cone.rays, cone.lines, direction)
        if margin > 0:
            assert away < 1e-9
        elif margin < -1e-9:
            # The half-space of the worst gradient holds the cone.
            assert away >= -margin - 1e-9


@pytest.mark.parametrize("name", RANDOM)
def test_no_ray_is_too_many(name: str) -> None:
    cone = dual_cone_3d(RANDOM[name])
    for place, ray in enumerate(cone.rays):
        others = np.delete(cone.rays, place, axis=0)
        assert distance(others, cone.lines, ray) > 1e-6


@pytest.mark.parametrize("name", CONES)
def test_any_order_length_and_turn(name: str) -> None:
    kind, J = CONES[name]
    rows = np.array(J)[::-1]
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    lengths = 10.0 ** np.linspace(-6, 6, len(rows))[:, None] if len(rows) else 1.0
    cone = dual_cone_3d(rows * lengths @ turn)
    assert cone.kind == kind
    assert (rows @ turn @ cone.rays.T >= -1e-9 * np.abs(rows).max(initial=1.0)).all()


@pytest.mark.parametrize("name", [*CONES, *RANDOM])
def test_the_mesh_is_the_cone_within_a_ball(name: str) -> None:
    J = np.array(CONES[name][1] if name in CONES else RANDOM[name])
    cone, radius = dual_cone_3d(J), 2.5
    vertices, triangles = cone.mesh(radius)
    units = normal(J)
    for points in (vertices, cone.rim(radius)):
        assert (units @ points.T >= -1e-8).all()
        assert (np.linalg.norm(points, axis=1) <= radius + 1e-9).all()
    assert bool(len(triangles)) == (cone.kind in (*SOLID, *FLAT))
    if not len(triangles):
        return
    assert set(triangles.ravel()) == set(range(len(vertices)))
    a, b, c = vertices[triangles].transpose(1, 0, 2)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    assert (areas > 0).all()
    if cone.kind in FLAT:
        # Up to chords instead of arcs: an angle α of a disc has the area α r² / 2.
        opening = {"plane": 2 * np.pi, "half-plane": np.pi}.get(cone.kind)
        if opening is None:
            opening = np.arccos(np.clip(cone.rays[0] @ cone.rays[1], -1, 1))
        assert 0.97 < areas.sum() / (opening * radius**2 / 2) <= 1 + 1e-9
        return
    # The volume under the round part: that of the ball times the share of directions allowed.
    volume = np.abs(np.einsum("td,td->t", a, np.cross(b, c))).sum() / 6
    share = (units @ spread(20_000).T >= 0).all(axis=0).mean()
    assert volume / (4 / 3 * np.pi * radius**3) == pytest.approx(share, rel=0.04, abs=0.005)


def test_pinned_edges_of_an_octant() -> None:
    cone = dual_cone_3d([X, Y, Z])
    assert sorted(map(tuple, cone.rays.round(12) + 0.0)) == sorted(map(tuple, np.eye(3)))
    # A rim of three quarter circles of 9 steps, closed.
    assert cone.rim(1.0).shape == (28, 3)


def test_other_shapes_are_refused_and_what_is_not_finite_constrains_nothing() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 2\), expected \[m, 3\]"):
        dual_cone_3d(np.eye(2))
    assert dual_cone_3d([[1.0, 0.0, 0.0], [np.nan, 1.0, 0.0]]).kind == "half-space"
