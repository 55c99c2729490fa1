"""One HTML file with figures, their sentences and their tables, which needs no network."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd
import plotly.io
from plotly.offline import get_plotlyjs

from jdviz.figures.plain import figure_json
from jdviz.figures.theme import CONFIG, FONT_FAMILY, PALETTES, Figure
from jdviz.figures.words import MISSING

#: Nothing is fetched and nothing is sent, also where a name of a model holds markup.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a report.

    Attributes:
        title: What it is about.
        sentence: What the figure shows.
        figure: In the light theme, or None.
        table: The numbers behind the figure, or None.
    """

    title: str
    sentence: str
    figure: Figure | None = None
    table: pd.DataFrame | None = None


def html_report(
    title: str,
    sections: Sequence[Section],
    machine: Mapping[str, str],
    notes: Sequence[str] = (),
) -> str:
    """A report as one self-contained HTML file, to be read, printed or sent.

    Args:
        title: Of the whole report.
        sections: Its parts, in order.
        machine: What the numbers were measured with, by name.
        notes: Sentences under the title, such as what is counted.

    Returns:
        The text of the file, with plotly.js in it once if there is a figure.
    """
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(note)}</p>" for note in notes)]
    for index, section in enumerate(sections):
        parts.append(_section(section, index))
    if machine:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in machine.items()
        )
        parts.append(f"<section><h2>Measured with</h2><table>{rows}</table></section>")
    drawn = any(section.figure is not None for section in sections)
    script = f"<script>{get_plotlyjs()}</script>" if drawn else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_style()}</style>\n{script}\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(parts)}\n</main>\n</body>\n</html>\n"
    )


def _section(section: Section, index: int) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>", f"<p>{escape(section.sentence)}</p>"]
    if section.figure is not None:
        config = {**CONFIG, "responsive": True}
        drawing = plotly.io.to_html(
            json.loads(figure_json(section.figure)),
            config=config,
            validate=False,
            include_plotlyjs=False,
            full_html=False,
            div_id=f"figure-{index}",
        )
        parts.append(f'<figure aria-label="{escape(section.sentence)}">{drawing}</figure>')
    if section.table is not None and not section.table.empty:
        parts.append(f'<div class="table">{_table(section.table)}</div>')
    return f"<section>{''.join(parts)}</section>"


def _table(table: pd.DataFrame) -> str:
    """A table in which numbers stand flush right, below each other."""
    # Rows that are only counted have no name worth a column.
    if not isinstance(table.index, pd.RangeIndex):
        table = table.reset_index()
    columns = [[str(cell) for cell in table.iloc[:, place]] for place in range(table.shape[1])]
    kinds = [' class="number"' if _is_numbers(cells) else "" for cells in columns]
    names = [str(name) for name in table.columns]
    head = _row("th", names, kinds)
    body = "".join(_row("td", cells, kinds) for cells in zip(*columns, strict=True))
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _row(tag: str, cells: Sequence[str], kinds: Sequence[str]) -> str:
    inner = "".join(
        f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True)
    )
    return f"<tr>{inner}</tr>"


def _is_numbers(cells: Sequence[str]) -> bool:
    """Whether most of the cells that say something begin with a number."""
    said = [cell for cell in cells if cell not in ("", MISSING)]
    numbers = [cell for cell in said if cell.lstrip("+−-≤ ")[:1].isdigit()]
    return 2 * len(numbers) > len(said)


def _style() -> str:
    palette = PALETTES["light"]
    return (
        f"body{{font:16px/1.5 {FONT_FAMILY};color:{palette.text};background:{palette.background};"
        "margin:0}"
        "main{max-width:60rem;margin:0 auto;padding:1.5rem}"
        "h1{font-size:1.7rem;line-height:1.25}h2{font-size:1.2rem;margin:2rem 0 .25rem}"
        "p{max-width:48rem;margin:.25rem 0 .75rem}figure{margin:0}"
        ".table{overflow-x:auto}"
        "table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}"
        "th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;"
        f"border-bottom:1px solid {palette.grid}}}"
        f"th{{font-weight:600;color:{palette.muted}}}"
        ".number{text-align:right}"
        # A figure keeps the width that the screen gave it, and that fits across a sheet.
        "@page{size:A4 landscape;margin:10mm}"
        "@media print{main{padding:0}h2{break-after:avoid}figure,tr{break-inside:avoid}"
        ".table{overflow:visible}table{font-size:.7rem}}"
    )
