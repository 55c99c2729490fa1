"""A report as one HTML file: the figures of the app where a command has some, and its table."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pandas as pd

from benchmarks.report import Report
from jdviz.figures import (
    GrowthPoint,
    Section,
    comparison_sections,
    fit_bars,
    fit_caption,
    growth_caption,
    growth_lines,
    html_report,
)
from jdviz.profiling import Comparison
from jdviz.profiling.fits import Fit


def page(report: Report) -> str:
    """Writes a report as a page.

    Args:
        report: What was measured.

    Returns:
        The text of the HTML file, which needs no network: figures in the light theme, the table,
        the notes, and commit, versions and machine.
    """
    draw = _DRAWN.get(report.command)
    sections = [] if draw is None else draw(report)
    table = pd.DataFrame(report.rows, columns=report.columns)
    # A page is no wider than a sheet of paper, so what is empty throughout takes no room on it.
    table = table.loc[:, [bool(table[name].any()) for name in report.columns]]
    count = f"{len(report.rows):,} {'row' if len(report.rows) == 1 else 'rows'}."
    sections.append(Section("All numbers", count, table=table))
    machine = {"command": report.command or "–", **report.machine}
    return html_report(report.title, sections, machine, report.notes)


def _step(report: Report) -> list[Section]:
    """For every case the figures of its step, as the page draws them."""
    sections = []
    for name, values in report.comparisons.items():
        found = Comparison.from_dict(values)
        sections += [
            replace(section, title=f"{name}: {section.title[0].lower()}{section.title[1:]}")
            for section in comparison_sections(found)
            if section.figure is not None
        ]
    return sections


def _growth(report: Report) -> list[Section]:
    """For every problem and what grows the measured and predicted peaks."""
    lines: dict[tuple[str, str], list[GrowthPoint]] = {}
    limit_bytes = None
    for figures in report.figures.values():
        limit_bytes = figures["memory_limit_bytes"]
        points = lines.setdefault((figures["problem"], figures["axis"]), [])
        points += [
            GrowthPoint(
                method,
                figures["x"],
                next(iter(peak["peak_bytes"]), None),
                peak["predicted_bytes"],
                peak["failure"],
            )
            for method, peak in figures["peaks"].items()
        ]
    return [
        Section(
            f"{problem}: growth with the {axis}",
            growth_caption(points, axis),
            growth_lines(points, "light", axis, limit_bytes),
        )
        for (problem, axis), points in lines.items()
        if points
    ]


def _fits(report: Report) -> list[Section]:
    """For every case the predicted and the verified batches."""
    sections = []
    for name, figures in report.figures.items():
        # The error is made of the others.
        fits = [
            Fit.from_dict({field: value for field, value in one.items() if field != "error"})
            for one in figures.values()
        ]
        sections.append(
            Section(f"{name}: largest batch", fit_caption(fits), fit_bars(fits, "light"))
        )
    return sections


_DRAWN: Mapping[str, Callable[[Report], list[Section]]] = {
    "memory": _step,
    "time": _step,
    "growth": _growth,
    "fits": _fits,
}
