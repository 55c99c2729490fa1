"""`distributed`: a fused step over several ranks ÷ the same model's step by DDP."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch

from benchmarks.cases import Case
from benchmarks.distributed_rank import FUSED, FUSED_ALONE, FUSED_DDP, SGD_ALONE, STEPS, Measured
from benchmarks.distributed_ranks import run_ranks
from benchmarks.judging import failed_row, judged, verdict
from benchmarks.report import Report, circumstances, refuse_if_nothing
from benchmarks.scaling import LAYERS, Machine, Prediction, predict
from engines.autogram.rates import rates_of
from jdviz.profiling import SGD, Limits, MeasurementError
from jdviz.profiling.turns import Spread, Taken, number, ratios

PROBLEMS = ("mlp", "cifar_cnn", "transformer")
RANKS = (2,)
#: Those whose ranks have one Gramian.
FUSED_STEPS = (FUSED, FUSED_DDP)
#: Of a fused step to a DDP step, on two ranks of one thread each.
LIMIT, LIMITED = 1.6, frozenset({"cifar_cnn", "transformer"})
#: Of bytes to their closed form, and of the closed form to the bytes.
BYTES_LIMIT = 1.1
MEBIBYTE = 2**20
COLUMNS = [
    "problem",
    "step",
    "÷ DDP SGD",
    "quartiles",
    "ms",
    "predicted ms",
    "gradient error",
    "peak MiB",
    "sent MiB",
    "closed form MiB",
    "travels",
    "target",
    "outcome",
]


@dataclass(frozen=True)
class Together:
    """What all ranks of one case found.

    Attributes:
        case: What was measured; the batch is that of each rank.
        samples: Of each rank.
        found: What each rank found, in order.
    """

    case: Case
    samples: int
    found: Sequence[Measured]

    @property
    def ranks(self) -> int:
        """How many there were."""
        return len(self.found)

    @property
    def name(self) -> str:
        """The case, and how many ranks there were."""
        return f"{self.case.name} ranks={self.ranks}"

    @property
    def has_targets(self) -> bool:
        """Whether the target on time is about it."""
        case = self.case
        asked = case.has_targets and case.problem in LIMITED
        return asked and case.device == "cpu" and case.threads == 1 and self.ranks == 2

    def durations_ms(self, step: str) -> list[float]:
        """Of every round, until the slowest rank was done.

        Args:
            step: One of `STEPS`.

        Returns:
            One value for each round.
        """
        rounds = zip(*(one.durations_ms[step] for one in self.found), strict=True)
        return [max(durations_ms) for durations_ms in rounds]

    def ratios(self, step: str) -> list[float]:
        """A step ÷ the plain one by DDP, round by round.

        Args:
            step: One of `STEPS`.

        Returns:
            One value for each round.
        """
        return ratios(self.durations_ms(step), self.durations_ms(SGD))

    def gradient_error(self, step: str) -> float | None:
        """How far a step's gradient is from the plain one, on the rank where it is farthest.

        Args:
            step: One of `STEPS`.

        Returns:
            Relative Frobenius distance; None for the plain step, and for the one of a rank alone,
            which is about other samples.
        """
        errors = [one.gradient_errors.get(step) for one in self.found]
        return max((error for error in errors if error is not None), default=None)

    def sent_bytes(self, step: str) -> float | None:
        """What all ranks together sent in one step.

        Args:
            step: One of `STEPS`.

        Returns:
            Bytes; None where they were not counted.
        """
        counts = [one.sent_bytes.get(step) for one in self.found]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == self.ranks else None

    def closed_form_bytes(self, step: str) -> int | None:
        """What all ranks together have to send in one step, by the engine's plan.

        Args:
            step: One of `STEPS`.

        Returns:
            Bytes; None for a step without an engine and where there is nobody to send to.
        """
        return self.found[0].closed_form_bytes.get(step) if self.ranks > 1 else None

    def prediction(self) -> Prediction | None:
        """What the model of cost expects the other ranks to add to the steps of one alone.

        Returns:
            The prediction; None where it knows neither the layers nor the rates.
        """
        case, first = self.case, self.found[0]
        layers = LAYERS.get(case.problem) if case.size is None and case.device == "cpu" else None
        if layers is None:
            return None
        rates = rates_of(torch.device(case.device), torch.float32)
        machine = Machine(
            rates.multiply_adds_per_s,
            rates.bytes_per_s,
            first.link_bytes_per_s or inf,
            first.latency_s or 0.0,
            # The processor that computes also carries what is sent to another process.
            overlaps=False,
            crowding=max(1.0, self.ranks * case.threads / (os.cpu_count() or 1)),
        )
        plain_s, fused_s = (
            Spread.of(self.durations_ms(step)).median / 1e3 for step in (SGD_ALONE, FUSED_ALONE)
        )
        return predict(layers, self.samples, self.ranks, machine, (plain_s, fused_s))

    def travels(self) -> str:
        """What is exchanged, and for how many uses of parameters."""
        counts = Counter(use["travels"] for use in self.found[0].uses if use["travels"])
        return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))

    def notes(self) -> list[str]:
        """What a reader has to know besides."""
        found = []
        asked, cores = self.ranks * self.case.threads, os.cpu_count() or 1
        if self.case.device == "cpu" and asked > cores:
            found.append(
                f"{self.name}: ranks with {counted(asked, 'thread')} in all share "
                f"{counted(cores, 'core')}, so they wait for each other, the plain step's too."
            )
        elif said := Taken({}, max(one.waited_share or 0.0 for one in self.found)).disturbance:
            found.append(f"{self.name}: {said}")
        return found

    def figures(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        return {
            "ranks": self.ranks,
            "steps": {
                step: {
                    "durations_ms": self.durations_ms(step),
                    "ratios": self.ratios(step),
                    "gradient_error": self.gradient_error(step),
                    "peak_bytes": [one.peak_bytes[step] for one in self.found],
                    "sent_bytes": [one.sent_bytes.get(step) for one in self.found],
                    "closed_form_bytes": self.closed_form_bytes(step),
                }
                for step in STEPS
            },
            "predicted_ms": predicted_ms(self.prediction()),
            "latency_s": self.found[0].latency_s,
            "link_bytes_per_s": self.found[0].link_bytes_per_s,
            "uses": {str(rank): one.uses for rank, one in enumerate(self.found)},
            "waited_share": [one.waited_share for one in self.found],
        }


def measure_distributed(
    cases: Sequence[Case], world_sizes: Sequence[int], rounds: int | None, limits: Limits
) -> Report:
    """Times one step by several ranks of this machine, in turn, and counts what they send.

    Args:
        cases: What is measured; one device for all, the batch is that of each rank.
        world_sizes: How many ranks, each of them once.
        rounds: How often each step is timed; None for as many as fit in ten seconds.
        limits: What the ranks of a case may take; only the time is looked at.

    Returns:
        For every case and number of ranks the median of the ratios to a DDP step with quartiles,
        bytes sent beside their closed form, and the targets; or why there are none.

    Raises:
        MeasurementError: There cannot be so many ranks, the number of rounds is below 1, or nothing
            could be measured.
    """
    check_world_sizes(world_sizes, cases[0].device)
    if rounds is not None and rounds < 1:
        raise MeasurementError(
            f"got {rounds} rounds, expected at least 1; give a larger number with --rounds."
        )
    # First of all: it finds out how fast the machine is, which all ranks then read in one file.
    machine = circumstances(cases[0].device, cases[0].threads)
    found: list[Together] = []
    rows: list[list[str]] = []
    failures: list[str] = []
    for case in cases:
        for ranks in dict.fromkeys(world_sizes):
            try:
                together = _measure(case, ranks, rounds, limits)
            except MeasurementError as error:
                failures.append(str(error))
                name = f"{case.name} ranks={ranks}"
                rows.append(failed_row(COLUMNS, name, "every step", str(error)))
                continue
            found.append(together)
            rows += _rows(together)
    refuse_if_nothing(bool(found), failures)
    return Report(
        title="Time of one step over several ranks ÷ the same model's DDP SGD step, median of "
        "ratios taken in turn; bytes of all ranks together",
        columns=COLUMNS,
        rows=rows,
        figures={one.name: one.figures() for one in found},
        machine=machine,
        notes=[note for one in found for note in one.notes()],
    )


def check_world_sizes(world_sizes: Sequence[int], device: str) -> None:
    """Makes sure that there can be so many ranks.

    Args:
        world_sizes: How many.
        device: One of `DEVICES`.

    Raises:
        MeasurementError: There cannot.
    """
    for ranks in world_sizes:
        if ranks < 1:
            raise MeasurementError(
                f"got --world-size {ranks}, expected at least 1 rank; give more."
            )
        if device == "cuda" and ranks > torch.cuda.device_count():
            raise MeasurementError(
                f"got --world-size {ranks} on a machine with "
                f"{counted(torch.cuda.device_count(), 'GPU')}, expected one for each rank; give "
                "fewer, or leave --device out to measure on the CPU."
            )


def _measure(case: Case, ranks: int, rounds: int | None, limits: Limits) -> Together:
    """Has the ranks measure one case."""
    spec = case.specs([SGD], limits)[0]
    request = {
        "device": case.device,
        "threads": case.threads,
        "problem": spec.problem,
        "size": spec.size,
        "batch_size": spec.batch_size,
        "rounds": rounds,
    }
    return Together(case, spec.batch_size, run_ranks(request, ranks, limits.timeout_s))


def predicted_ms(prediction: Prediction | None) -> dict[str, float]:
    """What each step is predicted to take.

    Args:
        prediction: Of a case, if there is one.

    Returns:
        Milliseconds by step; empty without a prediction.
    """
    if prediction is None:
        return {}
    fused_ms = 1e3 * prediction.fused_s
    return {SGD: 1e3 * prediction.ddp_s, FUSED: fused_ms, FUSED_DDP: fused_ms}


def _rows(together: Together) -> list[list[str]]:
    """The lines of one case."""
    rows = []
    expected_ms = predicted_ms(together.prediction())
    for step in STEPS:
        plain = step == SGD
        ratio = Spread.of(together.ratios(step))
        error = together.gradient_error(step)
        limited = together.has_targets and step in FUSED_STEPS
        rows.append(
            [
                together.name,
                step,
                "1" if plain else number(ratio.median),
                "" if plain else ratio.range,
                number(Spread.of(together.durations_ms(step)).median),
                number(expected_ms[step]) if step in expected_ms else "",
                "" if error is None else f"{error:.0e}",
                _mebibytes(max(one.peak_bytes[step] for one in together.found)),
                _mebibytes(together.sent_bytes(step)),
                _mebibytes(together.closed_form_bytes(step)),
                together.travels() if step in FUSED_STEPS else "",
                *verdict(ratio.median, LIMIT if limited else None),
            ]
        )
    return rows + [row for step in FUSED_STEPS if (row := _bytes_row(together, step)) is not None]


def _bytes_row(together: Together, step: str) -> list[str] | None:
    """Bytes that were sent ÷ their closed form; None where one of them is not known."""
    sent, closed = together.sent_bytes(step), together.closed_form_bytes(step)
    if sent is None or not closed:
        return None
    ratio = sent / closed
    target = ["", ""]
    if together.case.has_targets:
        # Less than the closed form would be as wrong as more.
        outcome = judged(max(ratio, 1 / ratio if ratio else inf), BYTES_LIMIT)
        target = [f"within {BYTES_LIMIT:g}×", outcome]
    return [together.name, f"{step}: bytes ÷ closed form", number(ratio), *[""] * 8, *target]


def counted(count: int, noun: str) -> str:
    """A number of things in words.

    Args:
        count: How many.
        noun: One of them.

    Returns:
        Both, the noun in the plural unless there is one.
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _mebibytes(size: float | None) -> str:
    """Bytes as text."""
    return "" if size is None else number(size / MEBIBYTE)
