"""One rank of a measurement: reads a request, measures beside the other ranks, writes one answer.

Request, one line of JSON: `rank`, `ranks`, `port`, `device`, `threads`, `problem`, `size`,
`batch_size`, `rounds` (or null) and `timeout_s`. Answer, one line: what `Measured.to_dict` gives,
or `{"error": ..., "at_s": ...}` with the time on the system's monotonic clock. The request's stream
stays open; when it ends, the parent is gone and the rank ends too.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from benchmarks.link import measure_link
from benchmarks.sockets import sent_bytes
from engines.aggregation import MeanWeighting
from engines.autogram import Engine
from jdviz.problems.subjects import Built, Subject, find_subject
from jdviz.profiling import SGD
from jdviz.profiling.events import peak_bytes
from jdviz.profiling.requests import answer_request
from jdviz.profiling.timing import sentence
from jdviz.profiling.turns import Turn, take_turns

FUSED, FUSED_DDP = "fused", "fused, DDP"
#: Of one rank without the others, so that one sees what these add.
SGD_ALONE, FUSED_ALONE = "sgd, alone", "fused, alone"
STEPS: tuple[str, ...] = (SGD, FUSED, FUSED_DDP, SGD_ALONE, FUSED_ALONE)
#: Steps of which what crosses the network is counted together.
COUNTED = 5

Step = Callable[[], object]


@dataclass(frozen=True)
class Measured:
    """What one rank found.

    Attributes:
        durations_ms: One value for each round, by step.
        waited_share: As `jdviz.profiling.turns.Taken` has it.
        gradient_errors: Relative Frobenius distance of each step's gradient from the first's.
        sent_bytes: What this rank handed to its connections in one step, by step; None where the
            system does not tell.
        closed_form_bytes: What the engine says that all ranks together sent in one step, by step.
        peak_bytes: The most that was allocated at once in one step, by step.
        uses: How each use of a parameter is exchanged: `parameter`, `contraction`, `travels`,
            `sent_bytes`.
        latency_s: Of a small message to the next rank; None without one.
        link_bytes_per_s: Sent to it by all ranks at once, each; None without one.
    """

    durations_ms: dict[str, list[float]]
    waited_share: float | None
    gradient_errors: dict[str, float]
    sent_bytes: dict[str, float | None]
    closed_form_bytes: dict[str, int]
    peak_bytes: dict[str, int]
    uses: list[dict[str, Any]]
    latency_s: float | None = None
    link_bytes_per_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """In a form that JSON can hold."""
        return asdict(self)


class Losses(nn.Module):
    """A model together with its batch, so that a wrapper sees one forward pass.

    Args:
        built: Both.
    """

    def __init__(self, built: Built) -> None:
        super().__init__()
        self.model = built.model
        self._losses = built.losses

    def forward(self) -> Tensor:
        """The losses of the batch, shape [m]."""
        return self._losses()


class Ranks:
    """The steps of this rank, ready to be taken in turn with those of the other ranks.

    Every rank has a batch of its own, drawn with its number as the seed, and the parameters of the
    first rank.

    Args:
        subject: What is measured.
        size: Name of its model size.
        batch_size: Samples of each rank.
        device: Of this rank.
    """

    def __init__(self, subject: Subject, size: str, batch_size: int, device: torch.device) -> None:
        rank, ranks = distributed.get_rank(), distributed.get_world_size()
        plain = Losses(subject.build(size, batch_size, rank, str(device)))
        for tensor in plain.state_dict().values():
            distributed.broadcast(tensor, 0)
        # A wrapper sends the parameters of the first rank to the others by itself.
        sgd, wrapped = (
            DistributedDataParallel(Losses(subject.build(size, batch_size, rank, str(device))))
            for _ in range(2)
        )
        groups = [distributed.new_group([one]) for one in range(ranks)]
        self.engines = {
            FUSED: Engine(plain, batch_dim=subject.batch_dim),
            FUSED_DDP: Engine(wrapped, batch_dim=subject.batch_dim),
            FUSED_ALONE: Engine(plain, batch_dim=subject.batch_dim, process_group=groups[rank]),
        }
        self.models: dict[str, nn.Module] = {
            SGD: sgd,
            FUSED: plain,
            FUSED_DDP: wrapped,
            SGD_ALONE: plain,
            FUSED_ALONE: plain,
        }

    def step(self, name: str) -> Step:
        """One step up to the gradients.

        Args:
            name: One of `STEPS`.

        Returns:
            What takes it.
        """
        model = self.models[name]
        if name in (SGD, SGD_ALONE):
            return lambda: model().mean().backward()
        engine, weighting = self.engines[name], MeanWeighting()
        return lambda: engine.backward(model(), weighting)

    def clear(self, name: str) -> None:
        """Removes the gradients that a step leaves.

        Args:
            name: One of `STEPS`.
        """
        self.models[name].zero_grad(set_to_none=True)

    def turn(self, name: str) -> Turn:
        """A step to be timed, begun by all ranks at once.

        Args:
            name: One of `STEPS`.

        Returns:
            The step; what prepares it waits for the other ranks.
        """

        def prepare() -> None:
            self.clear(name)
            distributed.barrier()

        return Turn(self.step(name), prepare)

    def gradient(self, name: str) -> Tensor:
        """What a step leaves in `.grad`, as one vector of shape [n]; nothing counts as zero.

        Args:
            name: One of `STEPS`.

        Returns:
            The gradient in float64.
        """
        self.clear(name)
        self.step(name)()
        return torch.cat(
            [
                (torch.zeros_like(p) if p.grad is None else p.grad.to_dense()).double().flatten()
                for p in self.models[name].parameters()
            ]
        )

    def sent(self, name: str) -> float | None:
        """Counts what this rank sends in a step.

        Args:
            name: One of `STEPS`.

        Returns:
            Bytes; None where the system does not tell.
        """
        step = self.step(name)

        def several() -> None:
            for _ in range(COUNTED):
                self.clear(name)
                step()

        # What the two barriers around them send is no part of the steps.
        idle, busy = (_sent_by(run) for run in (lambda: None, several))
        return None if idle is None or busy is None else (busy - idle) / COUNTED

    def peak_bytes(self, name: str) -> int:
        """Counts what a step allocates at most at once, new gradients included.

        Args:
            name: One of `STEPS`.

        Returns:
            Bytes.
        """
        step = self.step(name)
        self.clear(name)
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            step()
            return torch.cuda.max_memory_allocated() - before
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
            step()
        return peak_bytes(prof)

    def uses(self) -> list[dict[str, Any]]:
        """How the engine exchanges each use of a parameter, in a form that JSON can hold."""
        losses = self.models[FUSED]()
        return [
            {
                "parameter": ".".join(part for part in (use.path, use.parameter) if part),
                "contraction": use.contraction,
                "travels": use.travels,
                "sent_bytes": use.sent_bytes,
            }
            for use in self.engines[FUSED].explain(losses)
        ]


def _sent_by(run: Step) -> int | None:
    """Bytes that this process sends while it runs something, and in a barrier after it."""
    distributed.barrier()
    before = sent_bytes()
    run()
    distributed.barrier()
    after = sent_bytes()
    return None if before is None or after is None else after - before


def _slowest(duration_ms: float, device: torch.device) -> float:
    """What a duration was on the slowest rank, so that all ranks decide alike."""
    value = torch.tensor(duration_ms, dtype=torch.float64, device=device)
    distributed.all_reduce(value, distributed.ReduceOp.MAX)
    return float(value)


def measure_rank(
    problem: str, size: str, batch_size: int, rounds: int | None, device: torch.device
) -> Measured:
    """Measures the steps of this rank; every rank of the default group calls it.

    Args:
        problem: Key of `SUBJECTS`, or `package.module:factory`.
        size: Name of one of its model sizes.
        batch_size: Samples of each rank.
        rounds: As for `take_turns`.
        device: Of this rank.

    Returns:
        What was measured.
    """
    ranks = Ranks(find_subject(problem), size, batch_size, device)
    plain = ranks.gradient(SGD)
    errors = {
        name: float((ranks.gradient(name) - plain).norm() / plain.norm())
        for name in (FUSED, FUSED_DDP)
    }
    taken = take_turns(
        {name: ranks.turn(name) for name in STEPS},
        rounds,
        device.type,
        agree=lambda duration_ms: _slowest(duration_ms, device),
    )
    link = measure_link(device)
    closed: dict[str, int] = {}
    sent = {name: ranks.sent(name) for name in (SGD, FUSED, FUSED_DDP)}
    for name in (FUSED, FUSED_DDP):
        exchange = ranks.engines[name].exchange
        closed[name] = 0 if exchange is None else exchange.sent_bytes
    if device.type == "cuda":
        # What travels between the GPUs of one machine does not pass through its sockets.
        sent = dict.fromkeys(sent)
    return Measured(
        taken.durations_ms,
        taken.waited_share,
        errors,
        sent,
        closed,
        {name: ranks.peak_bytes(name) for name in STEPS},
        ranks.uses(),
        *(link or ()),
    )


def _join(request: dict[str, Any]) -> torch.device:
    """Joins the group that the parent keeps the addresses of.

    Returns:
        The device of this rank.
    """
    torch.set_num_threads(request["threads"])
    rank, limit = request["rank"], timedelta(seconds=request["timeout_s"])
    store = distributed.TCPStore("127.0.0.1", request["port"], is_master=False, timeout=limit)
    device = torch.device("cpu")
    if request["device"] == "cuda":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=request["ranks"],
        timeout=limit,
    )
    return device


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """What this rank found, or why it found nothing."""
    try:
        device = _join(request)
        found = measure_rank(
            request["problem"], request["size"], request["batch_size"], request["rounds"], device
        )
        return found.to_dict()
    except Exception as error:  # the parent turns whatever happened into a sentence
        return {"error": sentence(error), "at_s": time.monotonic()}


def main() -> None:
    """Reads the request from standard input and writes the answer to standard output."""
    found = answer_request(_answer)
    # Leaves at once: a group with a rank that failed cannot be taken down in order.
    os._exit(1 if "error" in found else 0)


if __name__ == "__main__":
    main()
