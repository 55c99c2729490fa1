"""What the plane of the two leading eigenvectors shows of a step, and what not, in words."""

import math
from collections.abc import Mapping

from numpy.typing import ArrayLike

from jdviz.figures.cone import DESCRIPTIONS, check_plane_jacobian, dual_cone_2d
from jdviz.figures.words import count, listed, number

#: A smaller share is beyond the digits of a Gramian, which is most often of single precision.
WHOLE = 1e-6

#: Up to this many directions are named with what the plane does not show of each.
NAMED = 6


def leading_directions_caption(
    rows: ArrayLike, outside: float, outside_directions: Mapping[str, float]
) -> str:
    """What the plane leaves out of gradients and directions, and which of its directions hurt none.

    Args:
        rows: The gradients' coordinates in the plane, shape [m, 2].
        outside: Share of the gradients' squared length that is not in the plane, from 0 to 1; NaN
            if there is no length.
        outside_directions: Method to the same share of its direction.

    Returns:
        Two sentences; one where no direction has a length.

    Raises:
        ValueError: If the rows do not have two columns.
    """
    gradients = check_plane_jacobian(rows)
    cone = (
        f"directions that make none of {count(len(gradients), 'objective')} worse are "
        f"{DESCRIPTIONS[dual_cone_2d(gradients).kind]}."
    )
    if outside < WHOLE and all(not share >= WHOLE for share in outside_directions.values()):
        return f"This plane shows gradients and directions whole. The {cone}"
    left = (
        "The gradients are all zero"
        if math.isnan(outside)
        else f"Not in this plane: {_percent(outside)} of the gradients' squared length"
    )
    shares = {name: share for name, share in outside_directions.items() if not math.isnan(share)}
    if shares:
        left += f" and, of the directions', {_each(shares)}"
    return f"{left}. Its {cone}"


def _each(shares: Mapping[str, float]) -> str:
    """The share of each of a few directions, or the range of many."""
    if len(shares) <= NAMED:
        return listed([f"{_percent(share)} ({name})" for name, share in shares.items()], NAMED)
    least, most = (pick(shares, key=shares.__getitem__) for pick in (min, max))
    return (
        f"from {_percent(shares[least])} ({least}) to {_percent(shares[most])} ({most}) of "
        f"{len(shares)} methods"
    )


def _percent(share: float) -> str:
    return "0 %" if share < WHOLE else f"{number(100 * share)} %"
