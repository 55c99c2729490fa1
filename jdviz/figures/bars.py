"""What figures with a row for each method share: the rows, and those of methods that failed."""

from collections.abc import Sequence
from typing import Any

from plotly import graph_objects as go

from jdviz.figures.frame import WORDS_ONLY, base_layout, titled
from jdviz.figures.measured import check_methods, cut, label, reason
from jdviz.figures.styles import ENGINE_STYLES
from jdviz.figures.theme import PALETTES, Theme

#: Pixels of a row, and of the legend and the axis around the rows.
ROW_HEIGHT, AROUND_ROWS = 44, 120


def rows_layout(
    theme: Theme, methods: Sequence[str], title: str, x_range: Sequence[float], **x_axis: Any
) -> dict[str, Any]:
    """The layout of a figure with a row for each method.

    Args:
        theme: "light" or "dark".
        methods: Keys of `ENGINE_STYLES`, also those that failed.
        title: Of the horizontal axis.
        x_range: Its ends.
        **x_axis: Further settings of it.

    Raises:
        ValueError: If a method is unknown or there twice.
    """
    check_methods(methods)
    labels = [label(method) for method in ENGINE_STYLES if method in methods]
    return base_layout(
        theme,
        ROW_HEIGHT * len(labels) + AROUND_ROWS,
        barmode="relative",
        bargap=0.35,
        margin={"l": 8, "r": 16, "t": 44, "b": 48},
        xaxis=titled(title, range=list(x_range), **x_axis),
        yaxis={
            "type": "category",
            "categoryarray": labels,
            "range": [len(labels) - 0.5, -0.5],
            "showgrid": False,
            "ticks": "",
        },
    )


def failed_rows(failures: Sequence[tuple[str, str]], x: float, theme: Theme) -> list[go.Scatter]:
    """A cross and the reason in the row of each method that failed.

    Args:
        failures: Method and sentence of each.
        x: Where the crosses lie on the horizontal axis.
        theme: "light" or "dark".

    Returns:
        One trace, or none where nothing failed.
    """
    if not failures:
        return []
    palette = PALETTES[theme]
    return [
        go.Scatter(
            x=[x] * len(failures),
            y=[label(method) for method, _ in failures],
            mode="markers+text",
            marker={"symbol": "x-thin", "size": 9, "line": {"width": 2, "color": palette.text}},
            text=[f" {cut(reason(sentence, method))}" for method, sentence in failures],
            textposition="middle right",
            textfont={"color": palette.text, "size": 13},
            cliponaxis=False,
            showlegend=False,
            meta=WORDS_ONLY,
            hovertext=[sentence for _, sentence in failures],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    ]


def row_words(
    x: Sequence[float], methods: Sequence[str], words: Sequence[str], theme: Theme
) -> Any:
    """Words to the right of a place in each method's row."""
    return go.Scatter(
        x=list(x),
        y=[label(method) for method in methods],
        mode="text",
        text=[f" {text}" for text in words],
        textposition="middle right",
        textfont={"color": PALETTES[theme].text, "size": 13},
        cliponaxis=False,
        showlegend=False,
        hoverinfo="skip",
    )
