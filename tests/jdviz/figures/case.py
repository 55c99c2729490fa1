"""The form in which the tests keep a figure."""

from collections.abc import Callable
from dataclasses import dataclass

from jdviz.figures.theme import Figure, Theme


@dataclass(frozen=True)
class Case:
    """One figure: how it is built in a theme, and its caption."""

    build: Callable[[Theme], Figure]
    caption: Callable[[], str]
