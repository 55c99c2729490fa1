"""A table with the circumstances under which it was measured."""

import csv
import io
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from jdviz.profiling import MeasurementError
from jdviz.profiling.machine import machine

ROOT = Path(__file__).resolve().parents[1]
_LETTER = re.compile(r"[^\W\d_]")
_EXPONENT = re.compile(r"(?<=\d)e(?=[+-]?\d)")


def circumstances(device: str = "cpu", threads: int | None = None) -> dict[str, str]:
    """Commit, versions, device and threads, as every report states them.

    Args:
        device: "cpu" or "cuda".
        threads: Threads that torch could use; those of this process if None.

    Returns:
        Texts by name. torchjd is among them only where it is installed.
    """
    return {"commit": _commit(), **machine(device, threads or torch.get_num_threads())}


def _commit() -> str:
    """Abbreviated commit of the checkout, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def refuse_if_nothing(measured: bool, failures: Sequence[str]) -> None:
    """Ends a command that found nothing.

    Args:
        measured: Whether it found anything.
        failures: Why it did not find more, one sentence each.

    Raises:
        MeasurementError: It found nothing; the message is the first of the failures.
    """
    if not measured and failures:
        raise MeasurementError(failures[0])


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        title: What was measured.
        columns: Name and unit of each column.
        rows: One list of cells for each row, as text.
        figures: The same numbers unrounded, by name.
        machine: Commit, versions and machine.
        notes: What a reader has to know besides, one sentence each.
        command: The subcommand that measured.
        comparisons: What the figures of a page are drawn from, by name; empty where the command
            compares no steps.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    figures: dict[str, Any]
    machine: dict[str, str] = field(default_factory=circumstances)
    notes: list[str] = field(default_factory=list)
    command: str = ""
    comparisons: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report in a form that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "Report":
        """Build a report from what `to_dict` gave, also after a way through JSON.

        Args:
            values: A dictionary with the fields.

        Returns:
            The report.

        Raises:
            MeasurementError: An entry is missing or unknown.
        """
        names = [one.name for one in fields(cls)]
        # Files from before there were comparisons have none, and are still worth comparing.
        if not isinstance(values, dict) or set(values) | {"comparisons"} != set(names):
            got = ", ".join(values) if isinstance(values, dict) else type(values).__name__
            raise MeasurementError(
                f"got {got or 'nothing'}, expected a report with {', '.join(names)}; write it "
                "with --json."
            )
        return cls(**values)

    def text(self) -> str:
        """The report as a table in plain text."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]
        left = [self.is_words(place) for place in range(len(self.columns))]
        table = [
            "  ".join(
                cell.ljust(width) if words else cell.rjust(width)
                for words, cell, width in zip(left, line, widths, strict=True)
            ).rstrip()
            for line in lines
        ]
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        # Notes come last, where a terminal ends, so that none scrolls away.
        notes = ["", *self.notes] if self.notes else []
        return "\n".join([self.title, machine, "", *table, *notes])

    def is_words(self, place: int) -> bool:
        """Whether a column is to be set flush left.

        Args:
            place: Its number from 0.

        Returns:
            True for the first column and where most cells hold words.
        """
        if place == 0:
            return True
        cells = [row[place] for row in self.rows if row[place] not in ("", "–")]
        words = [cell for cell in cells if _LETTER.search(_EXPONENT.sub("", cell))]
        return 2 * len(words) > len(cells)

    def csv(self) -> str:
        """The table as comma-separated values, the names of the columns first."""
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([self.columns, *self.rows])
        return lines.getvalue()
