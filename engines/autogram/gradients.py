"""Writes weighted gradients to `.grad`, through autograd, once all are known to be finite."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.autograd.graph import _engine_run_backward

from engines.autogram.objectives import Objectives
from engines.errors import NonFiniteGradientError

_HALF = (torch.float16, torch.bfloat16)


class _Deposit(torch.autograd.Function):
    """A node whose backward hands out gradients that were computed before.

    So autograd itself accumulates them: hooks on parameters run, data-parallel reducers see them,
    and a parameter without `.grad` takes the tensor over without a copy.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, box: list[tuple[Tensor, ...]], *parameters: Tensor) -> Tensor:
        ctx.box = box  # type: ignore[attr-defined]  # a context is where functions keep things
        return torch.zeros((), dtype=parameters[0].dtype, device=parameters[0].device)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        return (None, *ctx.box.pop())


def deposit(parameters: Sequence[Tensor], gradients: list[Tensor]) -> None:
    """Accumulate gradients as autograd does.

    Args:
        parameters: Leaves, each once.
        gradients: One for each, of its shape, dtype and device; the list is emptied.
    """
    if not parameters:
        return
    box = [tuple(gradients)]
    gradients.clear()
    with torch.enable_grad():
        anchor = _Deposit.apply(box, *parameters)
        _engine_run_backward(
            (anchor,),
            (anchor.detach(),),
            False,
            False,
            (),
            allow_unreachable=True,
            accumulate_grad=True,
        )


def differentiate_rest(
    output: Tensor,
    weights: Tensor,
    leaves: Sequence[Tensor],
    *,
    retain_graph: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Differentiate the weighted sum with respect to leaves that no rule served.

    Args:
        output: The objectives.
        weights: Their weights, in its shape.
        leaves: What they are differentiated with respect to.
        retain_graph: Whether the graph outlives the pass.

    Returns:
        Leaves whose gradient was found, the gradients, and leaves with hooks of their own. Those
        are left to autograd as a whole, which runs a hook exactly once for each accumulation; that
        their gradients are finite is known.

    Raises:
        NonFiniteGradientError: A gradient is NaN or infinite.
    """
    hooked = [leaf for leaf in leaves if leaf._backward_hooks]
    plain = [leaf for leaf in leaves if not leaf._backward_hooks]
    if hooked:
        tried = torch.autograd.grad(output, hooked, weights, retain_graph=True, allow_unused=True)
        refuse_non_finite([gradient for gradient in tried if gradient is not None])
        hooked = [h for h, gradient in zip(hooked, tried, strict=True) if gradient is not None]
        del tried
    if not plain:
        return [], [], hooked
    found = torch.autograd.grad(
        output, plain, weights, retain_graph=retain_graph or bool(hooked), allow_unused=True
    )
    reached = [leaf for leaf, g in zip(plain, found, strict=True) if g is not None]
    gradients = [gradient for gradient in found if gradient is not None]
    refuse_non_finite(gradients)
    return reached, gradients, hooked


def refuse_non_finite(gradients: Sequence[Tensor]) -> None:
    """Raise if a gradient has an entry that is NaN or infinite.

    Args:
        gradients: Tensors, dense or sparse.

    Raises:
        NonFiniteGradientError: One has.
    """
    dense = [g.coalesce().values() if g.layout == torch.sparse_coo else g for g in gradients]
    real = [torch.view_as_real(g.resolve_conj()) if g.is_complex() else g for g in dense]
    filled = [g for g in real if g.numel()]
    if not filled:
        return
    device = filled[0].device
    norms = [norm.double().to(device) for norm in torch._foreach_norm(filled, math.inf)]
    if not bool(torch.stack(norms).isfinite().all()):
        raise NonFiniteGradientError(
            "got a weighted gradient that is NaN or infinite, expected finite gradients; no .grad "
            "was touched: skip this step, and with a GradScaler lower its scale."
        )


def refuse_non_finite_gramian(gramian: Tensor, weights: Tensor, objectives: Objectives) -> None:
    """Raise if inner products or weights say that a weighted gradient would not be finite.

    Entries of a weighted gradient are at most as large as its norm, whose square is wᵀGw: where
    that is finite, so are they.

    Args:
        gramian: Shape [m, m].
        weights: Shape [m], in its dtype.
        objectives: The numbering of rows and columns.

    Raises:
        NonFiniteGradientError: Naming the objectives.
    """
    # NaN and infinity of any entry survive a sum, so one look is enough.
    if math.isfinite(torch.addmv(gramian.sum(0), gramian, weights).dot(weights)):
        return
    wide, factors = gramian.double(), weights.double()
    if bool(wide.isfinite().all()) and math.isfinite(factors @ wide @ factors):
        return  # only the sums left the range
    numbers = (~gramian.diagonal().isfinite()).nonzero().flatten()
    rows = sorted((numbers if objectives.order is None else objectives.order[numbers]).tolist())
    where = f"the gradients of objectives {_listed(rows)}" if rows else "weights"
    raise NonFiniteGradientError(
        f"got NaN or infinity in {where}, expected finite numbers; no .grad was touched: skip this "
        "step, and with a GradScaler lower its scale."
    )


def _listed(rows: list[int], most: int = 8) -> str:
    """Numbers in a sentence."""
    shown = ", ".join(map(str, rows[:most]))
    return f"{shown} and {len(rows) - most} more" if len(rows) > most else shown


def as_gradient(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Bring a weighted gradient into the form of a parameter's `.grad`.

    Args:
        parameter: The parameter.
        gradient: Its entries in any shape, dtype and on any device.

    Returns:
        The gradient, in the parameter's shape, dtype and on its device.

    Raises:
        NonFiniteGradientError: It does not fit into the range of a half-precision dtype.
    """
    if gradient.layout == torch.strided and gradient.shape != parameter.shape:
        gradient = gradient.view(parameter.shape)
    if gradient.dtype == parameter.dtype and gradient.device == parameter.device:
        return gradient
    cast = gradient.to(parameter)
    if parameter.dtype in _HALF:
        refuse_non_finite([cast])
    return cast
