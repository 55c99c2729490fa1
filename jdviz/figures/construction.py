"""How UPGrad comes to its direction: gradients, dual cone, projections and their mean."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.conflict import hurt_mask, pair_angles_deg
from jdviz.figures.arrays import Array, largest, nice_limit
from jdviz.figures.arrows import (
    CLEARANCE,
    HANDLE,
    LISTED_GRADIENTS,
    ROOM,
    arrow_layout,
    arrows,
    fit_axes,
    subscript,
    tip_labels,
)
from jdviz.figures.cone import (
    DESCRIPTIONS,
    SHORT_NAME,
    check_plane_jacobian,
    cone_trace,
    dual_cone_2d,
)
from jdviz.figures.fans import hurt_by, objective_names
from jdviz.figures.frame import assemble
from jdviz.figures.theme import (
    HEIGHT_MAIN,
    PALETTES,
    Figure,
    LineStyle,
    Theme,
    objective_colors,
)
from jdviz.figures.words import count, degrees, listed, number, share

if TYPE_CHECKING:
    from jdviz.construction import Construction

#: What is added at each step, for a menu.
CONSTRUCTION_STEPS = ("Gradients", "Dual cone", "Projections", "Mean")

#: With more gradients than this, labels at the projections would cover each other.
LABELLED_PROJECTIONS = 3

#: Side of a right-angle mark as a share of the frame; it needs twice as much room to be drawn.
MARK = 0.05


def construction_figure(
    J: ArrayLike,
    step: int,
    theme: Theme,
    *,
    frame: float | None = None,
    names: Sequence[str] | None = None,
    regularisation: float = 0.0,
    height: int | None = None,
) -> Figure:
    """UPGrad's direction for gradients in the plane, built up in four steps.

    Step 0 shows the gradients, each in its objective's colour; step 1 adds the dual cone; step 2
    the projection of every gradient onto it, at the end of a dashed line that meets the cone's
    edge at a right angle; step 3 the mean of the projections, which is UPGrad. What is still to
    come is empty and grey in the legend, so that nothing moves between the steps.

    Args:
        J: Gradients, shape [m, 2].
        step: 0 to 3.
        theme: "light" or "dark".
        frame: Half the width of the shown square; None for as much as the arrows need.
        names: Name of every objective for the hover text; "objective 1", … if None.
        regularisation: ε of `jdviz.construction.upgrad_construction`; there are no right angles
            then.
        height: Height in pixels.

    Returns:
        A figure with 3m + 4 traces at every step.

    Raises:
        NonFiniteGradientError: If J has NaN or infinity.
        ValueError: If a shape or the names do not fit, or there is no such step.
    """
    made = _construction(J, step, regularisation)
    gradients = made.gradients
    m = len(gradients)
    labels = objective_names(names, m)
    square = nice_limit(ROOM * largest(gradients)) if frame is None else frame
    clearance = CLEARANCE if frame is None else HANDLE
    traces = [_cone(gradients, square, theme, step >= 1, named=frame is None)]
    for index, color in enumerate(objective_colors(m, theme)):
        traces += _gradient(made, index, labels[index], color, square, step >= 2)
    traces += [
        _right_angles(made, square, theme, step >= 2),
        _mean(made, square, theme, step >= 3),
        tip_labels(*_labelled(made, step), square, theme, clearance=clearance),
    ]
    axes = ("first parameter", "second parameter")
    layout = arrow_layout(theme, square, *axes, height or HEIGHT_MAIN)
    if frame is None:
        # The same at every step, whatever is drawn.
        fit_axes(layout, [gradients, made.projections], square)
    return assemble(traces, layout)


def construction_caption(J: ArrayLike, step: int, *, regularisation: float = 0.0) -> str:
    """One sentence on what the step adds.

    Args:
        J: Gradients, shape [m, 2].
        step: 0 to 3.
        regularisation: ε of `jdviz.construction.upgrad_construction`.

    Raises:
        NonFiniteGradientError: If J has NaN or infinity.
        ValueError: If J does not have two columns, or there is no such step.
    """
    made = _construction(J, step, regularisation)
    if len(made.gradients) == 0:
        return "There is no gradient to show yet."
    return (_conflict_words, _cone_words, _projection_words, _mean_words)[step](made)


def _construction(J: ArrayLike, step: int, regularisation: float) -> "Construction":
    # Here, because only a figure of methods needs the engines, and torch with them.
    from jdviz.construction import upgrad_construction

    if step not in range(len(CONSTRUCTION_STEPS)):
        raise ValueError(f"got step {step}, expected 0 to {len(CONSTRUCTION_STEPS) - 1}.")
    return upgrad_construction(check_plane_jacobian(J), regularisation)


def _cone(gradients: Array, square: float, theme: Theme, shown: bool, *, named: bool) -> go.Scatter:
    cone = dual_cone_2d(gradients)
    trace = cone_trace(cone, square, theme, name=None if named else SHORT_NAME)
    return trace if shown else _to_come(trace)


def _gradient(
    made: "Construction", index: int, label: str, color: str, square: float, shown: bool
) -> list[go.Scatter]:
    """One gradient, the way from it to the cone, and the projection where that ends."""
    gradient, projection = made.gradients[index], made.projections[index]
    style, short = LineStyle(color, "solid", "circle"), _mark(index)
    moved = shown and bool(made.residuals[index].any())
    way = np.array([gradient, projection])[: 2 * moved]
    return [
        arrows(
            gradient[None],
            style,
            name=f"{short} {label}",
            hover=[f"{short}, {label}: length {number(float(np.hypot(*gradient)))}"],
            frame=square,
            width=2.5,
            # What it becomes comes first then, and it steps back.
            opacity=0.55 if shown else 1.0,
            showlegend=len(made.gradients) <= LISTED_GRADIENTS,
        ),
        go.Scatter(
            x=way[:, 0],
            y=way[:, 1],
            mode="lines",
            line={"color": color, "dash": "dash", "width": 1.8},
            hoverinfo="skip",
            showlegend=False,
        ),
        arrows(
            projection[None][: int(shown)],
            style,
            name=f"π({short})",
            hover=[_landing(made, index)][: int(shown)],
            frame=square,
            width=3.0,
            showlegend=False,
        ),
    ]


def _landing(made: "Construction", index: int) -> str:
    """Where a gradient ends, for a person."""
    short = _mark(index)
    way = float(np.hypot(*made.residuals[index]))
    if way == 0:
        return f"π({short}) = {short}: it lies in the cone"
    size = float(np.hypot(*made.projections[index]))
    if size == 0:
        return f"π({short}) = 0: nothing of {short} is left"
    if made.regularisation > 0:
        return f"π({short}): length {number(size)}, {number(way)} from {short}, with ε in the way"
    pushed = listed([_mark(int(other)) for other in np.flatnonzero(made.active[index])])
    return f"π({short}): length {number(size)}, {number(way)} from {short}, square to {pushed}"


def _right_angles(made: "Construction", square: float, theme: Theme, shown: bool) -> go.Scatter:
    """A small square where the way from a gradient meets the edge of the cone."""
    places: list[list[float | None]] = []
    for tip, way in zip(made.projections, made.residuals, strict=True):
        sizes = np.hypot(*tip), np.hypot(*way)
        if not shown or made.regularisation > 0 or min(sizes) < 2 * MARK * square:
            continue
        along, across = -MARK * square * tip / sizes[0], MARK * square * way / sizes[1]
        for corner in (tip + along, tip + along + across, tip + across):
            places.append([float(corner[0]), float(corner[1])])
        places.append([None, None])
    return go.Scatter(
        x=[x for x, _ in places],
        y=[y for _, y in places],
        mode="lines",
        line={"color": PALETTES[theme].text, "width": 1.3},
        hoverinfo="skip",
        showlegend=False,
    )


def _mean(made: "Construction", square: float, theme: Theme, shown: bool) -> go.Scatter:
    length = number(float(np.hypot(*made.direction)))
    trace = arrows(
        made.direction[None][: int(shown)],
        LineStyle(PALETTES[theme].text, "solid", "circle"),
        name="UPGrad: their mean",
        hover=[f"UPGrad, the mean of the projections: length {length}"][: int(shown)],
        frame=square,
        width=4.0,
        head=16,
    )
    return trace if shown else _to_come(trace)


def _to_come(trace: go.Scatter) -> go.Scatter:
    """The same trace without its points, and with a pale entry in the legend."""
    # A trace without any place at all would have no entry, and the legend would move.
    return trace.update(x=[None], y=[None], visible="legendonly")


def _labelled(made: "Construction", step: int) -> tuple[Array, list[str]]:
    """The tips that have a label at a step, and the labels."""
    m = len(made.gradients)
    tips, words = [made.gradients], [_mark(index) for index in range(m)]
    if step >= 2 and m <= LABELLED_PROJECTIONS:
        # One that stays has a label already.
        moved = np.flatnonzero(made.residuals.any(axis=1))
        tips.append(made.projections[moved])
        words += [f"π({_mark(int(index))})" for index in moved]
    if step >= 3 and m:
        tips.append(made.direction[None])
        words.append("A(J)")
    return np.concatenate(tips), words


def _conflict_words(made: "Construction") -> str:
    angles = pair_angles_deg(made.gradients @ made.gradients.T)
    if len(angles) == 0:
        return "There is no pair of gradients, so there is nothing that could conflict."
    widest = degrees(float(angles.max()))
    if not (angles > 90).any():
        return f"No two gradients conflict: the widest angle between two is {widest}."
    conflicting = share(int((angles > 90).sum()), len(angles), "pair")
    return f"{conflicting} in conflict, more than 90° apart; the widest angle is {widest}."


def _cone_words(made: "Construction") -> str:
    m, cone = len(made.gradients), dual_cone_2d(made.gradients)
    wide = f" {degrees(float(np.degrees(cone.opening)))} wide" if cone.kind == "wedge" else ""
    outside = int(made.residuals.any(axis=1).sum())
    begin = (
        f"The directions that make none of {count(m, 'objective')} worse are "
        f"{DESCRIPTIONS[cone.kind]}{wide}"
    )
    if outside == 0:
        return f"{begin}; every gradient lies in it."
    return f"{begin}; {share(outside, m, 'gradient')} outside."


def _projection_words(made: "Construction") -> str:
    ways = np.linalg.norm(made.residuals, axis=1)
    moved = [_mark(int(index)) for index in np.flatnonzero(ways)]
    if not moved:
        return "Every gradient lies in the cone, so each is its own projection."
    if made.regularisation > 0:
        return (
            f"With ε = {number(made.regularisation)} on the Gramian's diagonal, {listed(moved)} "
            "end near the cone and not on it."
        )
    verb = "goes" if len(moved) == 1 else "go"
    farthest = int(ways.argmax())
    stay = "" if len(moved) == len(ways) else "; the others stay"
    return (
        f"{listed(moved)} {verb} to the nearest point of the cone, {_mark(farthest)} farthest, by "
        f"{number(float(ways[farthest]))}{stay}."
    )


def _mean_words(made: "Construction") -> str:
    length, mean = float(np.hypot(*made.direction)), made.gradients.mean(axis=0)
    if length == 0:
        return "The mean of the projections is zero, so UPGrad stays where it is."
    if made.regularisation > 0:
        worse = [_mark(int(index)) for index in np.flatnonzero(hurt_mask(made.inner))]
        effect = f"makes {listed(worse)} worse" if worse else "still makes no objective worse"
        return (
            f"With ε = {number(made.regularisation)} on the Gramian's diagonal the mean of the "
            f"projections {effect}."
        )
    begin = f"The mean of the projections is UPGrad, of length {number(length)}: it "
    hurt = [_mark(index) for index in hurt_by(made.gradients, mean)]
    against = f", where the mean of the gradients makes {listed(hurt)} worse" if hurt else ""
    return f"{begin}makes no objective worse{against}."


def _mark(index: int) -> str:
    return f"g{subscript(index + 1)}"
