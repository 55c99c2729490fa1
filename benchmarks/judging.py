"""Means of ratios, whether a target is met, and rows that say why there is nothing in them."""

from collections.abc import Sequence
from math import exp, log
from statistics import fmean


def geometric_mean(values: Sequence[float]) -> float:
    """The factor that values are on average.

    Args:
        values: At least one, all positive.

    Returns:
        Their geometric mean.
    """
    return exp(fmean(log(value) for value in values))


def judged(value: float, limit: float) -> str:
    """Whether a target is met.

    Args:
        value: What was measured.
        limit: What it may be at most.

    Returns:
        "met" or "not met".
    """
    return "met" if value <= limit else "not met"


def verdict(value: float | None, limit: float | None) -> list[str]:
    """The two last cells of a row.

    Args:
        value: What was measured, if anything was.
        limit: What it may be at most, if there is a target.

    Returns:
        The target and whether it is met; empty without one of them.
    """
    if value is None or limit is None:
        return ["", ""]
    return [f"≤ {limit:g}", judged(value, limit)]


def failed_row(columns: Sequence[str], name: str, method: str, sentence: str) -> list[str]:
    """A row of what could not be measured.

    Args:
        columns: Of the table; the third gets the word, the last one the sentence.
        name: What was to be measured.
        method: By which method.
        sentence: Why it was not.

    Returns:
        Its cells.
    """
    return [name, method, "failed", *[""] * (len(columns) - 4), sentence]
