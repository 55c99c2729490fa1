"""What a report of the memory lab consists of, for the page and for the command line."""

from typing import TYPE_CHECKING

from jdviz.figures.durations import time_bars, time_caption
from jdviz.figures.lab_tables import lab_table
from jdviz.figures.mirrored import mirrored_caption, mirrored_timelines
from jdviz.figures.peaks import peak_caption, peak_split_bars
from jdviz.figures.report import Section
from jdviz.figures.timelines import memory_caption, memory_timelines

if TYPE_CHECKING:
    from jdviz.profiling.results import Comparison, Measurement

#: What is set against each other where both were measured, the best of autogram first.
_GRAMIAN_FIRST = ("fused", "two-pass", "torchjd two-pass")
_JACOBIAN = ("autojac", "torchjd autojac", "sgd")


def comparison_sections(comparison: "Comparison") -> list[Section]:
    """Every figure of one step with its sentence, in the light theme, and the numbers.

    Args:
        comparison: What was measured.

    Returns:
        The sections, in the order of the page; without a measurement times and table remain.
    """
    found = comparison.measurements
    sections: list[Section] = []
    if not found:
        return [*_times(comparison), _numbers(comparison)]
    upper, lower = _first(comparison, _JACOBIAN), _first(comparison, _GRAMIAN_FIRST)
    if upper is not None and lower is not None:
        figure = mirrored_timelines(upper, lower, "light", comparison.of("sgd"))
        caption = mirrored_caption(upper, lower)
        sections.append(Section("Memory during the step", caption, figure))
    figure = peak_split_bars(found, "light", comparison.failures)
    caption = peak_caption(found, comparison.failures)
    sections.append(Section("What the peak is made of", caption, figure))
    sections += _times(comparison)
    figure = memory_timelines(found, "light")
    sections.append(Section("Memory of every method", memory_caption(found), figure))
    return [*sections, _numbers(comparison)]


def _times(comparison: "Comparison") -> list[Section]:
    """The durations, where there are some."""
    times = comparison.times
    if times is None or not times.durations_ms:
        return []
    return [Section("Time of a step", time_caption(times), time_bars(times, "light"))]


def _numbers(comparison: "Comparison") -> Section:
    """All of it as a table."""
    disturbed = "" if comparison.times is None else comparison.times.disturbed
    return Section("Numbers", disturbed, None, lab_table(comparison))


def _first(comparison: "Comparison", methods: tuple[str, ...]) -> "Measurement | None":
    """The first of some methods that was measured."""
    found = (comparison.of(method) for method in methods)
    return next((one for one in found if one is not None), None)
