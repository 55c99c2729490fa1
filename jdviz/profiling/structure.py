"""What a model's step needs at every batch size, found without taking one.

The code of each method goes through its step with tensors that have memory and no numbers
(`jdviz.profiling.dryrun`), at few batch sizes, more of them where the need is no straight line.
`python -m jdviz.profiling.structure` reads the registered problems anew into the bundled file.
"""

import gc
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache, lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdviz.profiling.spec import OURS, SGD, MeasurementError, MeasureSpec, StepMethod

if TYPE_CHECKING:
    from jdviz.problems.subjects import Subject
    from jdviz.profiling.dryrun import DryRun

BUNDLE_PATH = Path(__file__).parent / "structures.json"
#: The methods that can be predicted; the others are not ours to go through.
PREDICTED: tuple[StepMethod, ...] = (*OURS, SGD)
# Beyond this a need is continued as it grew.
MOST_BYTES = 4 * 2**30
READ_S = 20.0
# The bundled ones are read once and for good.
_BUNDLE_S = 40.0
# A straight line this near the truth in the middle is near enough, and so are neighbours.
_NEAR = 0.03
_NEIGHBOURS = 1.25
_STEP = 4
# From so many samples on, what takes this long is not done with four times as many.
_MANY = 64
_SLOW_S = 1.0
_AGGREGATOR = "Mean"


@dataclass(frozen=True)
class Structure:
    """What one model's step needs.

    Attributes:
        problem: Name of a subject.
        size: Name of its model size.
        parameter_bytes: Bytes of the model's parameters.
        batch_fixed_bytes: Bytes of a batch that do not depend on its size.
        batch_sample_bytes: Bytes that each of its samples adds.
        tasks: Number of objectives where they are tasks; 0 where every sample is one.
        parameters: Number of trainable parameters n.
        only_batch: The one batch size that can be built, None where others can.
        peaks: By method the batch sizes that were gone through, ascending, each with the greatest
            number of bytes that the step holds beside parameters and batch.
        missing: Why a method has none, by method.
    """

    problem: str
    size: str
    parameter_bytes: int
    batch_fixed_bytes: int
    batch_sample_bytes: int
    tasks: int
    parameters: int
    only_batch: int | None
    peaks: dict[str, list[tuple[int, int]]]
    missing: dict[str, str]

    def objectives(self, batch_size: int) -> int:
        """Number of objectives m of a step with this batch size."""
        return self.tasks or batch_size

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Structure":
        """Builds a structure from what `to_dict` gave, also after a way through JSON.

        Raises:
            MeasurementError: An entry is missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise MeasurementError(
                f"The structure has the entries {', '.join(values)}; "
                f"it must have {', '.join(sorted(names))}."
            )
        peaks = {
            method: [(batch, peak) for batch, peak in points]
            for method, points in values["peaks"].items()
        }
        return cls(**{**values, "peaks": peaks})


def structure_of(problem: str, size: str | None = None) -> Structure:
    """The structure of a problem: the bundled one, else read in a child process, once.

    Args:
        problem: Name of a subject.
        size: Name of one of its model sizes, its default if None.

    Returns:
        The structure.

    Raises:
        MeasurementError: It cannot be built; the message is one sentence for a person.
    """
    known = bundled_structures()
    if size is not None and (problem, size) in known:
        return known[problem, size]
    return _read_aside(problem, size)


@lru_cache(maxsize=64)
def _read_aside(problem: str, size: str | None) -> Structure:
    """Reads a structure in a child process."""
    # Imported here so that a prediction from the bundle does not load what measures.
    from jdviz.profiling.measure import Limits, ask_aside

    request = {"kind": "structure", "problem": problem, "size": size}
    return Structure.from_dict(ask_aside(request, 1, Limits(timeout_s=9 * READ_S)))


def forget_structures() -> None:
    """Lets the next look at a problem that is not bundled read it again."""
    _read_aside.cache_clear()


@cache
def bundled_structures() -> dict[tuple[str, str], Structure]:
    """Reads the bundled file.

    Returns:
        Structures by problem and size; empty where there is no file.
    """
    if not BUNDLE_PATH.exists():
        return {}
    found = [Structure.from_dict(values) for values in json.loads(BUNDLE_PATH.read_text())]
    return {(one.problem, one.size): one for one in found}


def read_structure(subject: "Subject", size: str, seconds: float = READ_S) -> Structure:
    """Reads a structure in this process, which afterwards has no use for its random state.

    Args:
        subject: What is read.
        size: Name of one of its model sizes.
        seconds: About how long more batch sizes may be gone through.

    Returns:
        The structure. A method that cannot be gone through is missing there.

    Raises:
        ProblemError: The subject cannot be built.
    """
    from jdviz.problems.base import parameter_count
    from jdviz.problems.subjects import MAX_BATCH
    from jdviz.profiling.dryrun import DryRun

    least, most = 2, 4
    if not subject.resizable:
        least = most = subject.default_batch
    first, second = subject.build(size, least), subject.build(size, most)
    per_sample = (second.batch_bytes - first.batch_bytes) // max(1, most - least)
    dry = DryRun()
    # What is there by now is not looked through again at every collection.
    gc.freeze()
    peaks: dict[str, list[tuple[int, int]]] = {}
    missing: dict[str, str] = {}
    for number, method in enumerate(PREDICTED):
        begin_s = time.monotonic()
        share_s = seconds / (len(PREDICTED) - number)
        try:
            if subject.resizable:
                points = _ladder(partial(_peak, dry, subject, size, method), MAX_BATCH, share_s)
            else:
                points = {most: _peak(dry, subject, size, method, most)}
        except Exception as error:  # whatever a model or an engine refuses is a reason
            missing[method] = f"{type(error).__name__}: {error}"
        else:
            peaks[method] = sorted(points.items())
        seconds = max(0.0, seconds - (time.monotonic() - begin_s))
    gc.unfreeze()
    return Structure(
        problem=subject.key,
        size=size,
        parameter_bytes=sum(p.numel() * p.element_size() for p in first.model.parameters()),
        batch_fixed_bytes=first.batch_bytes - per_sample * least,
        batch_sample_bytes=per_sample,
        tasks=subject.tasks,
        parameters=parameter_count(first.model),
        only_batch=None if subject.resizable else subject.default_batch,
        peaks=peaks,
        missing=missing,
    )


def _peak(dry: "DryRun", subject: "Subject", size: str, method: StepMethod, batch_size: int) -> int:
    """Goes through one step; its peak in bytes."""
    from jdviz.profiling.dryrun import dry_peak
    from jdviz.profiling.steps import MeasuredStep

    with dry:
        built = subject.build(size, batch_size)
    spec = MeasureSpec(subject.key, size, batch_size, method, _AGGREGATOR)
    step = MeasuredStep(spec, built, subject.batch_dim, subject.objectives(batch_size))
    gc.collect()
    gc.disable()
    try:
        return dry_peak(dry, step.run)
    finally:
        gc.enable()


def _ladder(peak: Callable[[int], int], most: int, seconds: float) -> dict[int, int]:
    """Batch sizes between which the peak is nearly a straight line, with their peaks.

    Args:
        peak: Of a batch size.
        most: Largest batch size.
        seconds: How long to look closer.

    Returns:
        Peaks by batch size, at least one.
    """
    points: dict[int, int] = {}
    batch_size = 1
    while batch_size <= most:
        begin_s = time.monotonic()
        try:
            points[batch_size] = peak(batch_size)
        except (MemoryError, RuntimeError, ValueError):
            # The system hands out no more, touched or not; or a single sample is too few.
            if not points and batch_size == 1:
                batch_size = 2
                continue
            if not points:
                raise
            break
        slow = batch_size >= _MANY and time.monotonic() - begin_s > _SLOW_S
        if slow or points[batch_size] > MOST_BYTES:
            break
        batch_size *= _STEP
    ladder = sorted(points)
    until_s = time.monotonic() + seconds
    gaps = list(pairwise(ladder))
    while gaps and time.monotonic() < until_s:
        low, high = gaps.pop(0)
        middle = math.isqrt(low * high)
        if middle == low or high <= _NEIGHBOURS * low:
            continue
        points[middle] = peak(middle)
        share = (middle - low) / (high - low)
        guess = points[low] + share * (points[high] - points[low])
        if abs(guess - points[middle]) > _NEAR * points[middle]:
            gaps += [(low, middle), (middle, high)]
    return points


def write_bundle(path: Path) -> None:
    """Reads every registered problem at every size and writes the structures.

    Args:
        path: The JSON file to write.

    Raises:
        MeasurementError: A method could not be gone through.
    """
    import torch

    from jdviz.problems.subjects import SUBJECTS

    torch.set_num_threads(1)
    found = [
        read_structure(subject, size) for subject in SUBJECTS.values() for size in subject.sizes
    ]
    wrong = [f"{one.problem}, {one.missing}" for one in found if one.missing]
    if wrong:
        raise MeasurementError(f"Some methods could not be gone through: {'; '.join(wrong)}.")
    lines = ",\n".join(json.dumps(one.to_dict(), separators=(",", ":")) for one in found)
    path.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    write_bundle(BUNDLE_PATH)
