"""How the angles between the objectives' gradients are distributed."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from plotly import graph_objects as go

from jdviz.conflict import pair_angles_deg
from jdviz.figures.arrays import Array
from jdviz.figures.frame import assemble, base_layout, titled
from jdviz.figures.theme import HEIGHT_SIDE, PALETTES, Figure, Theme
from jdviz.figures.words import degrees, number, share

WIDTH_DEG = 10
EDGES = np.arange(0, 181, WIDTH_DEG)


def angle_histogram(G: ArrayLike, theme: Theme) -> Figure:
    """The angles of all pairs of gradients in steps of ten degrees; conflict is beyond 90.

    Args:
        G: Gramian, shape [m, m]; pairs with a gradient that is zero or not finite are left out.
        theme: "light" or "dark".

    Raises:
        ValueError: If G is not a square matrix.
    """
    palette = PALETTES[theme]
    counts = _counts(pair_angles_deg(G))
    centers = (EDGES[:-1] + EDGES[1:]) / 2
    conflicting = centers > 90

    def bars(name: str, chosen: NDArray[np.bool_], color: str, hatch: str) -> go.Bar:
        ends = np.stack([EDGES[:-1], EDGES[1:]], axis=1)[chosen]
        return go.Bar(
            x=centers[chosen],
            y=counts[chosen],
            width=WIDTH_DEG,
            name=name,
            customdata=ends,
            marker={
                "color": color,
                "line": {"color": palette.background, "width": 1},
                "pattern": {
                    "shape": hatch,
                    "fgcolor": palette.background,
                    "fillmode": "overlay",
                    "size": 6,
                    "solidity": 0.2,
                },
            },
            hovertemplate=(
                "%{y} pairs between %{customdata[0]}° and %{customdata[1]}°"
                f"<extra>{name}</extra>"
            ),
        )

    traces = [
        bars("agreement", ~conflicting, palette.positive, ""),
        bars("conflict (cosine below zero)", conflicting, palette.negative, "/"),
    ]
    right_angle = {
        "type": "line",
        "yref": "y domain",
        "x0": 90,
        "x1": 90,
        "y0": 0,
        "y1": 1,
        "line": {"color": palette.text, "width": 1.5, "dash": "dash"},
    }
    return assemble(
        traces,
        base_layout(
            theme,
            HEIGHT_SIDE,
            shapes=[right_angle],
            bargap=0,
            barmode="overlay",
            xaxis=titled(
                "angle between two gradients",
                range=[0, 180],
                tickvals=list(range(0, 181, 30)),
                ticksuffix="°",
                showgrid=False,
            ),
            yaxis=titled(
                "pairs",
                range=[0, max(1.08 * counts.max(), 1.0)],
                # Pairs are counted in whole numbers.
                dtick=1 if counts.max() <= 5 else None,
            ),
        ),
    )


def angle_caption(G: ArrayLike) -> str:
    """One sentence on the share of conflicting pairs and the median angle.

    Args:
        G: Gramian, shape [m, m].

    Raises:
        ValueError: If G is not a square matrix.
    """
    angles = pair_angles_deg(G)
    if angles.size == 0:
        return "No pair of gradients has an angle: fewer than two are different from zero."
    amount = int(np.sum(angles > 90))
    percent = number(100 * amount / angles.size)
    return (
        f"{share(amount, angles.size, 'pair')} in conflict, beyond 90° ({percent} %); "
        f"the median angle is {degrees(float(np.median(angles)))}."
    )


def _counts(angles: Array) -> NDArray[np.int32]:
    """Pairs in each step, shape [18]; a step holds its upper edge, so 90° is no conflict."""
    places = np.clip(np.ceil(angles / WIDTH_DEG).astype(int) - 1, 0, len(EDGES) - 2)
    return np.bincount(places, minlength=len(EDGES) - 1).astype(np.int32)
