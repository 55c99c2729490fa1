"""Step records made from a seed, and comparing them to the bit."""

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from jdviz.training import StepRecord


def make_record(step: int, m: int = 3) -> StepRecord:
    """A consistent record: its inner products and its norm are those of its Gramian and weights.

    Args:
        step: The step, which also seeds its numbers.
        m: Number of objectives.
    """
    rng = np.random.default_rng(step)
    jacobian = rng.standard_normal((m, 5))
    weights = rng.random(m)
    gramian = jacobian @ jacobian.T
    gramian = (gramian + gramian.T) / 2
    return StepRecord(
        step=step,
        time_s=step * 0.5,
        losses=rng.random(m),
        gramian=gramian,
        weights=weights,
        inner=gramian @ weights,
        direction_norm=float(np.sqrt(weights @ gramian @ weights)),
        sample_ids=rng.integers(0, 100, m),
        elapsed_s=0.01,
        peak_bytes=None,
    )


def split(gramian: NDArray[np.float64], modules: int = 2) -> dict[str, NDArray[np.float64]]:
    """A split of a Gramian over modules that adds up to it.

    Args:
        gramian: The Gramian, shape [m, m].
        modules: How many.
    """
    return {
        f"layers.{i}": gramian * (2 * (i + 1) / modules / (modules + 1)) for i in range(modules)
    }


def assert_same_record(left: StepRecord | None, right: StepRecord | None) -> None:
    """Fail unless two records hold the same numbers, to the bit.

    Args:
        left: One record.
        right: The other.
    """
    assert left is not None
    assert right is not None
    for field in fields(StepRecord):
        one, other = getattr(left, field.name), getattr(right, field.name)
        if field.name == "shares" and one is not None and other is not None:
            assert list(one) == list(other)
            one, other = list(one.values()), list(other.values())
        np.testing.assert_array_equal(one, other, err_msg=field.name)
