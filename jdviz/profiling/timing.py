"""Durations of several methods on one model, in turn and in this process."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from jdviz.problems.subjects import find_subject
from jdviz.profiling.machine import machine
from jdviz.profiling.results import Times
from jdviz.profiling.spec import PEERS, SGD, MeasurementError, MeasureSpec
from jdviz.profiling.steps import MeasuredStep
from jdviz.profiling.turns import Taken, Turn, take_turns

# Its weights are those of the plain step, so all gradients should be the same.
UNIFORM = "Mean"


def time_here(specs: Sequence[MeasureSpec], rounds: int | None) -> Times:
    """Times one step by each method, turn by turn.

    Args:
        specs: Valid ones that differ in their method only.
        rounds: As for `take_turns`.

    Returns:
        Durations, errors and failures. A method that fails leaves the others alone.

    Raises:
        MeasurementError: The plain step failed.
        ProblemError: The problem cannot be built.
    """
    first = specs[0]
    torch.set_num_threads(first.threads)
    subject = find_subject(first.problem)
    m = subject.objectives(first.batch_size)
    built = subject.build(first.size, first.batch_size, first.seed, first.device)
    steps: dict[str, MeasuredStep] = {}
    failures: dict[str, str] = {}
    for spec in specs:
        own = built
        # The peer's engine leaves hooks on its model.
        if spec.method in PEERS:
            own = subject.build(spec.size, spec.batch_size, spec.seed, spec.device)
        try:
            steps[spec.method] = MeasuredStep(spec, own, subject.batch_dim, m)
        except MeasurementError as error:
            failures[spec.method] = str(error)
    errors, failed = _probe(steps)
    failures |= failed
    turns = {
        method: Turn(step.run, step.clear)
        for method, step in steps.items()
        if method not in failures
    }
    taken = take_turns(turns, rounds, first.device) if turns else Taken({}, None)
    return Times(
        specs=list(specs),
        durations_ms=taken.durations_ms,
        errors=errors if first.aggregator == UNIFORM else {},
        failures=failures,
        waited_share=taken.waited_share,
        disturbed=taken.disturbance,
        machine=machine(first.device, first.threads),
    )


def sentence(error: BaseException) -> str:
    """An exception in one line.

    Args:
        error: Whatever a step ended in.

    Returns:
        Its type and the first line of its message.
    """
    message = str(error).strip().splitlines()
    first = message[0].rstrip(" :;,") if message else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _probe(steps: Mapping[str, MeasuredStep]) -> tuple[dict[str, float], dict[str, str]]:
    """Runs every step once and compares its gradients with those of the plain step.

    Returns:
        Relative Frobenius errors, and for the steps that failed why they did.
    """
    errors: dict[str, float] = {}
    failures: dict[str, str] = {}
    plain: list[Tensor | None] | None = None
    for name in sorted(steps, key=lambda name: name != SGD):
        step = steps[name]
        step.clear()
        # The same dropout for all, in a process of their own.
        torch.manual_seed(0)
        try:
            step.run()
        except Exception as error:  # whatever it is: the other methods are still of interest
            failures[name] = f"failed with {sentence(error)}"
            if name == SGD:
                raise MeasurementError(f"The plain step {failures[name]}.", "step") from error
            continue
        gradients = [parameter.grad for parameter in step.model.parameters()]
        if name == SGD:
            plain = gradients
        if plain is None:
            continue
        distance = _distance(gradients, plain)
        if math.isfinite(distance):
            errors[name] = distance
        elif SGD in errors:
            failures[name] = "left gradients that are not finite, unlike the plain step"
    for step in steps.values():
        step.clear()
    return errors, failures


def _distance(gradients: list[Tensor | None], plain: list[Tensor | None]) -> float:
    """Relative Frobenius error over all parameters; a missing gradient counts as zero."""
    off = whole = 0.0
    for found, expected in zip(gradients, plain, strict=True):
        if found is None and expected is None:
            continue
        one = torch.zeros(()) if found is None else found.detach()
        other = torch.zeros(()) if expected is None else expected.detach()
        off += float((one.to(other.device) - other).double().square().sum())
        whole += float(other.double().square().sum())
    return float((off / whole) ** 0.5) if whole else float(off > 0)
