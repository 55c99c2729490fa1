"""The directions of methods, one each or a fan of them, and in words whom they make worse."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from jdviz.figures.arrays import Array, check_names, drawable
from jdviz.figures.words import count, listed

#: An inner product below this share of the largest is the rounding of zero.
ROUNDING = 1e-8


def as_fan(name: str, directions: ArrayLike, n: int) -> Array:
    """The directions of a method as rows.

    Args:
        name: Of the method, for the error.
        directions: One, shape [n], or one for each of s draws, shape [s, n].
        n: Number of parameters.

    Returns:
        Shape [s, n].

    Raises:
        ValueError: If the shape does not fit.
    """
    array = drawable(directions)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != n:
        raise ValueError(
            f"got directions of shape {np.shape(directions)} for {name}, expected [{n}] or "
            f"[s, {n}]."
        )
    return array


def objective_names(names: Sequence[str] | None, m: int) -> list[str]:
    """The names of m objectives; "objective 1", … where there are none.

    Raises:
        ValueError: If the names do not fit.
    """
    return check_names(names or [f"objective {index + 1}" for index in range(m)], m)


def hurt_by(gradients: Array, direction: Array) -> list[int]:
    """The objectives that get worse along a direction, beyond rounding.

    Args:
        gradients: Shape [m, n].
        direction: Shape [n].
    """
    with np.errstate(invalid="ignore"):
        inner = gradients @ direction
    sizes = np.linalg.norm(gradients, axis=1) * np.linalg.norm(direction)
    return [int(index) for index in np.flatnonzero(inner < -ROUNDING * sizes)]


def effect(hurt: Sequence[int], labels: Sequence[str]) -> str:
    """What a direction does to the objectives, as the end of a sentence.

    Args:
        hurt: Those that get worse.
        labels: Name of every objective.
    """
    if not hurt:
        return "makes no objective worse"
    return f"makes {listed([labels[index] for index in hurt])} worse"


def effects_caption(
    gradients: Array, directions: Mapping[str, ArrayLike], labels: Sequence[str], cone: str
) -> str:
    """One sentence on the dual cone and on the methods that make an objective worse.

    Args:
        gradients: Shape [m, n].
        directions: Method to its direction, shape [n], or one for each draw, shape [s, n].
        labels: Name of every objective, length m.
        cone: What the dual cone is.

    Raises:
        ValueError: If a shape does not fit.
    """
    m, n = gradients.shape
    begin = f"The directions that make none of {count(m, 'objective')} worse are {cone}"
    hurting = []
    for name, fan in directions.items():
        hurt = sorted({index for d in as_fan(name, fan, n) for index in hurt_by(gradients, d)})
        if hurt:
            # Of a random method, some draws may.
            verb = "makes" if np.ndim(fan) == 1 else "can make"
            hurting.append(f"{name} {verb} {listed([labels[index] for index in hurt])} worse")
    if not directions:
        return begin + "."
    if not hurting:
        return f"{begin}; every method shown stays among them."
    return f"{begin}; {listed(hurting, limit=4)}."
