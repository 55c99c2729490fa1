"""The dual cone of gradients in the plane: every direction that makes no objective worse."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, drawable
from jdviz.figures.theme import PALETTES, Theme, with_opacity

ConeKind = Literal["plane", "half-plane", "wedge", "line", "ray", "origin"]

#: Angles in radians closer than this are the same: an antiparallel pair is rarely exact.
SAME_ANGLE = 1e-9

#: The cone's name in a legend that must not change while the cone does.
SHORT_NAME = "dual cone: hurts none"

#: What each kind is called in a legend.
DESCRIPTIONS: dict[ConeKind, str] = {
    "plane": "the whole plane",
    "half-plane": "a half-plane",
    "wedge": "a wedge",
    "line": "a line",
    "ray": "a ray",
    "origin": "only the origin",
}


@dataclass(frozen=True)
class DualCone2D:
    """The set of directions d with gᵢ·d ≥ 0 for every gradient gᵢ in the plane.

    Attributes:
        kind: Its shape.
        center: Angle of its middle in radians; of one of its two directions for a line. NaN for
            the whole plane and for the origin.
        opening: Angle between its two edges in radians: 2π for the plane, π for a half-plane,
            0 for a ray, a line and the origin.
    """

    kind: ConeKind
    center: float
    opening: float

    def outline(self, radius: float) -> Array:
        """The cone cut off at a radius, as a polygon to fill or a line to draw.

        Args:
            radius: Distance from the origin, larger than what is shown.

        Returns:
            Vertices, shape [k, 2]: a closed polygon for the kinds with an area, the two ends of
            the segment for a line and a ray, one point for the origin.
        """
        if self.kind == "origin":
            return np.zeros((1, 2))
        if self.kind == "ray":
            return np.stack([np.zeros(2), radius * _unit(self.center)])
        if self.kind == "line":
            return np.stack([-radius * _unit(self.center), radius * _unit(self.center)])
        center = 0.0 if self.kind == "plane" else self.center
        sides = max(2, math.ceil(self.opening / math.radians(15)))
        arc = center + np.linspace(-0.5, 0.5, sides + 1) * self.opening
        rim = radius * np.stack([np.cos(arc), np.sin(arc)], axis=1)
        return np.concatenate([np.zeros((1, 2)), rim, np.zeros((1, 2))])


def dual_cone_2d(J: ArrayLike) -> DualCone2D:
    """The dual cone of the rows of a Jacobian with two columns.

    Every gradient allows a half-plane. Together they allow what is left of π when the arc that
    the gradients span is taken away, and at an arc of exactly π only its edge.

    Args:
        J: Gradients, shape [m, 2]; rows that are zero or not finite constrain nothing.

    Raises:
        ValueError: If J does not have two columns.
    """
    rows = check_plane_jacobian(J)
    rows = rows[np.isfinite(rows).all(axis=1) & (np.abs(rows) > 0).any(axis=1)]
    if len(rows) == 0:
        return DualCone2D("plane", math.nan, 2 * math.pi)
    angles = np.sort(np.arctan2(rows[:, 1], rows[:, 0]))
    gaps = np.diff(angles, append=angles[0] + 2 * math.pi)
    widest = int(np.argmax(gaps))
    start = float(angles[(widest + 1) % len(angles)])
    arc = max(2 * math.pi - float(gaps[widest]), 0.0)
    center = math.remainder(start + arc / 2, 2 * math.pi)
    if arc > math.pi + SAME_ANGLE:
        return DualCone2D("origin", math.nan, 0.0)
    if arc >= math.pi - SAME_ANGLE:
        # An arc of π: if its inside is empty, both directions across the edge are allowed.
        inside = (angles - start) % (2 * math.pi)
        between = (inside > SAME_ANGLE) & (inside < math.pi - SAME_ANGLE)
        kind: ConeKind = "ray" if between.any() else "line"
        return DualCone2D(kind, center, 0.0)
    if arc <= SAME_ANGLE:
        return DualCone2D("half-plane", center, math.pi)
    return DualCone2D("wedge", center, math.pi - arc)


def cone_trace(
    cone: DualCone2D, frame: float, theme: Theme, *, name: str | None = None
) -> go.Scatter:
    """A dual cone as a quiet fill, or as a thick line or a ring where it has no area.

    Args:
        cone: From `dual_cone_2d`.
        frame: Half the width of the shown square.
        theme: "light" or "dark".
        name: Entry in the legend; if None, it says which kind of cone this is.
    """
    palette = PALETTES[theme]
    # Far beyond the frame, which is wider than high on a wide page.
    outline = cone.outline(50 * frame)
    filled = cone.kind in ("plane", "half-plane", "wedge")
    return go.Scatter(
        x=outline[:, 0],
        y=outline[:, 1],
        mode="markers" if cone.kind == "origin" else "lines",
        fill="toself" if filled else "none",
        fillcolor=with_opacity(palette.cone, 0.16),
        line={"color": palette.cone, "width": 0 if filled else 5},
        opacity=1.0,
        marker={"color": palette.cone, "size": 11, "symbol": "circle-open", "line": {"width": 3}},
        name=f"hurts none: {DESCRIPTIONS[cone.kind]}" if name is None else name,
        hoverinfo="skip",
    )


def check_plane_jacobian(J: ArrayLike) -> Array:
    """A Jacobian with two columns, ready to be drawn.

    Raises:
        ValueError: If its shape is not [m, 2].
    """
    rows = drawable(J)
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ValueError(f"got a Jacobian of shape {rows.shape}, expected [m, 2].")
    return rows


def _unit(angle: float) -> Array:
    return np.array([math.cos(angle), math.sin(angle)])
