"""How the methods of a step look, and the parts of its memory; their colours are the theme's."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from jdviz.figures.theme import PALETTES, LineStyle, Theme

#: Both themes, as keys of a colour.
_THEMES: tuple[Theme, ...] = ("light", "dark")


def _distinct(place: int) -> Mapping[Theme, str]:
    """A colour of the sequence that is told apart."""
    return {theme: PALETTES[theme].categorical[place] for theme in _THEMES}


def _neutral() -> Mapping[Theme, str]:
    return {theme: PALETTES[theme].muted for theme in _THEMES}


@dataclass(frozen=True)
class EngineStyle:
    """How the step of one method looks.

    Attributes:
        label: Its name beside a mark.
        spoken: Its name within a sentence.
        colors: Its colour in each theme.
        dash: Of its lines; the family of engines shares one.
        symbol: Of its marks; no other has the same.
        hatch: Of its bars; no other has the same.
    """

    label: str
    spoken: str
    colors: Mapping[Theme, str]
    dash: str
    symbol: str
    hatch: str


#: By method of a step, in the order in which figures show them. Blue is autogram.
ENGINE_STYLES: Mapping[str, EngineStyle] = MappingProxyType(
    {
        "fused": EngineStyle(
            "autogram, fused",
            "fused autogram",
            _distinct(0),
            "solid",
            "circle",
            "",
        ),
        "two-pass": EngineStyle(
            "autogram, two passes",
            "two-pass autogram",
            _distinct(4),
            "solid",
            "triangle-down",
            "-",
        ),
        "autojac": EngineStyle(
            "autojac",
            "autojac",
            _distinct(3),
            "dash",
            "square",
            "/",
        ),
        "sgd": EngineStyle(
            "plain SGD",
            "plain SGD",
            _neutral(),
            "dot",
            "diamond",
            ".",
        ),
        "torchjd two-pass": EngineStyle(
            "torchjd autogram",
            "torchjd's autogram",
            _distinct(5),
            "dashdot",
            "triangle-up",
            "x",
        ),
        "torchjd autojac": EngineStyle(
            "torchjd autojac",
            "torchjd's autojac",
            _distinct(6),
            "longdashdot",
            "cross",
            "\\",
        ),
    }
)


@dataclass(frozen=True)
class OwnerStyle:
    """How a part of the memory looks: its name, its colour in each theme, its hatch."""

    label: str
    colors: Mapping[Theme, str]
    hatch: str


#: By owner of memory at the peak, in the order of a stack from zero.
OWNER_STYLES: Mapping[str, OwnerStyle] = MappingProxyType(
    {
        "activations": OwnerStyle("activations", _distinct(2), ""),
        "jacobian": OwnerStyle("Jacobian", _distinct(3), "/"),
        "gramian": OwnerStyle("Gramian", _distinct(0), "x"),
        "gradients": OwnerStyle("gradients", _distinct(5), "\\"),
        "workspace": OwnerStyle("workspace", _distinct(1), "."),
    }
)


def engine_style(name: str, theme: Theme) -> LineStyle:
    """How the step of a method looks in one theme.

    Args:
        name: Key of `ENGINE_STYLES`.
        theme: "light" or "dark".

    Raises:
        ValueError: If the method is unknown.
    """
    if name not in ENGINE_STYLES:
        raise ValueError(f"got method {name!r}, expected one of {', '.join(ENGINE_STYLES)}.")
    style = ENGINE_STYLES[name]
    return LineStyle(style.colors[theme], style.dash, style.symbol)
