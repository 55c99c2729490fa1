"""`compare`: what changed between two saved reports, beyond the spread of both."""

import json
from collections.abc import Iterator
from math import inf, log
from pathlib import Path
from typing import Any

from benchmarks.report import Report
from jdviz.profiling import MeasurementError
from jdviz.profiling.turns import Spread, number

# Of the run and not of what was measured.
_CIRCUMSTANCES = frozenset({"waited_share"})


def read_report(path: Path) -> Report:
    """Read what `--json` wrote.

    Args:
        path: The file.

    Returns:
        The report.

    Raises:
        MeasurementError: There is no such file, or it holds something else.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise MeasurementError(
            f"got {path.name}, which cannot be read ({error}), expected a saved report; write one "
            "with --json."
        ) from error
    return Report.from_dict(values)


def compare_reports(one: Report, other: Report) -> Report:
    """Put the figures of two reports side by side.

    A figure with several values changed if the ranges between its quartiles do not overlap; one
    with a single value or a text changed if it differs at all.

    Args:
        one: The earlier report, A.
        other: The later one, B, of the same command.

    Returns:
        Everything that changed, the greatest change first.

    Raises:
        MeasurementError: They are reports of different commands.
    """
    if one.command != other.command or not one.command:
        raise MeasurementError(
            f"got reports of {one.command or 'an unknown command'} and "
            f"{other.command or 'an unknown command'}, expected two of the same command; choose "
            "others."
        )
    before, after = dict(_flat(one.figures)), dict(_flat(other.figures))
    shared = [name for name in before if name in after]
    changed = []
    for name in shared:
        row = _changed(before[name], after[name])
        if row is not None:
            changed.append((row[0], name, row[1]))
    changed.sort(key=lambda entry: -entry[0])
    return Report(
        title=f"{one.command}: {len(changed)} of {len(shared)} figures changed beyond the spread "
        "of both",
        columns=["figure", "B ÷ A", "A", "A quartiles", "B", "B quartiles"],
        rows=[[name, *cells] for _, name, cells in changed],
        figures={name: {"A": before[name], "B": after[name]} for _, name, _ in changed},
        machine=other.machine,
        notes=[
            *_differences(one.machine, other.machine),
            *_missing("A", before, after),
            *_missing("B", after, before),
        ],
    )


def _flat(figures: Any, prefix: str = "") -> Iterator[tuple[str, list[float] | str]]:
    """Every number, list of numbers and text below a figure, by its path."""
    if isinstance(figures, dict):
        for name, inner in figures.items():
            if name in _CIRCUMSTANCES:
                continue
            yield from _flat(inner, f"{prefix} · {name}" if prefix else str(name))
    elif isinstance(figures, str):
        yield prefix, figures
    elif _is_number(figures):
        yield prefix, [figures]
    elif isinstance(figures, list):
        if figures and all(_is_number(entry) for entry in figures):
            yield prefix, figures
        elif all(isinstance(entry, dict) for entry in figures):
            for place, inner in enumerate(figures):
                yield from _flat(inner, f"{prefix} · {place}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _changed(before: list[float] | str, after: list[float] | str) -> tuple[float, list[str]] | None:
    """How far apart two figures are, and five cells; None if they do not differ."""
    if isinstance(before, str) or isinstance(after, str):
        if before == after:
            return None
        texts = [one if isinstance(one, str) else number(one[0]) for one in (before, after)]
        return inf, ["–", texts[0] or "–", "", texts[1] or "–", ""]
    one, other = Spread.of(before), Spread.of(after)
    if one.low <= other.high and other.low <= one.high:
        return None
    ratio = other.median / one.median if one.median else inf
    cells = [
        number(ratio) if 0 < ratio < inf else "–",
        number(one.median),
        one.range if len(before) > 1 else "",
        number(other.median),
        other.range if len(after) > 1 else "",
    ]
    return (abs(log(ratio)) if 0 < ratio < inf else inf), cells


def _differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """One sentence for each circumstance that is not the same."""
    names = dict.fromkeys([*before, *after])
    return [
        f"{name} differs: {before.get(name, 'not stated')} in A, "
        f"{after.get(name, 'not stated')} in B."
        for name in names
        if before.get(name) != after.get(name)
    ]


def _missing(letter: str, here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """One sentence if a report has figures that the other has not."""
    only = [name for name in here if name not in there]
    if not only:
        return []
    return [f"{len(only)} figures are in {letter} only, {only[0]} for one."]
