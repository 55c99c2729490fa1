"""The numbers behind figures as tables, for a reader who wants them."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import pandas as pd

from jdviz.figures.words import degrees, number

#: More methods than this are rows of the table, because they would not fit beside each other.
COLUMNS = 6


class Compared(Protocol):
    """What one method makes of a Jacobian, with the attributes of `jdviz.compare.Outcome`."""

    @property
    def method(self) -> str:
        """Its name."""

    @property
    def weights(self) -> Any:
        """Weights, shape [m], or None for a method without weights."""

    @property
    def inner(self) -> Any:
        """J·A(J), shape [m]."""

    @property
    def hurt(self) -> Any:
        """Which objectives get worse, shape [m]."""

    @property
    def norm(self) -> float:
        """Length of the direction."""

    @property
    def angle_to_mean_deg(self) -> float:
        """Angle to the mean gradient, degrees."""


def directions_table(outcomes: Sequence[Compared], names: Sequence[str]) -> pd.DataFrame:
    """Weights, improvements and angles of several methods, as text.

    Args:
        outcomes: One for each method.
        names: Name of every objective, length m.

    Returns:
        A column for each method; of more than six methods a row for each.
    """
    columns = {}
    for outcome in outcomes:
        hurt = [name for name, worse in zip(names, outcome.hurt, strict=True) if worse]
        cells = {"hurts": ", ".join(hurt) or "none"}
        improvements = zip(names, outcome.inner, strict=True)
        cells |= {f"{name}·A": number(value, signed=True) for name, value in improvements}
        weights = [math.nan] * len(names) if outcome.weights is None else outcome.weights
        cells |= {
            f"weight of {name}": number(value) for name, value in zip(names, weights, strict=True)
        }
        cells |= {"length of A": number(outcome.norm)}
        cells |= {"angle to the mean gradient": degrees(outcome.angle_to_mean_deg)}
        columns[outcome.method] = cells
    table = pd.DataFrame(columns)
    return table if len(columns) <= COLUMNS else table.T
