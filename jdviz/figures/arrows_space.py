"""Arrows from the origin of a space that can be turned, and labels at their tips."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from plotly import graph_objects as go

from jdviz.figures.arrays import Array, drawable
from jdviz.figures.arrows import CROWDED, DOT
from jdviz.figures.cone_space import Triangles
from jdviz.figures.frame import WORDS_ONLY, base_layout, titled
from jdviz.figures.theme import HEIGHT_MAIN, PALETTES, UI_REVISION, LineStyle, Theme

#: Length of a head as a share of the ball's radius, and at most of its arrow's length.
HEAD, LONGEST_HEAD = 0.12, 0.6

#: Half the width of a head as a share of its length, and the number of its sides.
SLENDER, SIDES = 0.3, 12

#: How far beyond its tip a label stands, as a share of the radius.
BEYOND = 0.07

#: Room around all that is drawn as a share of the radius, and the shortest side of the box as a
#: share of the longest.
EDGE, THINNEST = 0.06, 0.6

#: From where the space is seen at first: a little from above, so that no axis points at the eye.
CAMERA = {
    "eye": {"x": -0.57, "y": -1.82, "z": 0.81},
    "center": {"x": -0.07, "y": 0, "z": -0.14},
    "up": {"x": 0, "y": 0, "z": 1},
}

#: With more arrows than this, hover is at their tips alone and not at the whole heads.
SPOKEN_HEADS = 12

#: Width of a line in the legend, and size of a tip in pixels: within a head, and on its own.
LEGEND_WIDTH, TIP, LONE_TIP = 2.5, 3, 7

#: Heads show their colour as it is, from every side.
UNLIT = {"ambient": 1.0, "diffuse": 0.0, "specular": 0.0, "fresnel": 0.0}


def space_arrows(
    vectors: Array,
    style: LineStyle,
    *,
    name: str,
    hover: Sequence[str],
    radius: float,
    width: float = 4.0,
    head: float = 1.0,
    opacity: float = 1.0,
) -> list[Any]:
    """Three traces of arrows from the origin, however many there are: shafts, heads and tips.

    The traces of the library have no heads in space, and its cones no colour of their own.

    Args:
        vectors: Tips, shape [s, 3]; rows that are not finite are left out, a zero is a dot.
        style: Colour and dash.
        name: Entry in the legend, which hides all three.
        hover: Words for each tip, length s.
        radius: Of the shown ball, to which heads are scaled.
        width: Of the shafts in pixels.
        head: Size of the heads as a multiple of the usual one.
        opacity: Of shafts and heads.
    """
    shown = [
        (vector, words)
        for vector, words in zip(drawable(vectors), hover, strict=True)
        if np.isfinite(vector).all()
    ]
    shafts: list[Array] = []
    heads: list[tuple[Array, Triangles]] = []
    said: list[str] = []
    for vector, words in shown:
        length = float(np.linalg.norm(vector))
        if length > DOT * radius:
            size = min(HEAD * head * radius, LONGEST_HEAD * length)
            # The shaft ends inside its head, or it would be the blunter of the two.
            shafts.append(vector * (1 - 0.7 * size / length))
            heads.append(_head(vector, size))
            said += [words] * len(heads[-1][0])
    sizes = [
        size
        for tip, _ in shown
        for size in (TIP if float(np.linalg.norm(tip)) > DOT * radius else LONE_TIP, 0)
    ]
    lines = [[value for end in shafts for value in (0.0, float(end[k]), None)] for k in range(3)]
    tips = [[value for tip, _ in shown for value in (float(tip[k]), None)] for k in range(3)]
    shared: dict[str, Any] = {"legendgroup": name, "opacity": opacity}
    return [
        go.Scatter3d(
            **dict(zip("xyz", lines, strict=True)),
            **shared,
            mode="lines",
            line={"color": style.color, "dash": style.dash, "width": width},
            hoverinfo="skip",
            showlegend=False,
        ),
        mesh_trace(
            *_joined(heads),
            # Each corner of each head carries its words: too many of them for a fan, whose tips
            # have to do.
            hover=said if len(shown) <= SPOKEN_HEADS else [],
            color=style.color,
            lighting=UNLIT,
            showlegend=False,
            **shared,
        ),
        go.Scatter3d(
            **dict(zip("xyz", tips, strict=True)),
            **shared,
            name=name,
            mode="lines+markers",
            # Of the line only the legend shows something: the tips are not joined.
            line={"color": style.color, "dash": style.dash, "width": LEGEND_WIDTH},
            marker={"color": style.color, "size": sizes, "line": {"width": 0}},
            hovertext=[text for _, words in shown for text in (words, "")],
            hovertemplate="%{hovertext}<extra></extra>",
        ),
    ]


def space_labels(
    vectors: Array, labels: Sequence[str], radius: float, theme: Theme
) -> go.Scatter3d:
    """One trace with a label beyond every tip; tips that nearly meet share one.

    Args:
        vectors: Tips, shape [s, 3]; rows that are not finite get no label.
        labels: A short label for each, length s.
        radius: Of the shown ball.
        theme: "light" or "dark".
    """
    groups: list[tuple[Array, list[str]]] = []
    for vector, label in zip(drawable(vectors), labels, strict=True):
        near = [words for tip, words in groups if np.linalg.norm(tip - vector) < CROWDED * radius]
        if near:
            near[0].append(label)
        elif np.isfinite(vector).all():
            groups.append((vector, [label]))
    lengths = [max(float(np.linalg.norm(tip)), DOT * radius) for tip, _ in groups]
    places = np.array(
        [
            tip * (1 + BEYOND * radius / length)
            for (tip, _), length in zip(groups, lengths, strict=True)
        ]
    )
    return go.Scatter3d(
        **dict(zip("xyz", places.reshape(-1, 3).T.tolist(), strict=True)),
        text=[", ".join(words) for _, words in groups],
        mode="text",
        textfont={"color": PALETTES[theme].text, "size": 15},
        hoverinfo="skip",
        showlegend=False,
    )


def space_box(traces: Sequence[Any], radius: float) -> list[tuple[float, float]]:
    """The ends of three axes close around all that is drawn, with room for the labels.

    Args:
        traces: Of the figure.
        radius: Of the shown ball.
    """
    places = np.array(
        [
            [float(value) for trace in traces for value in trace[letter] if value is not None]
            for letter in "xyz"
        ]
    )
    low, high = places.min(axis=1, initial=0.0), places.max(axis=1, initial=0.0)
    # A picture that is all but flat could not be turned.
    thin = np.maximum(THINNEST * (high - low).max() - (high - low), 0.0) / 2 + EDGE * radius
    return [(float(a), float(b)) for a, b in zip(low - thin, high + thin, strict=True)]


def space_layout(
    theme: Theme,
    box: Sequence[tuple[float, float]],
    titles: Sequence[str],
    height: int = HEIGHT_MAIN,
) -> dict[str, Any]:
    """A box with equal units, turned by dragging.

    Args:
        theme: "light" or "dark".
        box: The ends of the three axes.
        titles: Of the three axes.
        height: Height in pixels.

    Returns:
        A layout that keeps the visitor's turn while the figure changes.
    """
    palette = PALETTES[theme]
    axis: dict[str, Any] = {
        "nticks": 5,
        "showbackground": False,
        "showspikes": False,
        "gridcolor": palette.grid,
        "linecolor": palette.line,
        "zerolinecolor": palette.line,
        "tickfont": {"color": palette.muted, "size": 11},
    }
    scene = {
        f"{letter}axis": titled(title, **axis, range=list(ends))
        | {"title": {"text": title, "font": {"color": palette.muted, "size": 12}}}
        for letter, title, ends in zip("xyz", titles, box, strict=True)
    }
    wide = [high - low for low, high in box]
    return base_layout(
        theme,
        height,
        margin={"l": 0, "r": 0, "t": 36, "b": 0},
        scene={
            **scene,
            "aspectmode": "manual",
            "aspectratio": {letter: w / max(wide) for letter, w in zip("xyz", wide, strict=True)},
            "camera": CAMERA,
            "dragmode": "turntable",
            "uirevision": UI_REVISION,
        },
    )


def cut_at_ball(vectors: Array, radius: float) -> tuple[Array, int]:
    """Vectors that end on the ball where they would leave it, and how many do.

    Args:
        vectors: Tips, shape [s, 3].
        radius: Of the ball.
    """
    excess = np.nan_to_num(np.linalg.norm(vectors, axis=1)) / radius
    return vectors / np.maximum(excess, 1.0)[:, None], int((excess > 1.0).sum())


def _head(tip: Array, size: float) -> tuple[Array, Triangles]:
    """Vertices and triangles of a slender cone that ends at a tip."""
    along = tip / np.linalg.norm(tip)
    # Any direction that is not along the arrow.
    other = np.eye(3)[int(np.abs(along).argmin())]
    first = np.cross(along, other)
    first /= np.linalg.norm(first)
    second = np.cross(along, first)
    angles = np.linspace(0, 2 * np.pi, SIDES, endpoint=False)[:, None]
    base = tip - size * along
    ring = base + SLENDER * size * (np.cos(angles) * first + np.sin(angles) * second)
    here, after = np.arange(SIDES), (np.arange(SIDES) + 1) % SIDES
    side = np.stack([0 * here, here + 2, after + 2], axis=1)
    bottom = np.stack([0 * here + 1, after + 2, here + 2], axis=1)
    return np.concatenate([tip[None], base[None], ring]), np.concatenate([side, bottom])


def _joined(parts: Sequence[tuple[Array, Triangles]]) -> tuple[Array, Triangles]:
    """Several bodies as one."""
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])[: len(parts)]
    corners = [places + start for (_, places), start in zip(parts, starts, strict=True)]
    return (
        np.concatenate([np.zeros((0, 3)), *(vertices for vertices, _ in parts)]),
        np.concatenate([np.zeros((0, 3), dtype=np.int64), *corners]),
    )


def mesh_trace(
    vertices: Array, triangles: Triangles, hover: Sequence[str] | str, **look: Any
) -> go.Mesh3d:
    """A surface.

    Args:
        vertices: Shape [v, 3].
        triangles: Places of their corners among the vertices, shape [t, 3].
        hover: Words for each vertex, length v, or for all; nothing is said where it is empty.
        **look: Further properties of the trace.
    """
    spoken = {"hovertext": hover, "hovertemplate": "%{hovertext}<extra></extra>"}
    return go.Mesh3d(
        **dict(zip("xyz", vertices.T, strict=True)),
        **dict(zip("ijk", triangles.T, strict=True)),
        **(spoken if len(hover) else {"hoverinfo": "skip"}),
        meta=WORDS_ONLY,
        **look,
    )
