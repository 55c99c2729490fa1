"""What recording a training costs: the same loop with and without it, in turn."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import ceil
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.judging import verdict
from benchmarks.report import Report, circumstances
from engines.aggregation import MeanWeighting
from engines.autogram import Engine
from jdviz.problems.workloads import WORKLOADS, Workload
from jdviz.profiling import MeasurementError
from jdviz.profiling.turns import Spread, Turn, number, ratios, take_turns
from jdviz.runs import RunStore
from jdviz.runs.recorder import Recorder

PROBLEM = "cifar_cnn"
#: A block of steps takes about this long: about two flushes of the recorder, and its end.
BLOCK_S = 2.0
#: Of the loop's time with `log` or `watch`, over that without.
LIMIT = 1.05
LIMITED = frozenset({"log", "watch"})
COLUMNS = [
    "loop",
    "recorded by",
    "÷ without",
    "quartiles",
    "ms a step",
    "extra ms",
    "KiB a step",
    "target",
    "outcome",
]
#: What each way of recording is compared with.
BARE = {"log": "fused", "watch": "fused", "watch_gradients": "sgd"}


class Loop:
    """A model in training, some steps at a time, recorded in one of the ways or in none.

    Args:
        workload: Model and data.
        folder: Of the run store.
    """

    def __init__(self, workload: Workload, folder: Path) -> None:
        self._workload = workload
        self._folder = folder
        self._model, self._inputs, self._classes = workload.build()
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=1e-4)
        self._engine = Engine(self._model, batch_dim=0)
        self._weighting: nn.Module = MeanWeighting()

    def block(self, way: str, steps: int) -> None:
        """Train.

        Args:
            way: "fused" and "sgd" record nothing; "log", "watch" and "watch_gradients" do.
            steps: How many steps.
        """
        recording = way in BARE
        with Recorder(way, folder=self._folder) if recording else nullcontext() as recorder:
            if way == "watch" and recorder is not None:
                recorder.watch(self._engine)
            for _ in range(steps):
                losses = self._workload.losses(self._model, self._inputs, self._classes)
                self._optimizer.zero_grad()
                self._backward(way, losses, recorder)
                self._optimizer.step()

    def _backward(self, way: str, losses: Tensor, recorder: Recorder | None) -> None:
        if way in ("sgd", "watch_gradients"):
            if recorder is not None:
                recorder.watch_gradients(losses, self._model, batch_dim=0)
            losses.mean().backward()
            return
        gramian, weights = self._engine.backward(losses, self._weighting)
        if way == "log" and recorder is not None:
            recorder.log(losses, gramian=gramian, weights=weights)


@contextmanager
def _prepared(problem: str) -> Iterator[tuple[Loop, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        yield Loop(WORKLOADS[problem], Path(folder)), Path(folder)


def measure_recorder(problem: str, rounds: int, steps: int | None = None) -> Report:
    """Times a training loop with and without a recorder, in turn.

    A block begins with a new recorder and ends when that is closed, so everything it does is
    counted: making the run, copies, the thread that writes, and the last flush.

    Args:
        problem: Name of a workload.
        rounds: How often each block is timed.
        steps: Steps in a block; about two seconds of them if None.

    Returns:
        For each way of recording the median of the ratios to the same loop without, and what a
        step takes in the store.

    Raises:
        MeasurementError: The number of rounds or steps is below 1.
    """
    if steps is not None and steps < 1:
        raise MeasurementError(f"got {steps} steps, expected at least 1; give more with --steps.")
    with _prepared(problem) as (loop, folder):
        ways = ["fused", "log", "watch", "sgd", "watch_gradients"]
        if steps is None:
            first = take_turns({"fused": Turn(lambda: loop.block("fused", 3), _nothing)}, 1)
            steps = ceil(3e3 * BLOCK_S / first.durations_ms["fused"][0])
        turns = {way: Turn(_bound(loop, way, steps), _nothing) for way in ways}
        taken = take_turns(turns, rounds)
        sizes = _sizes_kib(folder)
    rows, figures = [], {}
    for way in ways:
        bare = BARE.get(way, way)
        durations_ms = taken.durations_ms[way]
        step_ms = Spread.of(durations_ms).median / steps
        bare_ms = Spread.of(taken.durations_ms[bare]).median / steps
        ratio = Spread.of(ratios(durations_ms, taken.durations_ms[bare]))
        recorded = way in BARE
        rows.append(
            [
                bare,
                way if recorded else "nothing",
                number(ratio.median) if recorded else "1",
                ratio.range if recorded else "",
                number(step_ms),
                number(step_ms - bare_ms) if recorded else "",
                number(sizes[way]) if recorded else "",
                *verdict(ratio.median, LIMIT if way in LIMITED else None),
            ]
        )
        figures[way] = {"durations_ms": durations_ms, "kib_a_step": sizes.get(way)}
    return Report(
        title=f"{problem}: a training loop with a recorder ÷ the same without, blocks in turn",
        columns=COLUMNS,
        rows=rows,
        figures={problem: {"steps": steps, **figures}},
        machine=circumstances(),
        notes=[note for note in (taken.disturbance,) if note],
    )


def _bound(loop: Loop, way: str, steps: int) -> Callable[[], None]:
    return lambda: loop.block(way, steps)


def _nothing() -> None:
    """There is nothing to prepare."""


def _sizes_kib(folder: Path) -> dict[str, float]:
    """What a step takes in the store, by way of recording."""
    runs = RunStore(folder / "runs.sqlite").runs(limit=10_000)
    return {run.name: run.size_bytes / run.steps / 1024 for run in runs}
