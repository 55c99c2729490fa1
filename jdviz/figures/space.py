"""Where aggregation methods go, given gradients in space."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, largest, nice_limit
from jdviz.figures.arrows import ROOM, subscript
from jdviz.figures.arrows_space import (
    cut_at_ball,
    mesh_trace,
    space_arrows,
    space_box,
    space_labels,
    space_layout,
)
from jdviz.figures.cone_space import (
    FLAT,
    SOLID,
    SPACE_DESCRIPTIONS,
    DualCone3D,
    check_space_jacobian,
    dual_cone_3d,
)
from jdviz.figures.directions import BEYOND, LABELLED_GRADIENTS
from jdviz.figures.fans import as_fan, effect, effects_caption, hurt_by, objective_names
from jdviz.figures.frame import WORDS_ONLY, assemble
from jdviz.figures.theme import (
    DISTINCT_METHODS,
    HEIGHT_MAIN,
    PALETTES,
    Figure,
    LineStyle,
    Theme,
    method_styles,
)
from jdviz.figures.words import count, degrees, number

AXES = ("first parameter", "second parameter", "third parameter")

#: Light on the cone: enough to see its sides apart.
SOFT = {"ambient": 0.75, "diffuse": 0.5, "specular": 0.0, "fresnel": 0.0}


def space_figure(
    J: ArrayLike,
    directions: Mapping[str, ArrayLike],
    theme: Theme,
    *,
    names: Sequence[str] | None = None,
    remarks: Mapping[str, str] | None = None,
    radius: float | None = None,
    height: int | None = None,
) -> Figure:
    """Where aggregation methods go, given gradients in space, and which directions hurt none.

    It looks as `jdviz.figures.directions_figure` does in the plane, and is turned by dragging. The
    dual cone is cut by a ball; what lies in it is said where one points at it.

    Args:
        J: Gradients, shape [m, 3].
        directions: Method, by its name in the registry, to its direction, shape [3], or to one
            direction for each of s seeds, shape [s, 3], drawn as a fan.
        theme: "light" or "dark".
        names: Name of every objective for the hover text; "objective 1", … if None.
        remarks: Method to what the directions of its fan are, for the legend, such as "8 orders";
            "48 seeds" with their number where there is none.
        radius: Of the ball; what leaves it is cut short, and the hover text says so. With a radius
            nothing but arrows and cone moves while the gradients do. None for what the gradients
            need and directions up to one and a half times as long, and a box close around them.
        height: Height in pixels.

    Returns:
        A figure with six traces and three more for each of up to eight methods and for all others.

    Raises:
        ValueError: If a shape does not fit or a method is not registered.
    """
    gradients = check_space_jacobian(J)
    labels = objective_names(names, len(gradients))
    fans = {name: as_fan(name, fan, 3) for name, fan in directions.items()}
    ball = (_reach(gradients, fans) or 1.0) if radius is None else radius
    short = [f"g{subscript(index + 1)}" for index in range(len(gradients))]

    def sized(vector: Array) -> str:
        beyond = ", cut short here" if cut_at_ball(vector[None], ball)[1] else ""
        return f"length {number(float(np.linalg.norm(vector)))}{beyond}"

    def words(name: str, direction: Array) -> str:
        return f"{name}: {sized(direction)}, {effect(hurt_by(gradients, direction), labels)}"

    notes = {
        name: f"{name} ({(remarks or {}).get(name, f'{len(fan)} seeds')})" if len(fan) > 1 else name
        for name, fan in fans.items()
    }
    inside = "".join(
        f"<br>{words(name, fan.mean(axis=0))}"
        for name, fan in fans.items()
        if not any(hurt_by(gradients, direction) for direction in fan)
    )
    ends, many = cut_at_ball(gradients, ball)[0], len(gradients) > LABELLED_GRADIENTS
    traces = [
        *_cone_traces(dual_cone_3d(gradients), ball, theme, inside, named=radius is None),
        *space_arrows(
            ends,
            LineStyle(PALETTES[theme].muted, "solid", "circle"),
            name=f"{len(gradients)} gradients" if many else "gradients",
            hover=[
                f"{mark}, {label}: {sized(gradient)}"
                for mark, label, gradient in zip(short, labels, gradients, strict=True)
            ],
            radius=ball,
            width=2.0 if many else 4.0,
            head=0.6 if many else 1.0,
        ),
        *_method_arrows(fans, notes, ball, words, theme),
        space_labels(ends[: 0 if many else None], short[: 0 if many else None], ball, theme),
    ]
    box = space_box(traces, ball) if radius is None else [(-ball, ball)] * 3
    return assemble(traces, space_layout(theme, box, AXES, height or HEIGHT_MAIN))


def directions_radius(J: ArrayLike, directions: Mapping[str, ArrayLike]) -> float:
    """Radius of a ball in which gradients can be seen well, also while they change.

    Args:
        J: Gradients, shape [m, 3].
        directions: Method to its direction, shape [3], or one for each seed, shape [s, 3].

    Returns:
        A round number, for the `radius` of `space_figure`. The ball holds every gradient, and
        directions up to one and a half times as long as the longest of them.

    Raises:
        ValueError: If a shape does not fit.
    """
    fans = {name: as_fan(name, fan, 3) for name, fan in directions.items()}
    return nice_limit(ROOM * _reach(check_space_jacobian(J), fans))


def _reach(gradients: Array, fans: Mapping[str, Array]) -> float:
    """Length of the longest gradient, or of a direction that is somewhat longer; 0 if all are."""
    focus = largest(np.linalg.norm(gradients, axis=1))
    longest = max((largest(np.linalg.norm(fan, axis=1)) for fan in fans.values()), default=0.0)
    return max(focus, min(longest, BEYOND * focus)) if focus else longest


def space_caption(
    J: ArrayLike, directions: Mapping[str, ArrayLike], *, names: Sequence[str] | None = None
) -> str:
    """One sentence on the dual cone and on the methods that make an objective worse.

    Args:
        J: Gradients, shape [m, 3].
        directions: Method to its direction, shape [3], or one for each seed, shape [s, 3].
        names: Name of every objective; "objective 1", … if None.

    Raises:
        ValueError: If a shape does not fit.
    """
    gradients = check_space_jacobian(J)
    labels = objective_names(names, len(gradients))
    return effects_caption(gradients, directions, labels, _described(dual_cone_3d(gradients)))


def _described(cone: DualCone3D) -> str:
    """What a cone is, with its measure."""
    text = SPACE_DESCRIPTIONS[cone.kind]
    if cone.kind == "cone":
        return f"{text} with {len(cone.rays)} edges"
    if cone.kind in ("wedge", "sector"):
        cosine = float(np.clip(cone.rays[0] @ cone.rays[1], -1, 1))
        return f"{text}, {degrees(float(np.degrees(np.arccos(cosine))))} wide"
    return text


def _cone_traces(
    cone: DualCone3D, ball: float, theme: Theme, inside: str, *, named: bool
) -> list[Any]:
    """The surface of the cone within a ball, and its edges, which carry its name.

    Args:
        cone: From `dual_cone_3d`.
        ball: Radius of the ball.
        theme: "light" or "dark".
        inside: What lies in it, for the hover text.
        named: Whether the name says which kind it is.
    """
    color, name = PALETTES[theme].cone, "hurts none"
    thin = cone.kind not in (*SOLID, *FLAT)
    places = _edges(cone, ball)
    return [
        mesh_trace(
            *cone.mesh(ball),
            # It lies in front of the arrows inside, which cannot be pointed at through it.
            hover=f"hurts none: {_described(cone)}{inside}",
            color=color,
            opacity=0.15,
            lighting=SOFT,
            legendgroup=name,
            showlegend=False,
        ),
        go.Scatter3d(
            **dict(zip("xyz", places, strict=True)),
            mode="markers" if cone.kind == "origin" else "lines",
            line={"color": color, "width": 9 if thin else 3},
            marker={"color": color, "size": 8, "symbol": "circle-open"},
            name=f"{name}: {SPACE_DESCRIPTIONS[cone.kind]}" if named else name,
            legendgroup=name,
            hovertext=f"hurts none: {_described(cone)}",
            hoverinfo="skip",
            meta=WORDS_ONLY,
        ),
    ]


def _edges(cone: DualCone3D, ball: float) -> list[list[float | None]]:
    """The rim of a cone and its edges, as the places of one broken line along each axis."""
    origin = np.zeros(3)
    pieces = [cone.rim(ball)] if cone.kind in (*SOLID, *FLAT) else []
    if cone.kind in ("cone", "sector", "ray"):
        pieces += [np.stack([origin, ball * ray]) for ray in cone.rays]
    elif len(cone.lines) == 1:
        pieces.append(ball * np.concatenate([-cone.lines, cone.lines]))
    elif cone.kind == "origin":
        pieces.append(origin[None])
    return [
        [value for piece in pieces for value in (*map(float, piece[:, axis]), None)]
        for axis in range(3)
    ]


def _method_arrows(
    fans: Mapping[str, Array],
    notes: Mapping[str, str],
    ball: float,
    words: Callable[[str, Array], str],
    theme: Theme,
) -> list[Any]:
    """Three traces for each method that has a colour, and three for all others before them."""
    styles, traces = method_styles(list(fans), theme), []
    others = {name: fan.mean(axis=0) for name, fan in list(fans.items())[DISTINCT_METHODS:]}
    if others:
        traces += space_arrows(
            cut_at_ball(np.array(list(others.values())), ball)[0],
            styles[next(iter(others))],
            name=count(len(others), "other method"),
            hover=[words(other, direction) for other, direction in others.items()],
            radius=ball,
            width=2.0,
            head=0.7,
        )
    for name, fan in list(fans.items())[:DISTINCT_METHODS]:
        single = len(fan) == 1
        traces += space_arrows(
            cut_at_ball(fan, ball)[0],
            styles[name],
            name=notes[name],
            hover=[words(name, direction) for direction in fan],
            radius=ball,
            width=4.5 if single else 2.5,
            head=1.0 if single else 0.6,
            opacity=1.0 if single else 0.6,
        )
    return traces
