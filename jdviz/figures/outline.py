"""Fewer points for the same line on a screen."""

import numpy as np
from numpy.typing import ArrayLike

from jdviz.figures.arrays import Array

#: What a screen cannot tell from a straight line, as a share of a picture's width.
FLAT = 0.001


def outline(points: Array, size: ArrayLike, flat: float = FLAT) -> Array:
    """The points of a line that a screen needs to show it, among them the first and the last.

    Douglas and Peucker's way: the point farthest from the straight line between two that are kept
    is kept too, unless it is so close that nobody can tell.

    Args:
        points: Shape [k, 2].
        size: Width and height of the picture in the same units, shape [2].
        flat: How far from the line a point may be left out, as a share of the picture.

    Returns:
        Some of the rows, in order, shape [l, 2]; all of them where one is not finite.
    """
    if not np.isfinite(points).all():
        return points
    scaled, kept, parts = points / np.asarray(size), {0, len(points) - 1}, [(0, len(points) - 1)]
    while parts:
        first, last = parts.pop()
        if last - first < 2:
            continue
        away = _from_line(scaled[first + 1 : last], scaled[first], scaled[last])
        if away.max() > flat:
            middle = first + 1 + int(away.argmax())
            kept.add(middle)
            parts += [(first, middle), (middle, last)]
    chosen: Array = points[sorted(kept)]
    return chosen


def _from_line(points: Array, start: Array, end: Array) -> Array:
    """Distances of points from the straight line between two others, shape [k]."""
    along = end - start
    length = float(along @ along)
    shares = ((points - start) @ along / length).clip(0.0, 1.0) if length else np.zeros(len(points))
    away: Array = np.linalg.norm(points - start - shares[:, None] * along, axis=1)
    return away
