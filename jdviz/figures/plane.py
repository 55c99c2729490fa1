"""Gradients and update directions as arrows in a plane."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.conflict import UpdatePlane, hurt_mask
from jdviz.figures.arrays import Array, check_names, drawable, largest, nice_limit
from jdviz.figures.arrows import (
    arrow_layout,
    arrows,
    cut_at_frame,
    gradient_arrows,
    subscript,
    tip_labels,
)
from jdviz.figures.cone import DESCRIPTIONS, DualCone2D, check_plane_jacobian, dual_cone_2d
from jdviz.figures.frame import assemble
from jdviz.figures.theme import (
    DISTINCT_METHODS,
    DISTINCT_OBJECTIVES,
    HEIGHT_MAIN,
    PALETTES,
    Figure,
    LineStyle,
    Theme,
    method_styles,
    with_opacity,
)
from jdviz.figures.words import count, degrees, listed, number

__all__ = [
    "comparison_caption",
    "directions_caption",
    "directions_figure",
    "dual_cone_2d",
    "plane_caption",
    "update_plane_figure",
]

#: More methods than this need so many more pixels for their lines in the legend.
FEW_METHODS, LEGEND_ROOM = 6, 110

#: With many gradients the square reaches this many lengths of mean and update; longer ones are cut.
REACH = 2.0

#: Axes of the plane that shows most of the gradients.
LEADING_AXES = ("along the first eigenvector of G", "along the second")

#: Room around the longest arrow, for its label.
ROOM = 1.18

#: An inner product below this share of the largest is the rounding of zero.
ROUNDING = 1e-8


class Described(Protocol):
    """What is known about a method, with attributes of `engines.aggregation.MethodRecord`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def random(self) -> bool:
        """Whether it draws random numbers."""

    @property
    def stateful(self) -> bool:
        """Whether it has memory."""

    @property
    def statistic(self) -> str:
        """What it is given: "gramian", "jacobian" or "product"."""


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


def directions_figure(
    J: ArrayLike,
    directions: Mapping[str, ArrayLike],
    theme: Theme,
    *,
    names: Sequence[str] | None = None,
    inner: Mapping[str, ArrayLike] | None = None,
    height: int | None = None,
) -> Figure:
    """Where aggregation methods go, given gradients in the plane, and which directions hurt none.

    The gradients are neutral here, because colour and dash belong to the methods. Those beyond
    the eighth are thin and neutral too; the hover text names them. More than seven gradients are
    thin and without labels, and directions that leave their frame are cut short.

    Args:
        J: Gradients, shape [m, 2].
        directions: Method, by its name in the registry, to its direction, shape [2], or to one
            direction for each of s seeds, shape [s, 2], drawn as a fan.
        theme: "light" or "dark".
        names: Name of every objective for the hover text; "objective 1", … if None.
        inner: Method to gᵢ·A(J), shape [m], where the plane is that of the two leading eigenvectors
            of G and shows only a part of gradients and directions; None where it shows all.
        height: Height in pixels; if None, as much as the legend of the methods leaves room for.

    Returns:
        A figure with three traces and one more for each of up to eight methods and for all others.

    Raises:
        ValueError: If a shape does not fit or a method is not registered.
    """
    gradients = check_plane_jacobian(J)
    m = len(gradients)
    labels = check_names(names or [f"objective {index + 1}" for index in range(m)], m)
    fans = {name: _fan(name, fan) for name, fan in directions.items()}
    many = m > DISTINCT_OBJECTIVES
    reach, focus = largest(np.concatenate([gradients, *fans.values()])), largest(gradients)
    # A sum of many gradients would leave no room for them and for methods that average.
    frame = nice_limit(ROOM * (focus if many and focus else reach))
    cuts = {name: cut_at_frame(fan, frame)[1] > 0 for name, fan in fans.items()}
    ends = {name: cut_at_frame(fan, frame)[0] for name, fan in fans.items()}
    palette = PALETTES[theme]
    short = [f"g{subscript(index + 1)}" for index in range(m)]
    length = "length" if inner is None else "length in the plane"
    worse = None if inner is None else {name: _worse(name, inner, m) for name in fans}

    def words(name: str, direction: Array) -> str:
        hurt = _hurt(gradients, direction) if worse is None else worse[name]
        ending = f"makes {listed([labels[index] for index in hurt])} worse" if hurt else ""
        size = number(float(np.hypot(*direction)))
        return f"{name}: {length} {size}, {ending or 'makes no objective worse'}"

    traces = [
        _cone_trace(dual_cone_2d(gradients), frame, theme),
        arrows(
            gradients,
            LineStyle(palette.muted, "solid", "circle"),
            name=f"{m} gradients" if many else "gradients",
            hover=[
                f"{mark}, {label}: {length} {number(float(np.hypot(*gradient)))}"
                for mark, label, gradient in zip(short, labels, gradients, strict=True)
            ],
            frame=frame,
            width=1.2 if many else 2.5,
            head=8 if many else 12,
            opacity=0.7 if many else 1.0,
        ),
    ]
    styles = method_styles(list(fans), theme)
    coloured = list(fans)[:DISTINCT_METHODS]
    others = {name: fan.mean(axis=0) for name, fan in list(fans.items())[DISTINCT_METHODS:]}
    if others:
        traces.append(
            arrows(
                cut_at_frame(np.array(list(others.values())), frame)[0],
                styles[next(iter(others))],
                name=count(len(others), "other method"),
                hover=[words(other, direction) for other, direction in others.items()],
                frame=frame,
                width=1.2,
                head=10,
            )
        )
    # Fans first, so that they do not cover the single arrows.
    for name in sorted(coloured, key=lambda name: len(fans[name]) == 1):
        single = len(fans[name]) == 1
        remarks = [] if single else [f"{len(fans[name])} seeds"]
        remarks += ["cut short"] if cuts[name] else []
        traces.append(
            arrows(
                ends[name],
                styles[name],
                name=f"{name} ({', '.join(remarks)})" if remarks else name,
                hover=[words(name, direction) for direction in fans[name]],
                frame=frame,
                width=2.5 if single else 1.5,
                head=13 if single else 9,
                opacity=1.0 if single else 0.6,
            )
        )
    labelled = slice(0, 0 if many else m)
    traces.append(tip_labels(gradients[labelled], short[labelled], frame, theme))
    if height is None:
        height = HEIGHT_MAIN + LEGEND_ROOM * (len(fans) > FEW_METHODS)
    axes = ("first parameter", "second parameter") if inner is None else LEADING_AXES
    layout = arrow_layout(theme, frame, *axes, height)
    tips = np.nan_to_num(np.concatenate([np.zeros((1, 2)), gradients, *ends.values()]))
    for axis, values in zip(("xaxis", "yaxis"), tips.T, strict=True):
        # As far as the arrows reach, and a little further for their labels.
        room = 0.14 * frame
        layout[axis]["range"] = [float(values.min()) - room, float(values.max()) + room]
    return assemble(traces, layout)


def directions_caption(
    J: ArrayLike, directions: Mapping[str, ArrayLike], *, names: Sequence[str] | None = None
) -> str:
    """One sentence on the dual cone and on the methods that make an objective worse.

    Args:
        J: Gradients, shape [m, 2].
        directions: Method to its direction, shape [2], or one for each seed, shape [s, 2].
        names: Name of every objective; "objective 1", … if None.

    Raises:
        ValueError: If a shape does not fit.
    """
    gradients = check_plane_jacobian(J)
    m = len(gradients)
    labels = check_names(names or [f"objective {index + 1}" for index in range(m)], m)
    cone = DESCRIPTIONS[dual_cone_2d(gradients).kind]
    begin = f"The directions that make none of {count(m, 'objective')} worse are {cone}"
    hurting = []
    for name, fan in directions.items():
        hurt = sorted({index for d in _fan(name, fan) for index in _hurt(gradients, d)})
        if hurt:
            # Of a random method, some draws may.
            verb = "makes" if np.ndim(fan) == 1 else "can make"
            hurting.append(f"{name} {verb} {listed([labels[index] for index in hurt])} worse")
    if not directions:
        return begin + "."
    if not hurting:
        return f"{begin}; every method shown stays among them."
    return f"{begin}; {listed(hurting, limit=4)}."


def comparison_caption(records: Sequence[Described], draws: int) -> str:
    """What has to be known about the methods shown: colours, random draws, memory, two batches.

    Args:
        records: Of the methods, in the order shown.
        draws: How often a random one is drawn.

    Returns:
        Some sentences, or none.
    """
    sentences = []
    if len(records) > DISTINCT_METHODS:
        sentences.append(
            f"The first {DISTINCT_METHODS} methods have colours, the other "
            f"{len(records) - DISTINCT_METHODS} are thin grey arrows whose names appear on hover."
        )
    if any(record.random for record in records):
        sentences.append(f"A random method is drawn {draws} times; bars and table show the mean.")
    remember = [record.name for record in records if record.stateful]
    if remember:
        verb, whose = ("has", "its") if len(remember) == 1 else ("have", "their")
        sentences.append(
            f"{listed(remember, limit=8)} {verb} memory: shown is {whose} first step after reset."
        )
    doubled = [record.name for record in records if record.statistic == "product"]
    if doubled:
        verb = "wants" if len(doubled) == 1 else "want"
        sentences.append(
            f"{listed(doubled, limit=8)} {verb} the gradients of two independent batches: here "
            "both are these."
        )
    return " ".join(sentences)


def _fan(name: str, directions: ArrayLike) -> Array:
    array = drawable(directions)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(
            f"got directions of shape {np.shape(directions)} for {name}, expected [2] or [s, 2]."
        )
    return array


def _hurt(gradients: Array, direction: Array) -> list[int]:
    """The objectives that get worse along a direction, beyond rounding."""
    with np.errstate(invalid="ignore"):
        inner = gradients @ direction
    sizes = np.linalg.norm(gradients, axis=1) * np.linalg.norm(direction)
    return [int(index) for index in np.flatnonzero(inner < -ROUNDING * sizes)]


def _worse(name: str, inner: Mapping[str, ArrayLike], m: int) -> list[int]:
    """The objectives that get worse by known inner products."""
    values = drawable(inner[name])
    if values.shape != (m,):
        raise ValueError(f"got inner products of shape {values.shape} for {name}, expected ({m},).")
    return [int(index) for index in np.flatnonzero(hurt_mask(values))]


def _cone_trace(cone: DualCone2D, frame: float, theme: Theme) -> go.Scatter:
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
        name=f"hurts none: {DESCRIPTIONS[cone.kind]}",
        hoverinfo="skip",
    )
