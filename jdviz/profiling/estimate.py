"""Memory of a step, predicted before it is run, and the largest batch that a budget allows."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from jdviz.profiling.available import available_bytes
from jdviz.profiling.spec import METHOD_LABELS, MeasurementError, StepMethod

if TYPE_CHECKING:
    from jdviz.profiling.structure import Structure

#: Largest batch that is ever asked for.
MOST_SAMPLES = 2**17


def predicted_bytes(structure: "Structure", method: StepMethod, batch_size: int) -> int | None:
    """Predicts the peak memory of one step, parameters and batch excluded.

    Exact but for the scratch of operations where the structure has the batch size; in a straight
    line between, which is near by how the structure was read.

    Args:
        structure: Of a model.
        method: Which step.
        batch_size: Samples in the batch.

    Returns:
        Bytes; None where there is no prediction: of the methods of the field's library, of what
        the engines refuse, and of batch sizes that cannot be built.

    Raises:
        ValueError: The batch size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"got batch size {batch_size}, expected at least 1; ask for a larger one")
    points = structure.peaks.get(method)
    if not points:
        return None
    place = bisect_right(points, batch_size, key=lambda point: point[0])
    if place and points[place - 1][0] == batch_size:
        return points[place - 1][1]
    if len(points) == 1:
        return None
    if place == len(points):
        return _continued(points, batch_size)
    (low, least), (high, most) = points[max(place, 1) - 1], points[max(place, 1)]
    return max(0, least + (most - least) * (batch_size - low) // (high - low))


def _continued(points: Sequence[tuple[int, int]], batch_size: int) -> int:
    """Peak beyond the last batch size: as a parabola, for a Gramian grows with the square."""
    (high, most), (middle, more) = points[-1], points[-2]
    slope = (most - more) / (high - middle)
    bend = 0.0
    if len(points) > 2:
        low, least = points[-3]
        bend = max(0.0, (slope - (more - least) / (middle - low)) / (high - low))
    beyond = batch_size - high
    return max(0, round(most + beyond * (slope + bend * (batch_size - middle))))


def total_bytes(structure: "Structure", method: StepMethod, batch_size: int) -> int | None:
    """Predicts what a step needs with its parameters and its batch.

    Args:
        structure: Of a model.
        method: Which step.
        batch_size: Samples in the batch.

    Returns:
        Bytes, None where `predicted_bytes` has none.

    Raises:
        ValueError: The batch size is below 1.
    """
    peak = predicted_bytes(structure, method, batch_size)
    if peak is None:
        return None
    batch = structure.batch_fixed_bytes + structure.batch_sample_bytes * batch_size
    return structure.parameter_bytes + batch + peak


def largest_batch(structure: "Structure", method: StepMethod, budget_bytes: int) -> int | None:
    """Predicts the largest batch that fits, where every smaller one fits too.

    Args:
        structure: Of a model.
        method: Which step.
        budget_bytes: For parameters, batch and the step.

    Returns:
        Samples, at most `MOST_SAMPLES`; 0 where not even one fits, None where there is no
        prediction.
    """
    points = structure.peaks.get(method)
    if not points:
        return None

    def fits(batch_size: int) -> bool:
        need = total_bytes(structure, method, batch_size)
        return need is not None and need <= budget_bytes

    if structure.only_batch is not None:
        return structure.only_batch if fits(structure.only_batch) else 0
    if not fits(1):
        return 0
    sizes = sorted({1, *(batch for batch, _ in points if batch < MOST_SAMPLES), MOST_SAMPLES})
    for low, high in pairwise(sizes):
        if not fits(high):
            # The need is a straight line between the two.
            return (
                low
                - 1
                + bisect_right(range(low, high + 1), False, key=lambda batch: not fits(batch))
            )
    return MOST_SAMPLES


def check_fits(problem: str, size: str, batch_size: int, method: StepMethod) -> None:
    """Refuses a step that would need more memory than the machine has free.

    Args:
        problem: Name of a subject.
        size: Name of one of its model sizes.
        batch_size: Samples in the batch.
        method: Which step; of what cannot be predicted nothing is refused.

    Raises:
        MeasurementError: It would; the message is one sentence for a person.
    """
    # Imported here so that the package can be imported by the program that writes the bundle.
    from jdviz.profiling.structure import structure_of

    need = total_bytes(structure_of(problem, size), method, batch_size)
    have = available_bytes()
    if need is not None and need > have:
        raise MeasurementError(
            f"A step by {METHOD_LABELS[method]} with these settings would need about "
            f"{need / 2**20:,.0f} MiB, and this machine has {have / 2**20:,.0f} MiB free; choose a "
            "smaller batch or model."
        )
