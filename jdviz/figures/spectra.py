"""Over how many directions the gradients of a step spread: the eigenvalues of the Gramian."""

import numpy as np
from numpy.typing import ArrayLike
from plotly import graph_objects as go

from jdviz.conflict import Array
from jdviz.figures.arrays import check_square, small, tick_places
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.theme import HEIGHT_SIDE, PALETTES, Figure, Theme
from jdviz.figures.words import number
from jdviz.spectrum import spectrum

#: The eigenvalues whose directions span the leading plane.
LEADING = 2


def spectrum_bars(G: ArrayLike, theme: Theme, *, height: int = HEIGHT_SIDE) -> Figure:
    """The eigenvalues of the Gramian, largest first.

    Their sum is that of the squared lengths of all gradients; the hover text says each one's share
    of it. The two leading ones, which the plane
    of the gradients shows, have a colour of their own.

    Args:
        G: Gramian, shape [m, m].
        theme: "light" or "dark".
        height: Height in pixels.

    Returns:
        A figure with two traces.

    Raises:
        ValueError: If G is not a square matrix or not finite.
    """
    values = spectrum(G).values
    m, palette = len(values), PALETTES[theme]
    shares = _shares(values)
    places = np.arange(1, m + 1)
    parts = (
        ("the two leading", slice(0, LEADING), palette.accent),
        ("the others", slice(LEADING, None), palette.muted),
    )
    traces = [
        go.Bar(
            x=places[chosen],
            y=small(values[chosen]),
            customdata=small(100 * shares[chosen]),
            name=name,
            marker={"color": color, "line": {"width": 0}},
            hovertemplate="eigenvalue %{x}: %{y:.3g}, %{customdata:.3g} % of the sum"
            "<extra></extra>",
        )
        for name, chosen, color in parts
    ]
    ticks = [place + 1 for place in tick_places(m)]
    return assemble(
        traces,
        base_layout(
            theme,
            height,
            barmode="overlay",
            bargap=0.3 if m <= 16 else 0.1,
            showlegend=True,
            xaxis=titled(
                "place, largest eigenvalue first", range=[0.5, max(m, 1) + 0.5], tickvals=ticks
            ),
            yaxis=titled("eigenvalue (squared length)", rangemode="tozero"),
        ),
    )


def spectrum_caption(G: ArrayLike) -> str:
    """One sentence on the effective rank, and how much the two leading directions hold.

    Args:
        G: Gramian, shape [m, m].

    Raises:
        ValueError: If G is not a square matrix or not finite.
    """
    m, found = len(check_square(G)), spectrum(G)
    if found.effective_rank == 0:
        return "There is no gradient with a length yet."
    if m <= LEADING:
        return (
            f"The gradients spread over {number(found.effective_rank)} of {m} directions "
            "(effective rank)."
        )
    return (
        f"The gradients spread over {number(found.effective_rank)} of {m} directions (effective "
        f"rank); the two leading ones hold {number(100 * found.leading_share)} % of the squared "
        "lengths."
    )


def _shares(values: Array) -> Array:
    total = float(values.sum())
    return values / total if total else values
