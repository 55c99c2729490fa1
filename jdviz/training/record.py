"""The one record that every step of training becomes, whoever runs it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class StepRecord:
    """What one step of training did to its objectives.

    Two records are compared field by field where that is needed: `==` on arrays has no single
    truth value, so the class has identity equality.

    Attributes:
        step: Number of the step in its run, from 0.
        time_s: Seconds of training from the beginning of the run to the end of this step, pauses
            excluded.
        losses: Value of each objective before the update, shape [m].
        gramian: Inner products of the objectives' gradients, J Jᵀ, shape [m, m]; None where the
            method does not give it, the step diverged, or the run store has thinned it away.
            Read back from the store, a large one holds the objectives `kept_ids` alone.
        weights: Weight of each objective's gradient in the update, shape [m]; None for methods
            without weights.
        inner: First-order improvement of each objective along the update direction, J·A(J),
            shape [m]; a negative entry is an objective that the step hurts.
        direction_norm: Length of the update direction A(J), before the optimizer.
        sample_ids: Row of the data that each objective is, shape [m]; None where the objectives
            are tasks.
        elapsed_s: Seconds that this step took.
        peak_bytes: Peak of the memory allocated during the step, parameters excluded; None where
            it was not measured.
        shares: Path of every module that owns a trainable parameter to its share of the Gramian,
            shape [m, m]; they add up to `gramian`. None where the step was not split.
        scalars: Further numbers of the step by name, such as a validation accuracy.
        kept_ids: Places of the objectives whose inner products `gramian` holds, ascending; None
            where it holds those of all m.
    """

    step: int
    time_s: float
    losses: NDArray[np.float64]
    gramian: NDArray[np.float64] | None
    weights: NDArray[np.float64] | None
    inner: NDArray[np.float64] | None
    direction_norm: float | None
    sample_ids: NDArray[np.int64] | None
    elapsed_s: float
    peak_bytes: int | None
    shares: Mapping[str, NDArray[np.float64]] | None = None
    scalars: Mapping[str, float] = field(default_factory=dict)
    kept_ids: NDArray[np.int64] | None = None
