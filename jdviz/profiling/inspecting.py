"""What is known of a problem without taking a step, read in this process."""

from engines.autogram import Engine
from engines.errors import EngineError
from jdviz.problems.base import parameter_count
from jdviz.problems.subjects import find_subject
from jdviz.profiling.machine import machine
from jdviz.profiling.results import Inspection, Use


def inspect_here(
    problem: str, size: str | None, batch_size: int | None, threads: int
) -> Inspection:
    """Builds a problem, runs its forward pass and asks the engine what it would do.

    Args:
        problem: Name of a subject.
        size: Its model size, its own default if None.
        batch_size: Samples in the batch, its own default if None.
        threads: Threads that torch may use.

    Returns:
        What was found. A model that the engine refuses is one that was inspected.

    Raises:
        ProblemError: It cannot be built.
    """
    subject = find_subject(problem)
    size = size or subject.default_size
    batch_size = batch_size or subject.default_batch
    built = subject.build(size, batch_size)
    losses = built.losses()
    uses: list[Use] = []
    refusal = ""
    try:
        plan = Engine(built.model, batch_dim=subject.batch_dim).explain(losses)
    except (EngineError, TypeError, ValueError) as error:
        refusal = str(error)
    else:
        uses = [
            Use(
                parameter=f"{use.path}.{use.parameter}".lstrip("."),
                operation=use.operation,
                rule=use.rule,
                contraction=use.contraction,
                multiply_adds=use.flops,
                workspace_bytes=use.workspace_bytes,
                predicted_ms=1e3 * use.seconds,
                reason=use.reason,
            )
            for use in plan
        ]
    met = {use.parameter for use in uses}
    trainable = [
        name for name, parameter in built.model.named_parameters() if parameter.requires_grad
    ]
    return Inspection(
        problem=problem,
        size=size,
        batch_size=batch_size,
        title=subject.title,
        summary=subject.summary,
        batch_dim=subject.batch_dim,
        sizes=dict(subject.sizes),
        default_batch=subject.default_batch,
        resizable=subject.resizable,
        objectives=losses.numel(),
        parameters=parameter_count(built.model),
        uses=uses,
        refusal=refusal,
        unused=[] if refusal else [name for name in trainable if name not in met],
        machine=machine("cpu", threads),
    )
