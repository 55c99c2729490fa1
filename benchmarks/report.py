"""A table with the circumstances under which it was measured."""

import csv
import io
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any


def circumstances() -> dict[str, str]:
    """Versions and machine, as every report states them."""
    return {
        "torch": version("torch"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
    }


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        title: What was measured.
        columns: Name and unit of each column.
        rows: One list of cells for each row, as text.
        figures: The same numbers unrounded, by name.
        machine: Versions and machine.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    figures: dict[str, Any]
    machine: dict[str, str] = field(default_factory=circumstances)

    def to_dict(self) -> dict[str, Any]:
        """The report in a form that JSON can hold."""
        return asdict(self)

    def text(self) -> str:
        """The report as a table in plain text."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]
        table = [
            "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        return "\n".join([self.title, machine, "", *table])

    def csv(self) -> str:
        """The table as comma-separated values, the names of the columns first."""
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([self.columns, *self.rows])
        return lines.getvalue()
