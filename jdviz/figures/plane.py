"""The gradients of one step as arrows in the plane of their mean and the update."""

from collections.abc import Sequence

import numpy as np

from jdviz.conflict import UpdatePlane
from jdviz.figures.arrays import check_names, drawable, largest, nice_limit
from jdviz.figures.arrows import ROOM, arrow_layout, arrows, gradient_arrows
from jdviz.figures.fans import ROUNDING
from jdviz.figures.frame import assemble
from jdviz.figures.theme import (
    DISTINCT_OBJECTIVES,
    HEIGHT_MAIN,
    PALETTES,
    Figure,
    LineStyle,
    Theme,
)
from jdviz.figures.words import degrees, number

#: With many gradients the square reaches this many lengths of mean and update; longer ones are cut.
REACH = 2.0


def update_plane_figure(
    plane: UpdatePlane, names: Sequence[str], theme: Theme, *, height: int = HEIGHT_MAIN
) -> Figure:
    """The gradients of one step, projected onto the plane of their mean and the update.

    Args:
        plane: What `jdviz.conflict.update_plane` returns for m objectives.
        names: Name of every objective, length m.
        theme: "light" or "dark".
        height: Height in pixels.

    Returns:
        A figure whose number of traces depends on m alone. Of more than seven gradients, those
        far longer than mean and update are cut at the frame, and the legend says so.

    Raises:
        ValueError: If the names do not fit.
    """
    gradients = drawable(plane.gradients)
    m = len(gradients)
    labels = check_names(names, m)
    ends = np.concatenate([gradients, [plane.mean, plane.update]])
    reach, focus = largest(ends), REACH * largest(ends[m:])
    frame = nice_limit(ROOM * (min(reach, focus) if m > DISTINCT_OBJECTIVES and focus else reach))
    palette = PALETTES[theme]
    captured = np.asarray(plane.captured)
    traces = gradient_arrows(gradients, captured, labels, frame, theme)
    mean, update = np.asarray(plane.mean), np.asarray(plane.update)
    traces += [
        arrows(
            mean[None],
            LineStyle(palette.muted, "dot", "circle"),
            name="mean (plain SGD)",
            hover=[f"mean gradient: length {number(float(np.hypot(*mean)))}"],
            frame=frame,
            width=2.5,
            head=14,
        ),
        arrows(
            update[None],
            LineStyle(palette.text, "solid", "circle"),
            name="update A(J)",
            hover=[f"update A(J): length {number(float(np.hypot(*update)))}"],
            frame=frame,
            width=3.5,
            head=16,
        ),
    ]
    return assemble(
        traces,
        arrow_layout(theme, frame, "along the mean gradient", "across it, towards A(J)", height),
    )


def plane_caption(plane: UpdatePlane) -> str:
    """One sentence on how far the update turns from the mean, and how much the plane shows.

    Args:
        plane: What `jdviz.conflict.update_plane` returns.
    """
    if len(plane.captured) == 0:
        return "There is no gradient to show yet."
    mean, update = np.asarray(plane.mean), np.asarray(plane.update)
    shown = f"the plane shows {number(100 * float(np.mean(plane.captured)))} % of the gradients"
    zero = ROUNDING * largest(plane.gradients)
    if np.hypot(*update) <= zero:
        return f"The update is zero; {shown} (mean share of squared length)."
    if np.hypot(*mean) <= zero:
        return f"The mean gradient is zero, the update is not; {shown} (mean share)."
    cosine = float(mean @ update / np.hypot(*mean) / np.hypot(*update))
    turned = degrees(float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
    times = number(float(np.hypot(*update) / np.hypot(*mean)))
    return (
        f"The update turns {turned} from the mean gradient and is {times}× as long; {shown} "
        "(mean share of squared length)."
    )
