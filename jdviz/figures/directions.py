"""Where aggregation methods go, as arrows in the plane of the gradients."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.conflict import hurt_mask
from jdviz.figures.arrays import Array, drawable, largest, nice_limit
from jdviz.figures.arrows import (
    CLEARANCE,
    HANDLE,
    ROOM,
    arrow_layout,
    arrows,
    cut_at_frame,
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
from jdviz.figures.fans import as_fan, effect, effects_caption, hurt_by, objective_names
from jdviz.figures.frame import assemble
from jdviz.figures.theme import (
    DISTINCT_METHODS,
    HEIGHT_MAIN,
    PALETTES,
    Figure,
    LineStyle,
    Theme,
    method_styles,
)
from jdviz.figures.words import count, listed, number

#: More methods than this need so many more pixels for their lines in the legend.
FEW_METHODS, LEGEND_ROOM = 6, 110

#: A direction may be so many times as long as the longest gradient before it is cut.
BEYOND = 1.5

#: Up to so many gradients are thick arrows with labels at their tips.
LABELLED_GRADIENTS = 8

#: Axes of the plane that shows most of the gradients.
LEADING_AXES = ("along the first eigenvector of G", "along the second")


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


def directions_figure(
    J: ArrayLike,
    directions: Mapping[str, ArrayLike],
    theme: Theme,
    *,
    names: Sequence[str] | None = None,
    inner: Mapping[str, ArrayLike] | None = None,
    remarks: Mapping[str, str] | None = None,
    frame: float | None = None,
    height: int | None = None,
) -> Figure:
    """Where aggregation methods go, given gradients in the plane, and which directions hurt none.

    The gradients are neutral here, because colour and dash belong to the methods. Those beyond
    the eighth are thin and neutral too; the hover text names them. More than eight gradients are
    thin and without labels, and directions that leave their frame are cut short.

    Args:
        J: Gradients, shape [m, 2].
        directions: Method, by its name in the registry, to its direction, shape [2], or to one
            direction for each of s seeds, shape [s, 2], drawn as a fan.
        theme: "light" or "dark".
        names: Name of every objective for the hover text; "objective 1", … if None.
        inner: Method to gᵢ·A(J), shape [m], where the plane is that of the two leading eigenvectors
            of G and shows only a part of gradients and directions; None where it shows all.
        remarks: Method to what the directions of its fan are, for the legend, such as "8 orders";
            "48 seeds" with their number where there is none.
        frame: Half the width of the shown square. Then nothing but the arrows moves while the
            gradients do: the axes and the names in the legend stay as they are, what leaves the
            square is cut short, and the hover text says so. None for as much as the arrows need.
        height: Height in pixels; if None, as much as the legend of the methods leaves room for.

    Returns:
        A figure with three traces and one more for each of up to eight methods and for all others.

    Raises:
        ValueError: If a shape does not fit or a method is not registered.
    """
    gradients = check_plane_jacobian(J)
    m = len(gradients)
    labels = objective_names(names, m)
    fans = {name: as_fan(name, fan, 2) for name, fan in directions.items()}
    many, fixed = m > LABELLED_GRADIENTS, frame is not None
    square = _square(gradients, list(fans.values()), many) if frame is None else frame
    # A gradient that leaves a square chosen by the caller ends at its edge, with its label.
    drawn = cut_at_frame(gradients, square)[0] if fixed else gradients
    palette = PALETTES[theme]
    short = [f"g{subscript(index + 1)}" for index in range(m)]
    length = "length" if inner is None else "length in the plane"
    worse = None if inner is None else {name: _worse(name, inner, m) for name in fans}

    def sized(vector: Array) -> str:
        beyond = ", cut short here" if fixed and cut_at_frame(vector[None], square)[1] else ""
        return f"{length} {number(float(np.hypot(*vector)))}{beyond}"

    def words(name: str, direction: Array) -> str:
        hurt = hurt_by(gradients, direction) if worse is None else worse[name]
        return f"{name}: {sized(direction)}, {effect(hurt, labels)}"

    traces = [
        cone_trace(dual_cone_2d(gradients), square, theme, name=SHORT_NAME if fixed else None),
        arrows(
            drawn,
            LineStyle(palette.muted, "solid", "circle"),
            name=f"{m} gradients" if many else "gradients",
            hover=[
                f"{mark}, {label}: {sized(gradient)}"
                for mark, label, gradient in zip(short, labels, gradients, strict=True)
            ],
            frame=square,
            width=1.2 if many else 2.5,
            head=8 if many else 12,
            opacity=0.7 if many else 1.0,
        ),
    ]
    notes = {
        name: [(remarks or {}).get(name, f"{len(fan)} seeds")] if len(fan) > 1 else []
        for name, fan in fans.items()
    }
    if not fixed:
        for name, fan in fans.items():
            notes[name] += ["cut short"] if cut_at_frame(fan, square)[1] else []
    traces += _method_arrows(fans, notes, square, words, theme)
    labelled = slice(0, 0 if many else m)
    clearance = HANDLE if fixed else CLEARANCE
    traces.append(tip_labels(drawn[labelled], short[labelled], square, theme, clearance=clearance))
    if height is None:
        height = HEIGHT_MAIN + LEGEND_ROOM * (len(fans) > FEW_METHODS)
    axes = ("first parameter", "second parameter") if inner is None else LEADING_AXES
    layout = arrow_layout(theme, square, *axes, height)
    if not fixed:
        fit_axes(
            layout, [gradients, *(cut_at_frame(fan, square)[0] for fan in fans.values())], square
        )
    return assemble(traces, layout)


def directions_frame(J: ArrayLike, directions: Mapping[str, ArrayLike]) -> float:
    """Half the width of a square in which gradients can be seen and moved.

    Args:
        J: Gradients, shape [m, 2].
        directions: Method to its direction, shape [2], or one for each seed, shape [s, 2].

    Returns:
        A round number, for the `frame` of `directions_figure`. It holds every gradient, and
        directions up to one and a half times as long as the longest of them.

    Raises:
        ValueError: If a shape does not fit.
    """
    focus = largest(check_plane_jacobian(J))
    fans = [as_fan(name, fan, 2) for name, fan in directions.items()]
    reach = largest(np.concatenate(fans)) if fans else 0.0
    return nice_limit(ROOM * (max(focus, min(reach, BEYOND * focus)) if focus else reach))


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
    cone = DESCRIPTIONS[dual_cone_2d(gradients).kind]
    return effects_caption(gradients, directions, objective_names(names, len(gradients)), cone)


def comparison_caption(records: Sequence[Described], drawn: Mapping[str, str]) -> str:
    """What has to be known about the methods shown: colours, random draws, memory, two batches.

    Args:
        records: Of the methods, in the order shown.
        drawn: Of each random one what its many directions are, such as "48 seeds".

    Returns:
        Some sentences, or none.
    """
    sentences = []
    if len(records) > DISTINCT_METHODS:
        sentences.append(
            f"The first {DISTINCT_METHODS} methods have colours, the other "
            f"{len(records) - DISTINCT_METHODS} are thin grey arrows whose names appear on hover."
        )
    fans = [f"{record.name} for {drawn[record.name]}" for record in records if record.name in drawn]
    if fans:
        sentences.append(
            f"Random methods are drawn as fans, {listed(fans, limit=8)}; bars and table show the "
            "mean."
        )
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


def _method_arrows(
    fans: Mapping[str, Array],
    notes: Mapping[str, Sequence[str]],
    square: float,
    words: Callable[[str, Array], str],
    theme: Theme,
) -> list[go.Scatter]:
    """One trace for each method that has a colour, and one for all others before them."""
    styles, traces = method_styles(list(fans), theme), []
    others = {name: fan.mean(axis=0) for name, fan in list(fans.items())[DISTINCT_METHODS:]}
    if others:
        traces.append(
            arrows(
                cut_at_frame(np.array(list(others.values())), square)[0],
                styles[next(iter(others))],
                name=count(len(others), "other method"),
                hover=[words(other, direction) for other, direction in others.items()],
                frame=square,
                width=1.2,
                head=10,
            )
        )
    # Fans first, so that they do not cover the single arrows.
    for name in sorted(list(fans)[:DISTINCT_METHODS], key=lambda name: len(fans[name]) == 1):
        single = len(fans[name]) == 1
        traces.append(
            arrows(
                cut_at_frame(fans[name], square)[0],
                styles[name],
                name=f"{name} ({', '.join(notes[name])})" if notes[name] else name,
                hover=[words(name, direction) for direction in fans[name]],
                frame=square,
                width=2.5 if single else 1.5,
                head=13 if single else 9,
                opacity=1.0 if single else 0.6,
            )
        )
    return traces


def _square(gradients: Array, fans: Sequence[Array], many: bool) -> float:
    """Half the width of a square that shows gradients and directions well."""
    focus = largest(gradients)
    # A sum of many gradients would leave no room for them and for methods that average.
    return nice_limit(
        ROOM * (focus if many and focus else largest(np.concatenate([gradients, *fans])))
    )


def _worse(name: str, inner: Mapping[str, ArrayLike], m: int) -> list[int]:
    """The objectives that get worse by known inner products."""
    values = drawable(inner[name])
    if values.shape != (m,):
        raise ValueError(f"got inner products of shape {values.shape} for {name}, expected ({m},).")
    return [int(index) for index in np.flatnonzero(hurt_mask(values))]
