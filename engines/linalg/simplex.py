"""Projection onto the probability simplex."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def project_onto_simplex(point: Array) -> Array:
    """The nearest point of {x : x >= 0, Σ x_i = 1} in Euclidean distance.

    It is max(y - θ, 0) with the one θ that makes the sum 1.

    Args:
        point: y, finite, of any size, shape [m].

    Returns:
        The projection, shape [m]; empty when m is 0.

    Raises:
        ValueError: y has not one dimension, or is not finite.

    Source: Held, Wolfe & Crowder, Mathematical Programming 6, 1974; Duchi et al., ICML 2008,
        Figure 1.
    Cost: a sort, m log m comparisons.
    """
    if point.ndim != 1 or not np.isfinite(point).all():
        raise ValueError(
            f"got a point of shape {list(point.shape)}, expected a finite vector [m], "
            "pass one number per objective."
        )
    if point.size == 0:
        return point.copy()
    # θ lies within 1 of the largest entry, so what is further below is 0 whatever it is; cutting
    # it off keeps sums of entries of size 1e300 exact. Halves, since a difference may overflow.
    top = float(point.max())
    shifted = np.maximum(2.0 * np.maximum(0.5 * point - 0.5 * top, -0.5), -1.0)
    descending = np.sort(shifted)[::-1]
    thresholds = (np.cumsum(descending) - 1.0) / np.arange(1, point.size + 1)
    # The largest entry always counts: 0 > -1.
    last = int(np.flatnonzero(descending > thresholds)[-1])
    return np.maximum(shifted - thresholds[last], 0.0)
