"""What all pages share: title and sentence, the theme, and errors said plainly."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from engines.errors import EngineError
from jdviz.components.assets import AssetError, read_asset
from jdviz.components.image_buttons import image_buttons
from jdviz.components.live_plot import Handles, Move, live_plot
from jdviz.figures import Figure, figure_csv, figure_html, figure_table
from jdviz.pages.controls import arrive, escaped
from jdviz.pages.lecture import hidden, hiding_style
from jdviz.pages.registry import PAGES
from jdviz.profiling import MeasurementError
from jdviz.runs import StoreError
from jdviz.server import settle_imports, visitor
from jdviz.training import ConfigError

_LOGGER = logging.getLogger("jdviz")
TABLE_HEIGHT = 320
#: How the names of folds with numbers begin, all of which an address may hide.
NUMBERS = "numbers-"
_FORESEEN = (AssetError, StoreError, ConfigError, MeasurementError, EngineError)


def open_page(key: str) -> None:
    """Draw a page's title, the question that it answers."""
    settle_imports(key)
    arrive(key)
    st.html(f"<style>{read_asset('page.css')}\n{hiding_style()}</style>")
    if not hidden("title"):
        st.title(PAGES[key].question, anchor=False)
    # On every page, so that a run goes on while its visitor looks at another one. What is wrong
    # with the store is for the page that needs it to say.
    with suppress(StoreError, ConfigError):
        visitor()


def split() -> tuple[DeltaGenerator, DeltaGenerator]:
    """The narrow rail of controls, which an address may hide, and the stage beside it."""
    rail, stage = st.columns([1, 3.4], gap="medium")
    return rail.container(key="rail"), stage


def prose(text: str) -> None:
    """Draw an explanation or something to try, which an address may hide.

    Args:
        text: Markdown.
    """
    if not hidden("prose"):
        st.markdown(text)


def theme() -> Literal["light", "dark"]:
    """The theme that the visitor sees."""
    return "dark" if st.context.theme.type == "dark" else "light"


@contextmanager
def plain_errors(place: DeltaGenerator | None = None) -> Iterator[None]:
    """Show what goes wrong inside as one sentence; the details go to the server's log.

    Args:
        place: Where on the page; here if None.
    """
    try:
        yield
    except _FORESEEN as error:
        (place or st).error(str(error))
    except Exception:
        _LOGGER.exception("a page failed")
        (place or st).error(
            "Something unexpected went wrong on this page; the details are in the server's log. "
            "Reload the page to go on. Recorded runs are kept."
        )


@dataclass(frozen=True)
class Panel:
    """A figure with its words.

    Attributes:
        key: Its name among the figures of the page.
        title: What it shows.
        figure: The figure.
        caption: One sentence, computed from the data, on what it shows now.
        spoken_only: Leave the caption to the text alternative, where the page says it already.
        code: A complete script, with public names, that makes the figure and ends in
            `figure = ...`; empty where there is none.
    """

    key: str
    title: str
    figure: Figure
    caption: str
    spoken_only: bool = False
    code: str = ""


def draw_panels(*panels: Panel) -> None:
    """Draw figures beside each other; they change in place and keep a visitor's zoom.

    Below each are its numbers as a table, and files to take along.

    Args:
        panels: The figures of one row.
    """
    for column, panel in zip(st.columns(len(panels), gap="medium"), panels, strict=True):
        with column:
            _draw_panel(panel)


def draw_clickable(
    panel: Panel, places: Iterable[int], on_cell: Callable[[tuple[int, int]], None]
) -> None:
    """Draw a square map whose cells answer to a click.

    Args:
        panel: The map.
        places: A number for every row and column.
        on_cell: Called with the numbers of row and column of the cell that was clicked.
    """
    _draw_panel(panel, cells=list(places), on_cell=on_cell)


def draw_with_handles(panel: Panel, handles: Handles, on_move: Callable[[Move], None]) -> None:
    """Draw a figure with arrows whose tips can be moved.

    Args:
        panel: The figure.
        handles: Where the tips are.
        on_move: Called with what became of them, many times during a drag.
    """
    _draw_panel(panel, handles=handles, on_move=on_move)


def _draw_panel(
    panel: Panel,
    cells: Sequence[int] | None = None,
    on_cell: Callable[[tuple[int, int]], None] | None = None,
    handles: Handles | None = None,
    on_move: Callable[[Move], None] | None = None,
) -> None:
    st.markdown(f"**{escaped(panel.title)}**")
    live_plot(
        panel.figure,
        key=f"plot-{panel.key}",
        height=int(panel.figure.layout.height),
        alt=f"{panel.title}. {panel.caption}",
        cells=cells,
        on_cell=on_cell,
        handles=handles,
        on_move=on_move,
    )
    if not panel.spoken_only:
        st.caption(escaped(panel.caption))
    draw_numbers(panel)


@contextmanager
def opened(key: str, label: str) -> Iterator[bool]:
    """A folded part of the page; yields whether it is open, and only then is there work to do.

    What is folded away is not sent either: a browser that shows a table or code loads some two
    megabytes for it before it draws the first figure.

    Args:
        key: Its name on the page.
        label: What stands on it.
    """
    if key.startswith(NUMBERS) and hidden("numbers"):
        yield False
        return
    part = st.expander(label, key=key, on_change="rerun")
    with part:
        yield bool(part.open)


def draw_numbers(panel: Panel) -> None:
    """Draw what a figure shows as a table and its code, folded away, with files to take along.

    The table is made only while it is open: a live figure is drawn several times a second.

    Args:
        panel: The figure.
    """
    with opened(f"{NUMBERS}{panel.key}", "Numbers, code and files") as is_open:
        if not is_open:
            return
        table = figure_table(panel.figure)
        st.dataframe(
            table,
            height=min(TABLE_HEIGHT, 38 + 35 * max(1, len(table))),
            alt=f"Numbers of the figure: {panel.title}",
        )
        _draw_files(panel)
        if panel.code:
            st.code(panel.code, language="python")


def _draw_files(panel: Panel) -> None:
    """A figure as a picture, as it is on the screen, and as files with its numbers."""
    name = "jdviz-" + re.sub("[^a-z0-9]+", "-", panel.key.lower()).strip("-")
    image_buttons(f"plot-{panel.key}", title=panel.title, file_name=name, key=f"images-{panel.key}")
    left, right = st.columns(2)
    left.download_button(
        "CSV",
        lambda: figure_csv(panel.figure),
        file_name=f"{name}.csv",
        mime="text/csv",
        key=f"csv-{panel.key}",
        on_click="ignore",
        width="stretch",
    )
    right.download_button(
        "HTML",
        lambda: figure_html(panel.figure, panel.title, panel.caption),
        file_name=f"{name}.html",
        mime="text/html",
        key=f"html-{panel.key}",
        on_click="ignore",
        width="stretch",
    )
