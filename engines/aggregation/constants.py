"""Results that a solver outside autograd computed, and what differentiating them does."""

from typing import Any

import torch
from torch import Tensor

from engines.errors import NonDifferentiableError


def outside_autograd(result: Tensor, source: Tensor, name: str) -> Tensor:
    """Tie a result to what it was computed from, by a backward pass that raises.

    A gradient that ignored the solver would be wrong in silence.

    Args:
        result: What was computed, outside autograd.
        source: What it was computed from.
        name: Of the method, for the message.

    Returns:
        The result; with a backward pass that raises `NonDifferentiableError` where the source
        requires gradients and grad mode is on.
    """
    if source.requires_grad and torch.is_grad_enabled():
        tied: Tensor = _OutsideAutograd.apply(result, source, name)
        return tied
    return result


class _OutsideAutograd(torch.autograd.Function):
    """The identity in the first argument, with a backward pass that raises."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, source: Tensor, name: str) -> Tensor:
        ctx.name = name
        return result.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise NonDifferentiableError(
            f"got a backward pass through the result of {ctx.name}, expected it to be used as "
            "a constant, detach the Jacobian or the Gramian first."
        )
