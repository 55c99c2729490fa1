"""The memory of a step as a curve: its points, what each of them says, and its phases."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jdviz.figures.arrays import Array, drawable
from jdviz.figures.measured import cut, label, phase_name, place, shortened
from jdviz.figures.words import MEBIBYTE, mebibytes, milliseconds

if TYPE_CHECKING:
    from jdviz.profiling.results import Measurement

#: Letters in a line of a flag.
FLAG = 26


class Curve(NamedTuple):
    """A step-shaped curve.

    Attributes:
        times_ms: Milliseconds from the beginning of the step, shape [points].
        mebibytes: Alive from each of those times on, shape [points].
        words: What each point says when it is pointed at.
    """

    times_ms: Array
    mebibytes: Array
    words: list[str]


def end_ms(measured: "Measurement") -> float:
    """When a step ended."""
    return max([*(phase.end_ms for phase in measured.phases), *measured.times_ms[-1:]], default=0.0)


def curve(measured: "Measurement") -> Curve:
    """The memory of a step, held to its end.

    Args:
        measured: One step.

    Returns:
        A point for each change, and one for the end of the step.
    """
    name, phases = label(measured.spec.method), measured.phases
    places = [place(source) for source in measured.sources]
    starts = np.array([phase.start_ms for phase in phases])
    within = np.searchsorted(starts, measured.times_ms, side="right") - 1
    words = [
        f"{name}: {mebibytes(live)} at {milliseconds(time)}"
        f"{f' · {phase_name(phases[index].name)}' if index >= 0 else ''} · {places[source]}"
        for time, live, index, source in zip(
            measured.times_ms, measured.live_bytes, within, measured.changed_by, strict=True
        )
    ]
    moments = drawable([*measured.times_ms, end_ms(measured)])
    live = drawable([*measured.live_bytes, *measured.live_bytes[-1:]]) / MEBIBYTE
    return Curve(moments[: live.size], live, [*words, *words[-1:]])


def flag(measured: "Measurement") -> str:
    """Size, layer and operation of the peak on a line each, short enough for a phone."""
    source = measured.peak_source
    known = [part for part in (shortened(source.layer, FLAG), cut(source.operation, FLAG)) if part]
    return "<br>".join([f"<b>peak {mebibytes(measured.peak_bytes)}</b>", *known])


def flag_words(measured: "Measurement") -> str:
    """What the flag at the peak says when it is pointed at."""
    where = f"{phase_name(measured.peak_phase)} · {place(measured.peak_source)}"
    return (
        f"{label(measured.spec.method)}: peak {mebibytes(measured.peak_bytes)} at "
        f"{milliseconds(measured.peak_ms)} · {where}"
    )
