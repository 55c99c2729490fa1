"""What a figure shows, read back from the figure itself: as a table, as CSV, as a page of HTML."""

import base64
import re
from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any

import numpy as np
import pandas as pd

from jdviz.figures.frame import TRUE_VALUES, WORDS_ONLY
from jdviz.figures.plain import without_formulas
from jdviz.figures.report import Section, html_report
from jdviz.figures.theme import Figure
from jdviz.figures.words import number

#: More rows than this are left to the CSV file; a page of HTML would only be long.
ROWS_IN_HTML = 200

#: What a point says, where a figure holds words for it.
WORDS = "in words"


def figure_table(figure: Figure) -> pd.DataFrame:
    """The numbers that a figure shows, for a reader who wants them as a table.

    Traces that share an axis become columns beside each other, with a row for every place on it.
    Where a trace has several points at one place, such as arrows from one origin, every point is a
    row, and so it is in space. Helpers without a name and without hover text, and entries of the
    legend without data, are left out.

    Args:
        figure: Any of `jdviz.figures`.

    Returns:
        A matrix with the names of its rows and columns for a heatmap; else a row for each place,
        with one column for each trace, named after the trace and the title of its axis. Empty if
        the figure shows nothing.
    """
    heatmaps = [trace for trace in figure.data if trace.type == "heatmap"]
    if heatmaps:
        return _matrix(heatmaps[0], figure)
    boxes = [trace for trace in figure.data if trace.type == "box"]
    if boxes:
        names = [_text(name) for name in boxes[0].text]
        title = _text(figure.layout.yaxis.title.text)
        columns = {f"{_text(trace.name)}: {title}": _values(trace.y) for trace in boxes}
        return _with_key("objective", names, columns)
    if any(trace.type == "scatter3d" for trace in figure.data):
        return _places_in_space(figure)
    traces = [_Points(figure, place) for place in range(len(figure.data))]
    shown = [trace for trace in traces if trace.shown]
    if all(trace.distinct for trace in shown) and len({trace.key_name for trace in shown}) < 2:
        return _columns(shown)
    return _rows(shown)


def figure_csv(figure: Figure) -> str:
    """What a figure shows as comma-separated values, every digit kept.

    Args:
        figure: Any of `jdviz.figures`.
    """
    table = without_formulas(figure_table(figure))
    return str(table.to_csv(index=not isinstance(table.index, pd.RangeIndex)))


def figure_html(figure: Figure, title: str, caption: str) -> str:
    """A figure as one self-contained HTML file, with its sentence and its numbers.

    Args:
        figure: Any of `jdviz.figures`, best in the light theme, which the page around it has.
        title: What it shows.
        caption: The sentence of its caption function.

    Returns:
        The text of the file. A table of more than 200 rows is left out, and a note says so.
    """
    table = figure_table(figure)
    notes = []
    if len(table) > ROWS_IN_HTML:
        notes.append(f"The figure's {len(table):,} rows of numbers are in its CSV file.")
        table = table.iloc[:0]
    words = table.map(lambda cell: number(cell) if isinstance(cell, float) else str(cell))
    return html_report(title, [Section("Figure", caption, figure, words)], {}, notes)


class _Points:
    """The points of one trace: places on the axis that counts, values along the other.

    Attributes:
        name: Of the column: the trace's, and the title of the axis of its values.
        trace_name: Of the trace; empty if it has none.
        key_name: Title of the axis of the places.
        value_name: Title of the axis of the values.
        keys: The places.
        values: The values.
        words: Hover text of each point where the trace holds some, else empty.
        only_words: Whether the words are all that the trace says.
        shown: Whether the trace shows data.
        distinct: Whether no place occurs twice.
    """

    def __init__(self, figure: Figure, place: int) -> None:
        trace = figure.data[place]
        axes = [
            figure.layout[f"{letter}axis{(getattr(trace, f'{letter}axis', None) or letter)[1:]}"]
            for letter in "xy"
        ]
        sides = [_values(trace.x), _values(trace.y)]
        titles = [_title(figure, axis, letter) for axis, letter in zip(axes, "xy", strict=True)]
        # The places of rows are their names, which lie along the vertical axis.
        across = axes[1].type == "category" and axes[0].type != "category"
        if across and titles[1] == "y":
            titles[1] = "row"
        key, value = (1, 0) if across else (0, 1)
        if trace.meta == TRUE_VALUES:
            sides[value] = _values(trace.customdata)
        elif trace.meta == WORDS_ONLY:
            sides[value] = [None] * len(sides[key])
        self.keys, self.values = [*sides[key]], [*sides[value]]
        self.key_name, self.value_name = titles[key], titles[value]
        self.trace_name = _edge_name(figure, place)
        self.name = ": ".join(filter(None, [self.trace_name, self.value_name]))
        words = trace.hovertext if trace.hovertext is not None else ()
        self.words = [_text(word) for word in words] if not isinstance(words, str) else []
        self.only_words = trace.meta == WORDS_ONLY
        self._drop_gaps()
        helper = trace.hoverinfo == "skip" and not self.trace_name
        self.shown = bool(self.keys) and not helper
        # Arrows have two places each, also where no two of them share one.
        arrows = trace.type == "scatter" and trace.marker.angleref == "previous"
        self.distinct = len(set(self.keys)) == len(self.keys) and not arrows

    def _drop_gaps(self) -> None:
        """Leave out points that only interrupt a line, and those of the legend."""
        if len(self.words) != len(self.keys):
            self.words = []
        kept = [i for i, key in enumerate(self.keys) if not _is_missing(key)]
        self.keys = [self.keys[i] for i in kept]
        self.values = [self.values[i] for i in kept]
        self.words = [self.words[i] for i in kept] if self.words else []


def _matrix(trace: Any, figure: Figure) -> pd.DataFrame:
    table = np.asarray(_decoded(trace.customdata if trace.meta == TRUE_VALUES else trace.z))
    layout = figure.layout
    names = [
        axis.ticktext if side is None else _decoded(side)
        for side, axis in ((trace.y, layout.yaxis), (trace.x, layout.xaxis))
    ]
    rows, columns = ([_text(one) for one in side] for side in names)
    return pd.DataFrame(table, index=pd.Index(rows), columns=pd.Index(columns))


def _columns(shown: Sequence[_Points]) -> pd.DataFrame:
    """A row for each place, a column for each name."""
    if not shown:
        return pd.DataFrame()
    columns: dict[str, dict[Any, Any]] = {}
    for trace in shown:
        name, cells = trace.name, dict(zip(trace.keys, trace.values, strict=True))
        if trace.only_words:
            name, cells = WORDS, dict(zip(trace.keys, trace.words, strict=True))
        # Two traces of one name are one series, cut in two by what its colour or hatch says.
        while name in columns and any(
            not _is_missing(columns[name].get(key)) and not _is_missing(value)
            for key, value in cells.items()
        ):
            name += " (2)"
        known = {key: value for key, value in cells.items() if not _is_missing(value)}
        columns[name] = {**cells, **columns.get(name, {}), **known}
    places = list(dict.fromkeys(key for trace in shown for key in trace.keys))
    if all(isinstance(place, int | float) for place in places):
        places.sort()
    filled = {name: [cells.get(place) for place in places] for name, cells in columns.items()}
    return _with_key(shown[0].key_name, places, filled)


def _rows(shown: Sequence[_Points]) -> pd.DataFrame:
    """A row for each point."""
    records = []
    for trace in shown:
        for place, (key, value) in enumerate(zip(trace.keys, trace.values, strict=True)):
            word = trace.words[place] if trace.words else ""
            if trace.words and not word:
                # The origin of an arrow.
                continue
            record = {"name": trace.trace_name, trace.key_name: key, trace.value_name: value}
            records.append(record | ({WORDS: word} if word else {}))
    return pd.DataFrame(records)


def _places_in_space(figure: Figure) -> pd.DataFrame:
    """A row for each point that has words, with its place along three axes; bodies have none."""
    scene = figure.layout.scene
    titles = [
        _text(axis.title.text) or letter
        for axis, letter in zip((scene.xaxis, scene.yaxis, scene.zaxis), "xyz", strict=True)
    ]
    records: list[dict[str, Any]] = []
    for trace in figure.data:
        if trace.type != "scatter3d" or not trace.name:
            continue
        name, words = {"name": _text(trace.name)}, trace.hovertext
        if trace.meta == WORDS_ONLY:
            records.append(name | {WORDS: _text(words)})
            continue
        sides = (_values(trace.x), _values(trace.y), _values(trace.z))
        for place, word in zip(zip(*sides, strict=True), words or (), strict=True):
            if word:
                records.append(name | dict(zip(titles, place, strict=True)) | {WORDS: word})
    return pd.DataFrame(records, columns=["name", *titles, WORDS])


def _with_key(name: str, places: Sequence[Any], columns: Mapping[str, Sequence[Any]]) -> Any:
    """A table whose first column holds the places, under a name that no other column has."""
    key = name if name not in columns else f"{name}, place"
    return pd.DataFrame({key: list(places), **columns})


def _edge_name(figure: Figure, place: int) -> str:
    """Name of a trace; of the two edges of a band, which edge it is."""
    trace = figure.data[place]
    name = _text(trace.name)
    if getattr(trace, "fill", None) == "tonexty":
        return f"{name}, upper edge"
    if place + 1 < len(figure.data) and getattr(figure.data[place + 1], "fill", None) == "tonexty":
        return f"{_text(figure.data[place + 1].name)}, lower edge"
    return name


def _title(figure: Figure, axis: Any, letter: str) -> str:
    """Title of an axis; of one of several panels under each other, that of the others."""
    titles = [axis.title.text]
    titles += [
        figure.layout[name].title.text for name in figure.layout if name.startswith(f"{letter}axis")
    ]
    return next((_text(title) for title in titles if title), letter)


def _values(side: Any) -> list[Any]:
    """The places of a trace along one axis as plain numbers and texts; None for a gap."""
    decoded = _decoded(side)
    if decoded is None:
        return []
    plain = np.asarray(decoded).tolist() if isinstance(decoded, np.ndarray) else list(decoded)
    return [_text(value) if isinstance(value, str) else value for value in plain]


def _decoded(side: Any) -> Any:
    """An array of a figure, also where plotly wrote it as text for the browser."""
    if isinstance(side, Mapping) and "bdata" in side:
        flat = np.frombuffer(base64.b64decode(side["bdata"]), dtype=np.dtype(side["dtype"]))
        shape = side.get("shape")
        return flat if shape is None else flat.reshape([int(n) for n in str(shape).split(",")])
    return side


def _text(value: Any) -> str:
    """Words without the markup of a figure."""
    if value is None:
        return ""
    return unescape(re.sub(r"</?(?:b|i|br|sub|sup)\s*/?>", " ", str(value))).strip()


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))
