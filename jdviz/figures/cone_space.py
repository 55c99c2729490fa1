"""The dual cone of gradients in space: every direction that makes no objective worse."""

import math
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jdviz.figures.arrays import Array, drawable
from jdviz.figures.cone import dual_cone_2d

SpaceConeKind = Literal[
    "space",
    "half-space",
    "wedge",
    "cone",
    "plane",
    "half-plane",
    "sector",
    "line",
    "ray",
    "origin",
]

#: What each kind is called in a legend.
SPACE_DESCRIPTIONS: dict[SpaceConeKind, str] = {
    "space": "all of space",
    "half-space": "a half-space",
    "wedge": "a wedge between two planes",
    "cone": "a cone",
    "plane": "a plane",
    "half-plane": "a half-plane",
    "sector": "a sector of a plane",
    "line": "a line",
    "ray": "a ray",
    "origin": "only the origin",
}

#: The kinds that have a volume, and those that are flat; the others are thin.
SOLID: tuple[SpaceConeKind, ...] = ("space", "half-space", "wedge", "cone")
FLAT: tuple[SpaceConeKind, ...] = ("plane", "half-plane", "sector")

#: Of gradients of length 1: what is below this is the rounding of zero.
ROUNDING = 1e-9

#: Edges of length 1 closer than this are one, found from different pairs of gradients.
SAME_EDGE = 1e-7

#: Angle of a step along the rim in radians, and number of steps from the middle to the rim.
ARC_STEP, CAP_STEPS = math.radians(10), 8

Triangles = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DualCone3D:
    """The set of directions d with gᵢ·d ≥ 0 for every gradient gᵢ in space.

    It is every Σ aᵢ rᵢ + Σ bⱼ lⱼ with aᵢ ≥ 0 and any bⱼ, for its rays rᵢ and its lines lⱼ.

    Attributes:
        kind: Its shape.
        rays: Directions of length 1, shape [k, 3]: the edges of a cone in their order around it,
            the two of a sector, one across the lines within a half-plane, a wedge's two, the
            inner normal of a half-space.
        lines: Directions at right angles, of length 1, both ways along which the cone goes on
            without end, shape [l, 3].
    """

    kind: SpaceConeKind
    rays: Array
    lines: Array

    def corners(self) -> Array:
        """Where its surface meets the unit sphere, in order.

        Returns:
            Points between which the shortest arcs are the rim, shape [k, 3]: all round for the
            solid kinds and for a plane, from end to end for a half-plane and a sector; for a line
            and a ray its ends, and none for the origin.
        """
        rays, lines = self.rays, self.lines
        if self.kind in ("space", "half-space", "plane"):
            first, second = lines[:2]
            return np.stack([first, second, -first, -second])
        if self.kind == "wedge":
            return np.stack([rays[0], lines[0], rays[1], -lines[0]])
        if self.kind == "half-plane":
            return np.stack([lines[0], rays[0], -lines[0]])
        return np.concatenate([rays, lines, -lines])

    def rim(self, radius: float) -> Array:
        """Where a ball cuts its surface, as a line.

        Args:
            radius: Of the ball.

        Returns:
            Points, shape [p, 3], the first again at the end of a closed rim; the corners alone
            for the kinds without an area.
        """
        corners = self.corners()
        if self.kind not in (*SOLID, *FLAT):
            return radius * corners
        if self.kind in SOLID or self.kind == "plane":
            corners = np.concatenate([corners, corners[:1]])
        arcs = [_arc(a, b)[:-1] for a, b in pairwise(corners)]
        return radius * np.concatenate([*arcs, corners[-1:]])

    def mesh(self, radius: float) -> tuple[Array, Triangles]:
        """Its surface within a ball, as triangles.

        Args:
            radius: Of the ball.

        Returns:
            Vertices, shape [v, 3], and their places in each triangle, shape [t, 3]. For a solid
            kind the surface is closed by a part of the sphere. Both are empty for a line, a ray
            and the origin.
        """
        if self.kind not in (*SOLID, *FLAT):
            return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)
        rim = self.rim(1.0)
        parts = [] if self.kind == "space" else [_fan(np.zeros(3), rim)]
        parts += [_cap(middle, rim) for middle in self._middles()]
        vertices = [vertices for vertices, _ in parts]
        starts = np.cumsum([0, *map(len, vertices)])
        triangles = [places + start for (_, places), start in zip(parts, starts, strict=False)]
        return radius * np.concatenate(vertices), np.concatenate(triangles)

    def _middles(self) -> list[Array]:
        """The middle of each part of the unit sphere that lies in a solid cone."""
        if self.kind == "space":
            return [self.lines[2], -self.lines[2]]
        if self.kind in SOLID:
            return [_unit(self.rays.sum(axis=0))]
        return []


def dual_cone_3d(J: ArrayLike) -> DualCone3D:
    """The dual cone of the rows of a Jacobian with three columns.

    The directions at a right angle to every gradient are its lines. What is left lives in the
    space that the gradients span: a half-line in one dimension, the cone of
    `jdviz.figures.dual_cone_2d` in two, and in three the cone whose edges are those of ±gᵢ×gⱼ
    that no other gradient forbids.

    Args:
        J: Gradients, shape [m, 3]; rows that are zero or not finite constrain nothing.

    Raises:
        ValueError: If J does not have three columns.
    """
    rows = check_space_jacobian(J)
    rows = rows[np.isfinite(rows).all(axis=1) & (np.abs(rows) > 0).any(axis=1)]
    # By the largest entry first: the square of a short row may be no float64.
    rows = rows / np.abs(rows).max(axis=1, keepdims=True)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    _, sizes, basis = np.linalg.svd(np.concatenate([units, np.zeros((3, 3))]))
    rank = int((sizes > ROUNDING * math.sqrt(max(len(units), 1))).sum())
    span, lines = basis[:rank], basis[rank:]
    if rank == 0:
        return DualCone3D("space", np.zeros((0, 3)), lines)
    if rank == 1:
        opposed = bool((units @ units[0] < 0).any())
        rays = np.zeros((0, 3)) if opposed else units[:1]
        return DualCone3D("plane" if opposed else "half-space", rays, lines)
    if rank == 2:
        return _with_a_line(units @ span.T, span, lines)
    return _pointed(_edges(units))


def _with_a_line(coordinates: Array, span: Array, lines: Array) -> DualCone3D:
    """A cone of gradients in one plane, which goes on along the line across it."""
    flat = dual_cone_2d(coordinates)
    angles = flat.center + np.array([-0.5, 0.5]) * flat.opening
    edges = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ span
    if flat.kind == "wedge":
        return DualCone3D("wedge", edges, lines)
    if flat.kind == "ray":
        return DualCone3D("half-plane", edges[:1], lines)
    return DualCone3D("line", np.zeros((0, 3)), lines)


def _edges(units: Array) -> Array:
    """Directions at a right angle to two gradients that no other forbids, shape [k, 3]."""
    found: list[Array] = []
    for i, j in combinations(range(len(units)), 2):
        across = np.cross(units[i], units[j])
        size = float(np.linalg.norm(across))
        if size <= ROUNDING:
            continue
        # Nearly parallel gradients leave fewer digits of what is across them.
        slack = ROUNDING + 1e-15 / size
        for edge in (across / size, -across / size):
            new = all(np.linalg.norm(edge - one) > SAME_EDGE for one in found)
            if new and (units @ edge >= -slack).all():
                found.append(edge)
    return np.array(found).reshape(-1, 3)


def _pointed(edges: Array) -> DualCone3D:
    """A cone without lines, from its edges in any order."""
    kinds: tuple[SpaceConeKind, ...] = ("origin", "ray", "sector")
    kind = kinds[len(edges)] if len(edges) < len(kinds) else "cone"
    if kind == "cone":
        middle = _unit(edges.sum(axis=0))
        first = _unit(edges[0] - (edges[0] @ middle) * middle)
        second = np.cross(middle, first)
        edges = edges[np.argsort(np.arctan2(edges @ second, edges @ first))]
    return DualCone3D(kind, edges, np.zeros((0, 3)))


def _arc(first: Array, last: Array) -> Array:
    """Points along the shortest arc of the unit sphere from one to another, shape [p, 3]."""
    steps = max(1, math.ceil(_angle(first, last) / ARC_STEP - ROUNDING))
    shares = np.linspace(0, 1, steps + 1)
    return np.concatenate([first[None], *(_between(first, last[None], s) for s in shares[1:])])


def _between(first: Array, ends: Array, share: float) -> Array:
    """Points of the unit sphere a share of the way from one to others, shape [p, 3]."""
    if share == 1:
        return ends
    angles = np.array([_angle(first, end) for end in ends])[:, None]
    return np.asarray(
        (np.sin((1 - share) * angles) * first + np.sin(share * angles) * ends) / np.sin(angles)
    )


def _cap(middle: Array, rim: Array) -> tuple[Array, Triangles]:
    """Triangles on the unit sphere from a middle to a rim around it, in layers."""
    p = len(rim)
    layers = [_between(middle, rim, share) for share in np.linspace(0, 1, CAP_STEPS + 1)[1:]]
    vertices, triangles = _fan(middle, layers[0])
    here = np.arange(1, p)
    rest = []
    for layer in range(CAP_STEPS - 1):
        inner, outer = here + layer * p, here + (layer + 1) * p
        rest += [np.stack([inner, outer, outer + 1], 1), np.stack([inner, outer + 1, inner + 1], 1)]
    return np.concatenate([vertices, *layers[1:]]), np.concatenate([triangles, *rest])


def _fan(middle: Array, rim: Array) -> tuple[Array, Triangles]:
    """Triangles from a point to each piece of a line."""
    here = np.arange(1, len(rim))
    return np.concatenate([middle[None], rim]), np.stack([0 * here, here, here + 1], axis=1)


def check_space_jacobian(J: ArrayLike) -> Array:
    """A Jacobian with three columns, ready to be drawn.

    Raises:
        ValueError: If its shape is not [m, 3].
    """
    rows = drawable(J)
    if rows.ndim != 2 or rows.shape[1] != 3:
        raise ValueError(f"got a Jacobian of shape {rows.shape}, expected [m, 3].")
    return rows


def _unit(vector: Array) -> Array:
    length: Array = vector / np.linalg.norm(vector)
    return length


def _angle(first: Array, second: Array) -> float:
    return math.acos(min(1.0, max(-1.0, float(first @ second))))
