"""The gradients of one step in the plane that shows the most of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from jdviz.figures.arrays import check_names, check_square, largest, nice_limit
from jdviz.figures.arrows import arrow_layout, arrows, gradient_arrows
from jdviz.figures.frame import assemble
from jdviz.figures.theme import HEIGHT_MAIN, PALETTES, Figure, LineStyle, Theme
from jdviz.figures.words import number
from jdviz.spectrum import leading_plane

#: Room around the longest arrow, for its label.
ROOM = 1.18


def leading_plane_figure(
    G: ArrayLike, names: Sequence[str], theme: Theme, *, height: int = HEIGHT_MAIN
) -> Figure:
    """The gradients in the plane of the two leading eigenvectors of G, and their mean.

    Args:
        G: Gramian, shape [m, m].
        names: Name of every objective, length m.
        theme: "light" or "dark".
        height: Height in pixels.

    Returns:
        A figure whose number of traces depends on m alone. The hover text says how much of each
        gradient the plane shows.

    Raises:
        ValueError: If G is not a square matrix or not finite, or the names do not fit.
    """
    plane = leading_plane(G)
    labels = check_names(names, len(plane.gradients))
    frame = nice_limit(ROOM * largest(plane.gradients))
    traces = gradient_arrows(plane.gradients, plane.captured, labels, frame, theme)
    traces.append(
        arrows(
            plane.mean[None],
            LineStyle(PALETTES[theme].muted, "dot", "circle"),
            name="mean (plain SGD)",
            hover=[f"mean gradient: length in the plane {number(float(np.hypot(*plane.mean)))}"],
            frame=frame,
            width=2.5,
            head=14,
        )
    )
    first, second = (number(100 * float(share)) for share in plane.axis_shares)
    return assemble(
        traces,
        arrow_layout(
            theme,
            frame,
            f"along the first eigenvector of G ({first} % of the squared lengths)",
            f"along the second ({second} %)",
            height,
        ),
    )


def leading_plane_caption(G: ArrayLike, names: Sequence[str]) -> str:
    """One sentence on what the plane does not show, in total and of the gradient it shows least.

    Args:
        G: Gramian, shape [m, m].
        names: Name of every objective, length m.

    Raises:
        ValueError: If G is not a square matrix or not finite, or the names do not fit.
    """
    plane = leading_plane(G)
    labels = check_names(names, len(plane.gradients))
    if not np.diagonal(check_square(G)).any():
        return "There is no gradient with a length yet."
    if len(labels) <= 2:
        return "The plane shows all of the gradients."
    least = int(np.argmin(plane.captured))
    return (
        f"The plane shows {number(100 * plane.total)} % of the gradients' squared lengths and does "
        f"not show {number(max(100 * (1 - plane.total), 0.0))} %; of {labels[least]} it shows "
        f"least, {number(100 * float(plane.captured[least]))} %."
    )
