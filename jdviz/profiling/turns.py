"""Durations taken in turn, A B C A B C …, and what is said about them."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import torch

from jdviz.profiling.spec import MeasurementError

# Unless asked otherwise: as many rounds as fit in this time, within these limits.
BUDGET_S = 10.0
FEWEST, MOST = 7, 100
# Share of the time that threads may have waited for a core before durations say little.
DISTURBED_SHARE = 0.1
# A step shorter than this feels what ran before it: caches and pools of memory that a large one
# left in disorder cost the perceptron's plain step, 0.5 ms, as much again. So the same step runs
# once before it, uncounted.
SHORT_MS = 20.0


@dataclass(frozen=True)
class Turn:
    """What is timed in every round.

    Attributes:
        run: What counts.
        prepare: What is done before and does not count.
    """

    run: Callable[[], object]
    prepare: Callable[[], object]


@dataclass(frozen=True)
class Taken:
    """What the rounds took.

    Attributes:
        durations_ms: One value for each round, by name.
        waited_share: How much of the time a thread of this process waited for a core, from 0 to
            1 for each thread that torch may use; None where the system does not tell.
    """

    durations_ms: dict[str, list[float]]
    waited_share: float | None

    @property
    def disturbance(self) -> str:
        """One sentence if other processes disturbed the rounds, else ""."""
        if self.waited_share is None or self.waited_share <= DISTURBED_SHARE:
            return ""
        return (
            "Other processes kept the cores busy: threads waited for one "
            f"{self.waited_share:.0%} of the time; measure again on a quiet machine."
        )


def take_turns(
    turns: Mapping[str, Turn],
    rounds: int | None,
    device: str = "cpu",
    agree: Callable[[float], float] | None = None,
) -> Taken:
    """Time every call once per round, after one round that is not counted.

    In every round a short call is made twice, and the second one counts.

    Args:
        turns: What is timed, by name.
        rounds: How many rounds; None for as many as fit in `BUDGET_S`, from `FEWEST` to `MOST`.
        device: What to wait for before the clock is read.
        agree: Where several processes take their turns together: makes one number of a duration
            that each of them measured, so that all of them take the same rounds.

    Returns:
        Durations, and how much of them was waiting.

    Raises:
        MeasurementError: The number of rounds is below 1.
    """
    if rounds is not None and rounds < 1:
        raise MeasurementError(
            f"got {rounds} rounds, expected at least 1; give a larger number with --rounds."
        )
    # A collection in the middle of a step would be counted to whatever runs then.
    gc.collect()
    gc.disable()
    try:
        warm_ms = {name: _duration_ms(turn, device) for name, turn in turns.items()}
        if agree is not None:
            warm_ms = {name: agree(taken_ms) for name, taken_ms in warm_ms.items()}
        short = {name for name, taken_ms in warm_ms.items() if taken_ms < SHORT_MS}
        if rounds is None:
            rounds = min(MOST, max(FEWEST, int(1e3 * BUDGET_S / sum(warm_ms.values()))))
        durations_ms: dict[str, list[float]] = {name: [] for name in turns}
        waited_s, begin_s = _waited_s(), time.perf_counter()
        for _ in range(rounds):
            for name, turn in turns.items():
                if name in short:
                    _duration_ms(turn, device)
                durations_ms[name].append(_duration_ms(turn, device))
        elapsed_s, waited_after_s = time.perf_counter() - begin_s, _waited_s()
    finally:
        gc.enable()
    if waited_s is None or waited_after_s is None:
        return Taken(durations_ms, None)
    share = (waited_after_s - waited_s) / (elapsed_s * torch.get_num_threads())
    return Taken(durations_ms, min(1.0, max(0.0, share)))


def _duration_ms(turn: Turn, device: str) -> float:
    """Milliseconds of one call, until the device has done all of it."""
    turn.prepare()
    _wait_for(device)
    begin_s = time.perf_counter()
    turn.run()
    _wait_for(device)
    return 1e3 * (time.perf_counter() - begin_s)


def _waited_s() -> float | None:
    """Seconds that all threads of this process were ready to run and did not; None if unknown."""
    waited_ns = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            waited_ns += int(path.read_text().split()[1])
        except (OSError, IndexError, ValueError):
            continue  # the thread ended meanwhile
    return waited_ns / 1e9 if waited_ns else None


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Spread:
    """Median and quartiles.

    Attributes:
        median: Half of the values are below it.
        low: A quarter of them are below it.
        high: A quarter of them are above it.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Read them off values.

        Args:
            values: At least one.

        Returns:
            Quartiles by linear interpolation.
        """
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(median(values), low, high)

    @property
    def range(self) -> str:
        """Both quartiles as text."""
        return f"{number(self.low)}–{number(self.high)}"


def ratios(upper: Sequence[float], lower: Sequence[float]) -> list[float]:
    """Divide durations of the same rounds.

    Args:
        upper: One value per round.
        lower: The same of what is compared with.

    Returns:
        One quotient per round.
    """
    return [one / other for one, other in zip(upper, lower, strict=True)]


def number(value: float) -> str:
    """A value with three significant digits and no exponent where it can be read without.

    Args:
        value: Any number.

    Returns:
        Its text.
    """
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
