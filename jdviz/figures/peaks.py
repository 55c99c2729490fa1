"""What the peak of each method's step is made of."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plotly import graph_objects as go

from jdviz.figures.arrays import nice_ticks, small
from jdviz.figures.bars import failed_rows, row_words, rows_layout
from jdviz.figures.frame import assemble
from jdviz.figures.measured import (
    PLAIN,
    because,
    hatched,
    in_order,
    label,
    lead,
    reason,
    sentence,
    spoken,
    times,
)
from jdviz.figures.styles import OWNER_STYLES
from jdviz.figures.theme import PALETTES, Figure, Theme
from jdviz.figures.words import MEBIBYTE, mebibytes

if TYPE_CHECKING:
    from jdviz.profiling.results import Failure, Measurement

#: Room for the words at the end of the longest bar, as a share of the axis.
WORDS = 0.36


def peak_split_bars(
    measurements: Sequence["Measurement"], theme: Theme, failures: Sequence["Failure"] = ()
) -> Figure:
    """The bytes alive at the peak of each method's step, by what they are.

    What the step itself adds is stacked to the right of zero; the parameters, which every method
    holds and which no ratio counts, lie to the left of it.

    Args:
        measurements: One for each method.
        theme: "light" or "dark".
        failures: Methods that gave no measurement; each is a row that says why.

    Returns:
        A figure with a trace for the parameters, one for each owner and one for the totals.

    Raises:
        ValueError: If there is no measurement or a method is unknown.
    """
    found = in_order(measurements)
    methods = [one.spec.method for one in found]
    parts = [("parameters", [-one.parameter_bytes for one in found], PALETTES[theme].line, "")]
    parts += [
        (style.label, [one.peak_split[owner] for one in found], style.colors[theme], style.hatch)
        for owner, style in OWNER_STYLES.items()
    ]
    traces: list[Any] = [
        go.Bar(
            x=small([size / MEBIBYTE for size in sizes]),
            y=[label(method) for method in methods],
            orientation="h",
            name=name,
            marker=hatched(color, hatch, theme),
            hovertext=[
                f"{label(method)}: {name} {mebibytes(abs(size))}"
                for method, size in zip(methods, sizes, strict=True)
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
        for name, sizes, color, hatch in parts
    ]
    peaks = [one.peak_bytes / MEBIBYTE for one in found]
    traces.append(row_words(peaks, methods, _totals(found), theme))
    failed = [(one.spec.method, one.sentence) for one in failures]
    traces += failed_rows(failed, 0.0, theme)
    left = max(one.parameter_bytes for one in found) / MEBIBYTE
    whole = (left + max(peaks)) / (1 - WORDS)
    ticks = nice_ticks(-left, whole - left, 8)
    layout = rows_layout(
        theme,
        [*methods, *(method for method, _ in failed)],
        "parameters ← 0 → peak of the step (MiB)",
        [-1.04 * left, whole - left],
        tickvals=ticks,
        ticktext=[f"{abs(tick):g}" for tick in ticks],
        zeroline=True,
        zerolinewidth=1.5,
    )
    return assemble(traces, layout)


def peak_caption(measurements: Sequence["Measurement"], failures: Sequence["Failure"] = ()) -> str:
    """One sentence that compares the peak of autogram with those of plain SGD and autojac.

    Args:
        measurements: One for each method.
        failures: Methods that gave no measurement.

    Returns:
        The sentence; without autogram it is about the first method that there is.

    Raises:
        ValueError: If there is no measurement or a method is unknown.
    """
    found = {str(one.spec.method): one for one in in_order(measurements)}
    first = found[lead(found)]
    own = first.spec.method
    others = [found[name] for name in (PLAIN, "autojac") if name in found and name != own]
    text = f"{spoken(own)} needs {mebibytes(first.peak_bytes)} for a step"
    if others:
        ratios = [
            f"{times(first.peak_bytes, other.peak_bytes)} the memory of "
            f"{spoken(other.spec.method)} ({mebibytes(other.peak_bytes)})"
            for other in others
        ]
        text = (
            f"{spoken(own)} needs {mebibytes(first.peak_bytes)}, {' and '.join(ratios)}"
            f"{because(first, others[-1])}"
        )
    for one in failures:
        text += f"; {spoken(one.spec.method)}: {reason(one.sentence, one.spec.method)}"
    return sentence(text)


def _totals(found: Sequence["Measurement"]) -> list[str]:
    """The peak of each step, after its ratio to plain SGD's where that was measured."""
    plain = next((one.peak_bytes for one in found if one.spec.method == PLAIN), None)
    return [
        mebibytes(one.peak_bytes)
        if plain is None or one.spec.method == PLAIN
        else f"{times(one.peak_bytes, plain)} SGD · {mebibytes(one.peak_bytes)}"
        for one in found
    ]
