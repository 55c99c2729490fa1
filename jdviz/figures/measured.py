"""What the figures of memory and time ask of measurements, and how they speak of them."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jdviz.figures.arrays import drawable
from jdviz.figures.styles import ENGINE_STYLES, OWNER_STYLES, engine_style
from jdviz.figures.theme import PALETTES, Theme
from jdviz.figures.words import count, mebibytes, ratio

if TYPE_CHECKING:
    # For annotations only: drawing does not need what measures.
    from jdviz.profiling.results import Measurement, Source

#: The step that the others are compared with.
PLAIN = "sgd"

#: Letters that fit beside a mark.
LETTERS = 58

#: Names of programs, which keep their small letter at the beginning of a sentence.
_NAMES = ("auto", "torchjd")

#: Phases and parts of the memory that are written with a capital, in a sentence about amounts.
_AMOUNTS = {"jacobian": "of the Jacobian", "gramian": "of the Gramian"}


class Spread(NamedTuple):
    """Lower quartile, median and upper quartile."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: ArrayLike) -> "Spread":
        """The quartiles of at least one value, by linear interpolation.

        Raises:
            ValueError: If there is no value or one is not finite.
        """
        array = drawable(values)
        if array.size == 0 or not np.isfinite(array).all():
            raise ValueError(
                f"got {array.size} durations ({int(np.isfinite(array).sum())} finite), expected "
                "at least one and all finite; measure again."
            )
        return cls(*(float(value) for value in np.percentile(array, [25.0, 50.0, 75.0])))


def in_order(measurements: Iterable["Measurement"]) -> list["Measurement"]:
    """The measurements in the order in which figures show their methods.

    Raises:
        ValueError: If there is none, a method is unknown, or one is there twice.
    """
    found = list(measurements)
    if not found:
        raise ValueError("got no measurement, expected at least one; measure a method first.")
    methods = check_methods([one.spec.method for one in found])
    return [found[methods.index(method)] for method in ENGINE_STYLES if method in methods]


def check_methods(methods: Sequence[str]) -> list[str]:
    """Refuses an unknown method, and one that is there twice.

    Raises:
        ValueError: If there is one.
    """
    for method in methods:
        engine_style(method, "light")
        if methods.count(method) > 1:
            raise ValueError(f"got {method} twice, expected each method once; leave one out.")
    return list(methods)


def label(method: str) -> str:
    """The name of a method beside a mark."""
    return ENGINE_STYLES[method].label


def spoken(method: str) -> str:
    """The name of a method within a sentence."""
    return ENGINE_STYLES[method].spoken


def sentence(text: str) -> str:
    """Words with the capital and the full stop of a sentence.

    Examples:
        >>> sentence("fused autogram needs less"), sentence("autojac needs less")
        ('Fused autogram needs less.', 'autojac needs less.')
    """
    capital = text if text.startswith(_NAMES) else text[:1].upper() + text[1:]
    return f"{capital}."


def lead(methods: Iterable[str]) -> str:
    """The method that a sentence begins with: ours if it is there, the first otherwise."""
    known = list(methods)
    return next(method for method in ENGINE_STYLES if method in known)


def phase_name(phase: str) -> str:
    """A phase as it is written."""
    return phase.capitalize() if phase in _AMOUNTS else phase


def place(source: "Source") -> str:
    """The layer and the operation of an allocation, as far as they are known.

    Examples:
        >>> from types import SimpleNamespace
        >>> place(SimpleNamespace(layer="layers.3", operation="aten::mm"))
        'layers.3 · aten::mm'
        >>> place(SimpleNamespace(layer="", operation=""))
        'no operation of a layer'
    """
    known = [part for part in (shortened(source.layer, 30), source.operation) if part]
    return " · ".join(known) or "no operation of a layer"


def shortened(text: str, letters: int) -> str:
    """The end of a long path, which tells layers apart; the whole of a short one."""
    return text if len(text) <= letters else f"…{text[1 - letters :]}"


def reason(text: str, method: str) -> str:
    """A sentence about a method without its name and its full stop.

    Examples:
        >>> reason("autojac: out of memory at batch 512, limit 4 GiB.", "autojac")
        'out of memory at batch 512, limit 4 GiB'
    """
    for name in (method, label(method), spoken(method)):
        text = text.removeprefix(f"{name}: ")
    return text.removesuffix(".")


def cut(text: str, letters: int = LETTERS) -> str:
    """The beginning of long words, the whole of short ones."""
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def times(value: float, other: float) -> str:
    """How many times one amount is another, a dash where there is no other."""
    return ratio(value / other if other > 0 else float("nan"))


def because(own: "Measurement", other: "Measurement") -> str:
    """Why the peaks of two steps differ, as the parts of both tell it.

    Args:
        own: The step that is spoken of.
        other: The one it is compared with.

    Returns:
        A part of a sentence that begins with a comma; "" where the peaks are equal.
    """
    extra = {owner: own.peak_split[owner] - other.peak_split[owner] for owner in OWNER_STYLES}
    if own.peak_bytes == other.peak_bytes:
        return ""
    less = own.peak_bytes < other.peak_bytes
    owner = min(extra, key=lambda name: extra[name] if less else -extra[name])
    amount = mebibytes(abs(extra[owner]))
    words = _AMOUNTS.get(owner, owner)
    jacobian = other.peak_split["jacobian"]
    if less:
        return f", because it holds {amount} less {words}"
    if not jacobian:
        return f", because it holds {amount} more {words}"
    m = own.objectives
    make = "makes" if m == 1 else "make"
    return (
        f", because it holds {amount} more {words} while {count(m, 'objective')} {make} a Jacobian "
        f"of only {count(m, 'row')} ({mebibytes(m * own.parameter_bytes)})"
    )


def hatched(color: str, hatch: str, theme: Theme) -> dict[str, object]:
    """The marker of a bar: a colour and, as second cue, its hatch."""
    return {
        "color": color,
        "line": {"width": 1, "color": PALETTES[theme].background},
        "pattern": {
            "shape": hatch,
            "fgcolor": PALETTES[theme].background,
            "fillmode": "overlay",
            "size": 7,
            "solidity": 0.22,
        },
    }
