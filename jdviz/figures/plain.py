"""What keeps names out of a figure's markup and of a spreadsheet's formulas.

Names of runs, objectives and layers come from scripts, uploads and other visitors.
"""

import re

import pandas as pd

from jdviz.figures.theme import Figure

# plotly.js reads a few tags in every text, among them links and styles. Of these the figures here
# use some; any other opening bracket is a name's. In the JSON that plotly writes, brackets and
# slashes are escaped.
_MARKUP = re.compile(
    r"\\u003c(?!(?:\\u002f)?(?:b|i|br|sub|sup|extra)(?:\\u002f)?\\u003e)", re.IGNORECASE
)
#: A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def figure_json(figure: Figure) -> str:
    """A figure as JSON in which no text can be a link, a style or an unknown tag.

    Args:
        figure: Any of `jdviz.figures`.

    Returns:
        The JSON; what looked like a tag is shown as it was written.
    """
    return _MARKUP.sub("&lt;", figure.to_json(validate=False))


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """A table of which a spreadsheet takes no text for a formula; an apostrophe stands before it.

    Args:
        table: Any table; names of rows and columns are texts too.
    """
    harmless = table.map(_harmless).rename(columns=_harmless)
    # Rows that are only counted have no names, and their count stays one.
    if isinstance(table.index, pd.RangeIndex):
        return harmless
    return harmless.rename(index=_harmless)


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
