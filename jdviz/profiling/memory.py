"""From the changes of the memory to its course over a step and what its peak is made of."""

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from jdviz.profiling.events import Change, Recorded
from jdviz.profiling.results import OWNERS, Phase, Source

MAX_POINTS = 2000
MOST_LAYERS = 12
OTHER_LAYERS = "other layers"
# The engines add Gramians up in one of these.
_ITEM_BYTES = (4, 8)
_GRAMIAN_PHASES = ("gramian", "weights")


@dataclass(frozen=True)
class Timeline:
    """Memory alive over one step; the attributes are those of `Measurement`, not thinned."""

    times_ms: list[float]
    live_bytes: list[int]
    changed_by: list[int]
    sources: list[Source]
    phases: list[Phase]
    peak_bytes: int
    peak_ms: float
    peak_phase: str
    peak_source: Source
    peak_split: dict[str, int]
    peak_layers: list[tuple[str, int]]


@dataclass(slots=True)
class _Block:
    """A block that the step allocated.

    Attributes:
        change: Its allocation.
        phase: In which part of the step.
        place: Number of that change.
        end: Number of the change that freed it; infinity where it outlives the step.
        end_ms: When it was freed; infinity where it outlives the step.
    """

    change: Change
    phase: Phase
    place: int
    end: float = math.inf
    end_ms: float = math.inf


def read_timeline(
    recorded: Recorded, objectives: int = 0, gradients: Collection[int] = ()
) -> Timeline:
    """Follows the memory of a step.

    A block that was allocated before the step and is freed in it was never added, so it is not
    subtracted either; the curve is what the step itself holds.

    Args:
        recorded: What the allocator did.
        objectives: Number of objectives m, by which the Gramian's blocks are known.
        gradients: Addresses of the parameters' gradients after the step.

    Returns:
        The timeline.
    """
    sources: dict[Source, int] = {Source("", ""): 0}
    times_ms, live_bytes, changed_by = [0.0], [0], [0]
    alive: dict[int, _Block] = {}
    blocks: list[_Block] = []
    total = peak = 0
    peak_block: _Block | None = None
    for place, change in enumerate(recorded.changes):
        if change.size > 0:
            block = _Block(change, _phase_at(recorded.phases, change.time_ms), place)
            alive[change.address] = block
            blocks.append(block)
        elif change.address in alive:
            block = alive.pop(change.address)
            block.end, block.end_ms = place, change.time_ms
        else:
            continue
        total += block.change.size if change.size > 0 else -block.change.size
        times_ms.append(change.time_ms)
        live_bytes.append(total)
        changed_by.append(sources.setdefault(change.source, len(sources)))
        if total > peak:
            peak, peak_block = total, block
    times_ms.append(recorded.end_ms)
    live_bytes.append(total)
    changed_by.append(0)
    held = [] if peak_block is None else _held_at(blocks, peak_block.place)
    return Timeline(
        times_ms=times_ms,
        live_bytes=live_bytes,
        changed_by=changed_by,
        sources=list(sources),
        phases=recorded.phases,
        peak_bytes=peak,
        peak_ms=0.0 if peak_block is None else peak_block.change.time_ms,
        peak_phase="" if peak_block is None else peak_block.phase.name,
        peak_source=Source("", "") if peak_block is None else peak_block.change.source,
        peak_split=_split(held, objectives, set(gradients)),
        peak_layers=_by_layer(held),
    )


def _phase_at(phases: list[Phase], time_ms: float) -> Phase:
    """The part of the step at a time; one without a name between parts."""
    for phase in phases:
        if phase.start_ms <= time_ms <= phase.end_ms:
            return phase
    return Phase("", time_ms, time_ms)


def _held_at(blocks: list[_Block], place: int) -> list[_Block]:
    """The blocks alive after a change, in the order they were made."""
    return [block for block in blocks if block.place <= place < block.end]


def _split(held: list[_Block], m: int, gradients: set[int]) -> dict[str, int]:
    """Bytes by owner."""
    found = dict.fromkeys(OWNERS, 0)
    for block in held:
        found[_owner(block, m, gradients)] += block.change.size
    return found


def _owner(block: _Block, m: int, gradients: set[int]) -> str:
    """Whose a block is: what outlives a part of the step is its result, the rest is workspace."""
    change, phase = block.change, block.phase
    if block.end_ms == math.inf and change.address in gradients:
        return "gradients"
    outlives = block.end_ms > phase.end_ms
    if phase.name == "forward" and outlives:
        return "activations"
    if phase.name == "jacobian" and outlives:
        return "jacobian"
    # A contraction's blocks can have the same size; they are made on behalf of a layer.
    square = change.size in [m * m * item for item in _ITEM_BYTES]
    if phase.name in _GRAMIAN_PHASES and square and not change.source.layer:
        return "gramian"
    return "workspace"


def _by_layer(held: list[_Block]) -> list[tuple[str, int]]:
    """Bytes by the layer that allocated them, largest first; beyond some, the rest together."""
    sizes: Counter[str] = Counter()
    for block in held:
        sizes[block.change.source.layer] += block.change.size
    ordered = sizes.most_common()
    rest = sum(size for _, size in ordered[MOST_LAYERS:])
    return ordered[:MOST_LAYERS] + ([(OTHER_LAYERS, rest)] if rest else [])


def thinned(live_bytes: list[int], limit: int = MAX_POINTS) -> list[int]:
    """Chooses the points of a curve that keep its shape.

    The points are cut into stretches of equal number; of each stay the first least and the first
    greatest, and the ends of the curve stay too. So the peak and every trough survive to within
    one stretch.

    Args:
        live_bytes: The curve.
        limit: Greatest number of points that may remain, at least 4.

    Returns:
        Places of the points that remain, in order.

    Raises:
        ValueError: The limit is below 4.
    """
    if limit < 4:
        raise ValueError(f"got limit {limit}, expected at least 4; give a larger one")
    count = len(live_bytes)
    if count <= limit:
        return list(range(count))
    stretches = (limit - 2) // 2
    kept = {0, count - 1}
    for number in range(stretches):
        rows = range(number * count // stretches, (number + 1) * count // stretches)
        kept.add(min(rows, key=live_bytes.__getitem__))
        kept.add(max(rows, key=live_bytes.__getitem__))
    return sorted(kept)
