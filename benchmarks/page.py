"""A report as one HTML file that needs nothing else, no network either."""

from html import escape

from benchmarks.report import Report

# The reader's own colours and fonts, light or dark, so that no literal has to be chosen.
_STYLE = """
:root { color-scheme: light dark; font-family: system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
h1 { font-size: 1.1rem; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content auto; gap: 0.1rem 1rem; }
dt { color: GrayText; }
dd { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.75rem; text-align: right; border-bottom: thin solid GrayText; }
.words { text-align: left; }
"""


def page(report: Report) -> str:
    """Write a report as a page.

    Args:
        report: What was measured.

    Returns:
        The text of the HTML file: the table, the notes, and commit, versions and machine.
    """
    kinds = [
        ' class="words"' if report.is_words(place) else "" for place in range(len(report.columns))
    ]
    head = _row("th", report.columns, kinds)
    body = "\n".join(_row("td", row, kinds) for row in report.rows)
    notes = "\n".join(f"<p>{escape(note)}</p>" for note in report.notes)
    machine = "\n".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        for name, value in {"command": report.command or "–", **report.machine}.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{escape(report.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(report.title)}</h1>
{notes}
<div class="wide">
<table>
<thead>{head}</thead>
<tbody>
{body}
</tbody>
</table>
</div>
<dl>
{machine}
</dl>
</body>
</html>
"""


def _row(tag: str, cells: list[str], kinds: list[str]) -> str:
    """One line of the table."""
    inner = "".join(
        f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True)
    )
    return f"<tr>{inner}</tr>"
