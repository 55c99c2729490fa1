"""Aggregates the Jacobians that were left in `.jac`."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from engines.aggregation import GramianWeightedAggregator, WeightedAggregator
from engines.autojac.accumulation import (
    add_direction,
    add_pieces,
    drop_jacobians,
    stored_jacobian,
)
from engines.autojac.checks import as_list, check_aggregator, check_direction
from engines.autojac.grouped import refuse_group
from engines.autojac.jacobian import common_dtype, flattened
from engines.linalg.gramian import column_chunks


def jac_to_grad(
    tensors: Iterable[Tensor],
    aggregator: Callable[[Tensor], Tensor],
    *,
    retain_jac: bool = False,
    optimize_gramian_computation: bool = False,
) -> Tensor | None:
    """Aggregate the Jacobians in `.jac` and add the result to `.grad`.

    Tensors without a Jacobian and frozen ones are skipped, so `model.parameters()` may be passed as
    it is. Nothing is written before the direction is known to be finite; after an exception `.jac`
    and `.grad` are as before.

    Args:
        tensors: Parameters, in the order of the columns.
        aggregator: Maps the Jacobian, shape [m, n], to a direction, shape [n]. Called as a module,
            so that its hooks and those of its weighting run.
        retain_jac: Whether `.jac` stays. It is deleted by default, as it would be added to.
        optimize_gramian_computation: Add up the Gramians of the tensors' Jacobians instead of
            writing these side by side. Prefer it where memory is short. It needs a
            `GramianWeightedAggregator`; hooks of its `gramian_weighting` run, and it may have no
            others, as the matrix that they are given does not exist.

    Returns:
        The weights, shape [m], of a `WeightedAggregator`; None for another aggregator.

    Raises:
        TypeError: A tensor is something else, the aggregator cannot be called or returns no
            tensor, or `.jac` holds no tensor.
        ValueError: No tensor has a Jacobian, one is repeated, the numbers of rows differ, a
            Jacobian or the direction has a wrong shape, or the Gramian alone does not suffice.
        NonFiniteGradientError: The direction is NaN or infinite.
        UnsupportedGroupError: The default group of torch.distributed has several ranks.

    Example:
        >>> import torch
        >>> from engines.aggregation import Mean
        >>> from engines.autojac import backward, jac_to_grad
        >>> model = torch.nn.Linear(3, 2)
        >>> backward(model(torch.randn(8, 3)).square().mean(0))
        >>> jac_to_grad(model.parameters(), Mean())
        tensor([0.5000, 0.5000])
        >>> model.weight.grad.shape
        torch.Size([2, 3])

    Cost: m·n elements for the matrix beside the m·n of `.jac`, unless there is one tensor only;
        what the aggregator needs. With `optimize_gramian_computation`, m² + 2n elements, among
        them the direction and the gradients, and m²n multiply-adds.
    """
    refuse_group("jac_to_grad")
    check_aggregator(aggregator)
    owners, jacobians = _collect(tensors)
    weights: Tensor | None
    if optimize_gramian_computation:
        pieces, weights = _combine_blocks(jacobians, _of_gramian(aggregator))
        for piece, jacobian in zip(pieces, jacobians, strict=True):
            check_direction(piece, tuple(jacobian.shape[1:]))
        add_pieces(owners, pieces)
    else:
        matrix = _side_by_side(jacobians)
        direction, weights = _aggregate(matrix, aggregator)
        check_direction(direction, tuple(matrix.shape[1:]))
        del matrix  # before gradients are made
        add_direction(owners, direction.detach())
    if not retain_jac:
        drop_jacobians(owners)
    return weights


def _collect(tensors: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors that have a Jacobian, and their Jacobians as matrices, shape [m, columns]."""
    given = as_list(tensors, "tensor")
    if len({id(tensor) for tensor in given}) < len(given):
        raise ValueError("got a tensor twice, expected distinct tensors; pass each one once.")
    owners: list[Tensor] = []
    jacobians: list[Tensor] = []
    for position, tensor in enumerate(given):
        jacobian = stored_jacobian(tensor) if tensor.requires_grad else None
        if jacobian is None:
            continue
        if jacobians and len(jacobian) != len(jacobians[0]):
            raise ValueError(
                f"got .jac with {len(jacobian)} rows at position {position}, expected "
                f"{len(jacobians[0])} as in those before; aggregate what one backward left before "
                "the next one."
            )
        owners.append(tensor)
        jacobians.append(flattened(jacobian))
    if not owners:
        raise ValueError(
            f"got {len(given)} tensor(s), none of which has .jac, expected at least one that has; "
            "call backward or mtl_backward without an aggregator first."
        )
    return owners, jacobians


def _side_by_side(jacobians: Sequence[Tensor]) -> Tensor:
    """One matrix of several, shape [m, n], in the widest dtype; a single one is not copied."""
    if len(jacobians) == 1:
        return jacobians[0]
    first = jacobians[0]
    width = sum(jacobian.shape[1] for jacobian in jacobians)
    matrix = torch.empty(len(first), width, dtype=common_dtype(jacobians), device=first.device)
    parts = matrix.split([jacobian.shape[1] for jacobian in jacobians], dim=1)
    for part, jacobian in zip(parts, jacobians, strict=True):
        part.copy_(jacobian)
    return matrix


def _aggregate(
    matrix: Tensor, aggregator: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor | None]:
    """The direction, and the weights if there are any."""
    if not isinstance(aggregator, WeightedAggregator):
        return aggregator(matrix), None
    caught: list[Tensor] = []

    def catch(_module: nn.Module, _inputs: object, weights: Tensor) -> None:
        caught.append(weights)

    # Registered last, so it sees what earlier hooks made of the weights.
    handle = aggregator.weighting.register_forward_hook(catch)
    try:
        direction = aggregator(matrix)
    finally:
        handle.remove()
    return direction, caught[-1].detach() if caught else None


def _of_gramian(aggregator: object) -> GramianWeightedAggregator:
    """The aggregator, if nothing but the Gramian is needed to apply it."""
    if not isinstance(aggregator, GramianWeightedAggregator):
        raise ValueError(
            f"got optimize_gramian_computation=True with {type(aggregator).__name__}, expected a "
            "GramianWeightedAggregator, whose weights depend on the Gramian only; leave the "
            "option out."
        )
    hooked = (aggregator, aggregator.weighting)
    if any(module._forward_hooks or module._forward_pre_hooks for module in hooked):
        raise ValueError(
            "got optimize_gramian_computation=True with a forward hook on the aggregator or its "
            "weighting, expected none, as the matrix that it is given is never made; register it "
            "on gramian_weighting, or leave the option out."
        )
    return aggregator


def _combine_blocks(
    jacobians: Sequence[Tensor], aggregator: GramianWeightedAggregator
) -> tuple[list[Tensor], Tensor]:
    """Combine the rows of blocks [m, columns] with the weights of the sum of their Gramians."""
    m = len(jacobians[0])
    gramian = torch.zeros(m, m, dtype=torch.float64, device=jacobians[0].device)
    for jacobian in jacobians:
        for chunk in column_chunks(jacobian):
            # Not compute_gramian: what it scales for range, it scales block by block.
            wide = chunk.to(gramian)
            gramian += wide @ wide.T
    weights = aggregator.gramian_weighting(gramian).detach()
    return [aggregator.combine(jacobian, weights) for jacobian in jacobians], weights
