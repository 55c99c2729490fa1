"""Every colour of the app and what it means, with one variant for each theme.

This file and `.streamlit/config.toml` are the only two places with a colour literal, and a test
holds them equal. Another test computes the contrasts: 4.5:1 for text, 3:1 for marks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

from plotly import graph_objects as go

Theme = Literal["light", "dark"]
Figure = go.Figure

#: Heights in pixels. They are fixed so that nothing on a page moves while figures change.
HEIGHT_MAIN = 440
HEIGHT_SIDE = 320
HEIGHT_SQUARE = 420

#: The same value for every figure and every update: plotly.js then keeps a visitor's zoom.
UI_REVISION = "jdviz"

#: The app's own face, which Streamlit serves itself; a saved figure falls back to the system's.
FONT_FAMILY = "Source Sans, Source Sans Pro, system-ui, Segoe UI, Helvetica, Arial, sans-serif"

#: What every figure is shown with: tools on hover only, vector export, and no upload button.
#: A plain dictionary, because Streamlit writes it as JSON.
CONFIG: dict[str, Any] = {
    "displayModeBar": "hover",
    "displaylogo": False,
    "showSendToCloud": False,
    "doubleClick": "reset",
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg", "filename": "jdviz"},
}


@dataclass(frozen=True)
class Palette:
    """The colours of one theme.

    Attributes:
        background: Behind every figure and the page itself.
        surface: Panels, phase bands, and the cells of a matrix that have no value.
        text: Words and the update direction, 4.5:1 at least.
        muted: Secondary words and neutral marks, 4.5:1 at least.
        grid: Grid lines; quiet on purpose, they carry no information of their own.
        line: Axis and zero lines where zero means something.
        cone: Fill of the dual cone, without its opacity.
        accent: Buttons and the progress line.
        positive: Agreement and improvement.
        negative: Conflict and harm.
        categorical: Objectives up to seven, and methods up to eight, in order.
        sequential: Ten steps from next to the background to far from it.
        first_mark: First step of `sequential` that is visible as a mark, 3:1.
        diverging: Ten steps from strongly negative to strongly positive; zero lies between the
            fifth and the sixth.
        zero: Colour of zero on a diverging scale.
        ink: Dark and light words on a coloured cell; the one with more contrast is taken.
    """

    background: str
    surface: str
    text: str
    muted: str
    grid: str
    line: str
    cone: str
    accent: str
    positive: str
    negative: str
    categorical: tuple[str, ...]
    sequential: tuple[str, ...]
    first_mark: int
    diverging: tuple[str, ...]
    zero: str
    ink: tuple[str, str] = ("#000000", "#FFFFFF")


PALETTES: Mapping[Theme, Palette] = MappingProxyType(
    {
        "light": Palette(
            background="#FFFFFF",
            surface="#F2F4F6",
            text="#1C2733",
            muted="#5A6672",
            grid="#E8ECF0",
            line="#8A949E",
            cone="#5396C6",
            accent="#0B5FA5",
            positive="#28699C",
            negative="#C15C0A",
            categorical=(
                "#0067A3",
                "#C98200",
                "#009E73",
                "#D55E00",
                "#3A97D3",
                "#BF5F95",
                "#6E6A12",
                "#1C2733",
            ),
            sequential=(
                "#E3EEF6",
                "#C4DCEC",
                "#9FC6E1",
                "#78AED4",
                "#5396C6",
                "#3A7FB3",
                "#28699C",
                "#1B5585",
                "#11426C",
                "#0A3053",
            ),
            first_mark=4,
            diverging=(
                "#8F3F00",
                "#C15C0A",
                "#E08A3C",
                "#F0B780",
                "#F9E0C6",
                "#CDE1EF",
                "#92BFDF",
                "#5396C6",
                "#28699C",
                "#11426C",
            ),
            zero="#FFFFFF",
        ),
        "dark": Palette(
            background="#14181D",
            surface="#1E242B",
            text="#E6EAEE",
            muted="#A3AEB9",
            grid="#262D35",
            line="#7B8794",
            cone="#3480B4",
            accent="#2B7BB9",
            positive="#5FAEE0",
            negative="#F09A4E",
            categorical=(
                "#3F97D6",
                "#E69F00",
                "#14B287",
                "#EE6B2D",
                "#94D2F7",
                "#DB8ABB",
                "#F0E442",
                "#E6EAEE",
            ),
            sequential=(
                "#10304A",
                "#15435F",
                "#1B5678",
                "#246C94",
                "#3182B0",
                "#4798C8",
                "#66AEDA",
                "#8AC3E6",
                "#B0D7EF",
                "#D8EBF7",
            ),
            first_mark=3,
            diverging=(
                "#FFC08A",
                "#F09A4E",
                "#C97226",
                "#8A4A12",
                "#4A2A0F",
                "#15344C",
                "#20567E",
                "#3480B4",
                "#5FAEE0",
                "#A9D8F7",
            ),
            zero="#14181D",
        ),
    }
)

#: More objectives than this are no longer told apart by colour, but ordered by it.
DISTINCT_OBJECTIVES = 7

#: More methods than this in one figure are no longer told apart by colour.
DISTINCT_METHODS = 8

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")


@dataclass(frozen=True)
class LineStyle:
    """How one engine or method looks in one theme; the dash and the symbol repeat the colour."""

    color: str
    dash: str
    symbol: str


def objective_colors(m: int, theme: Theme) -> tuple[str, ...]:
    """The colours of m objectives: distinct up to seven, steps of one scale beyond.

    Args:
        m: Number of objectives.
        theme: "light" or "dark".

    Returns:
        One colour for each objective; the i-th is the same for every m up to seven.

    Raises:
        ValueError: If m is negative.
    """
    if m < 0:
        raise ValueError(f"got m={m} objectives, expected 0 or more.")
    palette = PALETTES[theme]
    if m <= DISTINCT_OBJECTIVES:
        return palette.categorical[:m]
    marks = palette.sequential[palette.first_mark :]
    return tuple(_between(marks, index / (m - 1)) for index in range(m))


def objective_dashes(m: int) -> tuple[str, ...]:
    """The dash of each of m objectives' lines, the second cue beside the colour."""
    return tuple(DASHES[(index + index // len(DASHES)) % len(DASHES)] for index in range(m))


def method_style(name: str, theme: Theme) -> LineStyle:
    """How an aggregation method looks: colour by its place in the registry, dash as second cue.

    Args:
        name: Key of `engines.aggregation.METHODS`.
        theme: "light" or "dark".

    Returns:
        A style that no other of the first 48 methods of the registry shares.

    Raises:
        ValueError: If the method is not registered.
    """
    order = _method_order()
    if name not in order:
        raise ValueError(f"got method {name!r}, expected one of {', '.join(order)}.")
    return numbered_style(order.index(name), theme)


def numbered_style(index: int, theme: Theme) -> LineStyle:
    """The style of the method at a place in the registry, from 0."""
    colors = PALETTES[theme].categorical
    column, row = index % len(colors), index // len(colors)
    return LineStyle(colors[column], DASHES[(column + row) % len(DASHES)], SYMBOLS[column])


def method_styles(names: Sequence[str], theme: Theme) -> dict[str, LineStyle]:
    """How the methods of one figure look, each in a colour and a dash of its own as far as they go.

    A method keeps its own, unless one before it has the same: then it takes the first that is left.
    So figures of one choice of methods agree, and most methods look alike everywhere.

    Args:
        names: Keys of `engines.aggregation.METHODS`, in the order in which they are shown.
        theme: "light" or "dark".

    Returns:
        The style of each; of the ninth and all after it, a thin neutral one.

    Raises:
        ValueError: If a method is not registered.
    """
    palette, styles = PALETTES[theme], {}
    free, dashes = dict.fromkeys(palette.categorical), dict.fromkeys(DASHES)
    for place, name in enumerate(names):
        own = method_style(name, theme)
        if place >= DISTINCT_METHODS:
            styles[name] = LineStyle(palette.muted, "solid", own.symbol)
            continue
        color = own.color if own.color in free else next(iter(free))
        del free[color]
        dashes = dashes or dict.fromkeys(DASHES)
        dash = own.dash if own.dash in dashes else next(iter(dashes))
        del dashes[dash]
        styles[name] = LineStyle(color, dash, SYMBOLS[palette.categorical.index(color)])
    return styles


def diverging_scale(theme: Theme) -> list[list[Any]]:
    """A continuous diverging scale with zero exactly in the middle, as plotly takes it."""
    palette = PALETTES[theme]
    half = len(palette.diverging) // 2
    stops = (*palette.diverging[:half], palette.zero, *palette.diverging[half:])
    return [[index / (len(stops) - 1), color] for index, color in enumerate(stops)]


def diverging_colors(values: Sequence[float], limit: float, theme: Theme) -> tuple[str, ...]:
    """The colours that a diverging scale from -limit to limit gives to values.

    Args:
        values: Finite numbers; those beyond the limit get the colour of the end.
        limit: Positive.
        theme: "light" or "dark".
    """
    stops = tuple(color for _, color in diverging_scale(theme))
    shares = (min(max((value / limit + 1) / 2, 0.0), 1.0) for value in values)
    return tuple(_between(stops, share) for share in shares)


def ink_on(color: str, theme: Theme) -> str:
    """The colour of words on a coloured cell, 4.5:1 on any colour."""
    return max(PALETTES[theme].ink, key=lambda ink: contrast(ink, color))


def with_opacity(color: str, opacity: float) -> str:
    """The same colour as plotly writes it with an opacity between 0 and 1."""
    red, green, blue = _channels(color)
    return f"rgba({red},{green},{blue},{opacity:g})"


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two opaque colours, from 1 to 21.

    Source: WCAG 2.2, definitions of contrast ratio and relative luminance.
    """
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


@cache
def _method_order() -> tuple[str, ...]:
    # Here, because only a figure that compares methods needs the registry, and torch with it.
    from engines.aggregation import METHODS

    return tuple(METHODS)


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _luminance(color: str) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in _channels(color))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _between(colors: tuple[str, ...], share: float) -> str:
    place = share * (len(colors) - 1)
    index = min(int(place), len(colors) - 2)
    first, second = tuple(pairwise(colors))[index]
    mixed = (
        round(a + (b - a) * (place - index))
        for a, b in zip(_channels(first), _channels(second), strict=True)
    )
    return "#" + "".join(f"{channel:02X}" for channel in mixed)
