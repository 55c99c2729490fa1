"""The least that a step with a Gramian can cost, in multiply-adds, beside a plain step."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from engines.autogram import Engine
from engines.autogram.explanation import UsePlan
from engines.errors import EngineError
from jdviz.problems.subjects import Built
from jdviz.profiling import MeasurementError
from jdviz.profiling.timing import sentence


@dataclass(frozen=True)
class Bound:
    """Multiply-adds of a step and of the contractions that a Gramian adds to it.

    Attributes:
        sgd_multiply_adds: Forward and backward of the plain step.
        contraction_multiply_adds: Of every use of a parameter, in the cheaper closed form.
        predicted_ms: What the engine expects contractions and weighted gradients to take.
    """

    sgd_multiply_adds: int
    contraction_multiply_adds: int
    predicted_ms: float

    @property
    def ratio(self) -> float:
        """Step with contractions ÷ plain step, in multiply-adds."""
        return 1 + self.contraction_multiply_adds / self.sgd_multiply_adds


def closed_form(built: Built, batch_dim: int | None) -> Bound:
    """Count the multiply-adds of a step and of its contractions.

    Args:
        built: Model and batch.
        batch_dim: Dimension of the losses that indexes samples, None where objectives are tasks.

    Returns:
        The counts; only products are counted, neither activations nor normalisations.

    Raises:
        MeasurementError: The engine refuses the model.
    """
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        built.losses().mean().backward()
    built.model.zero_grad(set_to_none=True)
    uses = explained_uses(built, batch_dim)
    # Uses that are contracted together say it at the first; the others cost nothing more.
    cheapest = sum(min([use.flops, *(flops for _, flops in use.alternatives)]) for use in uses)
    # The counter takes a multiply-add for two operations.
    return Bound(counter.get_total_flops() // 2, cheapest, predicted_ms(uses))


def explained_uses(built: Built, batch_dim: int | None) -> tuple[UsePlan, ...]:
    """Ask the engine for its plan.

    Args:
        built: Model and batch.
        batch_dim: As for `closed_form`.

    Returns:
        What `Engine.explain` gives.

    Raises:
        MeasurementError: The engine refuses the model.
    """
    try:
        return Engine(built.model, batch_dim=batch_dim).explain(built.losses())
    except (EngineError, TypeError, ValueError, MemoryError) as error:
        raise MeasurementError(
            f"The engine refuses the model: {sentence(error).rstrip('.: ')}."
        ) from error


def predicted_ms(uses: Sequence[UsePlan]) -> float:
    """Add up what the engine expects contractions and weighted gradients to take.

    Args:
        uses: Some of what `Engine.explain` gives.

    Returns:
        Milliseconds; the general path is not in it.
    """
    return 1e3 * sum(use.seconds for use in uses)


def _convolution_backward(
    output: Sequence[int], inputs: Sequence[int], weight: Sequence[int], *rest: Any, **_: Any
) -> int:
    """Operations of a convolution's backward.

    Torch's own formula takes a grouped convolution for a full one.
    """
    transposed, wanted = rest[4], rest[7]
    batch, _channels, *positions = inputs if transposed else output
    return 2 * batch * prod(positions) * prod(weight) * (bool(wanted[0]) + bool(wanted[1]))


def _attention(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    """Operations of attention on the CPU, which torch's counter does not know."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _attention_backward(
    _output: Sequence[int],
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    *_: Any,
    **__: Any,
) -> int:
    """Operations of its backward: two products for each of the forward, no recomputation."""
    return 2 * _attention(query, key, value)


# For `FlopCounterMode`: what its own registry counts wrongly or not at all.
FORMULAS = {
    torch.ops.aten.convolution_backward: _convolution_backward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
