"""`explain`: what the engine would do with every use of a parameter, and what it takes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bounds import explained_uses, predicted_ms
from benchmarks.cases import Case
from benchmarks.report import Report, circumstances
from engines.autogram import Engine
from engines.autogram.explanation import UsePlan
from jdviz.problems.subjects import Built
from jdviz.profiling import MeasurementError
from jdviz.profiling.turns import Spread, Turn, number, take_turns

MEBIBYTE = 2**20
GRAMIAN, PASS = "compute_gramian", "input-gradient pass"


COLUMNS = [
    "problem",
    "parameter",
    "operation",
    "rule",
    "contraction",
    "multiply-adds",
    "cheapest alternative",
    "workspace MiB",
    "predicted ms",
    "measured ms",
    "why",
]


def measure_explanation(cases: Sequence[Case], rounds: int | None) -> Report:
    """Print the engine's plan, and time all contractions together.

    What they take is `compute_gramian` minus the backward pass to the result of the first module
    with parameters, all parameters being frozen: the pass that any Gramian needs. Where objectives
    are tasks there are as many such passes as tasks, and nothing is timed.

    Args:
        cases: What is explained; one device for all.
        rounds: As for `take_turns`.

    Returns:
        One line for each use, and for each case the total, predicted beside measured.

    Raises:
        MeasurementError: A case or the number of rounds is not valid, or the engine refuses the
            model.
    """
    rows: list[list[str]] = []
    notes: list[str] = []
    figures = {}
    for case in cases:
        subject, built = case.build()
        uses = explained_uses(built, subject.batch_dim)
        durations_ms: dict[str, list[float]] = {}
        if subject.batch_dim is not None:
            _, other = case.build()
            turns = {GRAMIAN: _gramian(built), PASS: _input_pass(other)}
            taken = take_turns(turns, rounds, case.device)
            durations_ms = taken.durations_ms
            notes += [f"{case.name}: {taken.disturbance}"] if taken.disturbance else []
        rows += [[case.name, *_cells(use)] for use in uses]
        rows.append(_total(case, uses, durations_ms))
        figures[case.name] = {
            "uses": [_figures(use) for use in uses],
            "predicted_ms": predicted_ms(uses),
            "gramian_ms": durations_ms.get(GRAMIAN, []),
            "input_pass_ms": durations_ms.get(PASS, []),
        }
    return Report(
        title="How every use of a parameter is contracted; measured is compute_gramian minus the "
        "input-gradient pass",
        columns=COLUMNS,
        rows=rows,
        figures=figures,
        machine=circumstances(cases[0].device),
        notes=notes,
    )


def _total(case: Case, uses: Sequence[UsePlan], durations_ms: dict[str, list[float]]) -> list[str]:
    """All uses of a case together as text."""
    timed = ["", ""]
    if durations_ms:
        pairs = zip(durations_ms[GRAMIAN], durations_ms[PASS], strict=True)
        measured = Spread.of([whole - part for whole, part in pairs])
        timed = [number(measured.median), f"quartiles {measured.range} ms"]
    return [
        case.name,
        "all contractions",
        *[""] * 3,
        f"{sum(use.flops for use in uses):,}",
        "",
        number(max((use.workspace_bytes for use in uses), default=0) / MEBIBYTE),
        number(predicted_ms(uses)),
        *timed,
    ]


def _cells(use: UsePlan) -> list[str]:
    """One use as text."""
    others = sorted(use.alternatives, key=lambda alternative: int(alternative[1]))
    return [
        ".".join(part for part in (use.path, use.parameter) if part),
        use.operation,
        use.rule,
        use.contraction,
        f"{use.flops:,}",
        f"{others[0][1]:,} {others[0][0]}" if others else "–",
        number(use.workspace_bytes / MEBIBYTE),
        number(1e3 * use.seconds),
        "",
        use.reason,
    ]


def _figures(use: UsePlan) -> dict[str, Any]:
    """One use, ready for JSON."""
    return {
        "parameter": ".".join(part for part in (use.path, use.parameter) if part),
        "operation": use.operation,
        "rule": use.rule,
        "contraction": use.contraction,
        "multiply_adds": use.flops,
        "workspace_bytes": use.workspace_bytes,
        "predicted_ms": predicted_ms([use]),
        "alternatives": [
            {"contraction": name, "multiply_adds": flops} for name, flops in use.alternatives
        ],
    }


def _gramian(built: Built) -> Turn:
    """The engine's part of a two-pass step; the forward before it does not count."""
    engine = Engine(built.model, batch_dim=0)
    return _after_forward(built.losses, engine.compute_gramian)


def _input_pass(built: Built) -> Turn:
    """Backward of the frozen model down to the result of its first module with parameters."""
    built.model.requires_grad_(False)
    first: list[Tensor] = []

    def begin(_module: nn.Module, _inputs: object, output: Any) -> Any:
        if first or not isinstance(output, Tensor) or not output.is_floating_point():
            return None
        first.append(output.detach().requires_grad_())
        return first[0]

    for module in built.model.modules():
        leaf = not any(True for _ in module.children())
        if leaf and any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(begin)

    def losses() -> Tensor:
        first.clear()
        return built.losses()

    def differentiate(losses: Tensor) -> object:
        if not first:
            raise MeasurementError(
                "got a model without a module that owns parameters and returns a tensor, expected "
                "one; the input-gradient pass of this workload cannot be timed."
            )
        return torch.autograd.grad(losses.sum(), first[0])

    return _after_forward(losses, differentiate)


def _after_forward(forward: Callable[[], Tensor], run: Callable[[Tensor], object]) -> Turn:
    """What runs on losses that were computed before the clock started."""
    held: list[Tensor] = []

    def prepare() -> None:
        held[:] = [forward()]

    return Turn(lambda: run(held[0]), prepare)
