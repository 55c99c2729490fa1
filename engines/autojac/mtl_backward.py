"""Jacobian descent where tasks share features and have parameters of their own."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from engines.autojac.accumulation import (
    add_direction,
    add_gradient,
    add_jacobians,
    check_room_for_jacobians,
)
from engines.autojac.checks import (
    as_cotangents,
    as_tensors,
    check_aggregator,
    check_chunk_size,
    check_direction,
)
from engines.autojac.grouped import refuse_group
from engines.autojac.jacobian import build_jacobian, build_jacobians
from engines.autojac.tasks import (
    check_finite_gradients,
    check_scalars,
    differentiate_tasks,
    read_tasks,
)


def mtl_backward(
    losses: Sequence[Tensor],
    features: Sequence[Tensor] | Tensor,
    aggregator: Callable[[Tensor], Tensor] | None = None,
    tasks_params: Sequence[Iterable[Tensor]] | None = None,
    shared_params: Iterable[Tensor] | None = None,
    retain_graph: bool = False,
    parallel_chunk_size: int | None = None,
    *,
    grad_tensors: Sequence[Tensor] | None = None,
) -> None:
    """Differentiate the losses of several tasks that are computed from shared features.

    Parameters of a task receive the gradient of its loss in `.grad`; several tasks may have some in
    common, which receive the sum. Shared parameters receive the direction that the aggregator makes
    of the Jacobian of all losses, or the Jacobian itself in `.jac`. Nothing is written before
    everything is known, and with an aggregator before everything is known to be finite.

    Args:
        losses: One scalar for each of the m tasks. A loss that the features do not reach gives a
            row of zeros.
        features: What the tasks share: one tensor or several, none of them a leaf.
        aggregator: Maps the Jacobian, shape [m, n], to a direction, shape [n], for `.grad`. With
            None, the Jacobian is added to `.jac` of the shared parameters, for `jac_to_grad`.
        tasks_params: Parameters of each task, those that require no grad skipped. By default the
            leaves that its loss reaches without passing through the features.
        shared_params: Parameters that the tasks share, those that require no grad skipped. By
            default the leaves that the features reach.
        retain_graph: Whether the graph outlives the call.
        parallel_chunk_size: Losses differentiated at once below the features; as in `backward`.
        grad_tensors: What multiplies the losses, one of its shape for each; losses that are not
            scalar need it. By default 1.

    Raises:
        TypeError: A loss, a feature or a parameter is no tensor, a loss or one of `grad_tensors`
            is complex, the aggregator cannot be called or returns no tensor, or the chunk size is
            no integer.
        ValueError: There is no loss or no feature, one is repeated, a loss is no scalar and there
            are no `grad_tensors`, the numbers of losses and of `tasks_params` differ, a parameter
            is both shared and of a task, one is computed and retains no gradient, all shared
            parameters require no grad, a shape in `grad_tensors` does not fit, the chunk size is
            below 1, `.jac` has another number of rows, or the aggregator returns a wrong shape.
        UnsupportedGraphError: A loss or a feature has no graph, or the graph was freed, changed in
            place, or holds a re-entrant checkpoint.
        NonFiniteGradientError: With an aggregator, the direction or a task's gradient is NaN or
            infinite.
        UnsupportedGroupError: The default group of torch.distributed has several ranks.

    Example:
        >>> import torch
        >>> from engines.aggregation import UPGrad
        >>> from engines.autojac import mtl_backward
        >>> trunk, heads = torch.nn.Linear(3, 4), [torch.nn.Linear(4, 1) for _ in range(2)]
        >>> features = trunk(torch.randn(8, 3)).tanh()
        >>> losses = [head(features).square().mean() for head in heads]
        >>> mtl_backward(losses, features, UPGrad())
        >>> trunk.weight.grad.shape, heads[0].weight.grad.shape
        (torch.Size([4, 3]), torch.Size([1, 4]))

    Source: arXiv 2406.16232, Section 2, for the shared parameters.
    Cost: m backward passes above the features, and m below them, vectorised in chunks; m·n
        elements for n entries of shared parameters and m for each entry of the features. Where a
        feature is computed from another, or a loss reaches a shared parameter past them, the
        second m passes start from the losses, so that each path counts once.
    """
    refuse_group("mtl_backward")
    check_chunk_size(parallel_chunk_size)
    if aggregator is not None:
        check_aggregator(aggregator)
    objectives = as_tensors(losses, "loss")
    if grad_tensors is None:
        check_scalars(objectives)
    cotangents = as_cotangents(grad_tensors, objectives, "grad_tensors", batched=False)
    tasks = read_tasks(objectives, features, tasks_params, shared_params)
    if aggregator is None:
        check_room_for_jacobians(tasks.shared, len(objectives))
    rows, gradients = differentiate_tasks(tasks, cotangents, retain_graph)
    if aggregator is None:
        jacobians = build_jacobians(rows, tasks.shared, retain_graph, parallel_chunk_size)
        add_jacobians(tasks.shared, jacobians)
    else:
        check_finite_gradients(gradients)
        jacobian = build_jacobian(rows, tasks.shared, retain_graph, parallel_chunk_size)
        direction = aggregator(jacobian)
        expected = tuple(jacobian.shape[1:])
        del jacobian, rows  # before gradients are made, so that they do not add to the peak
        check_direction(direction, expected)
        add_direction(tasks.shared, direction.detach())
    for parameter, gradient in gradients:
        add_gradient(parameter, gradient)
