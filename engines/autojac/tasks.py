"""Reads which parameters are shared and which are a task's, and differentiates the tasks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from engines.autojac.checks import as_inputs, as_tensors, check_not_leaves
from engines.autojac.leaves import edges_of, leaves_among, walk
from engines.autojac.rows import Rows
from engines.errors import NonFiniteGradientError
from engines.failures import explained_graph_failures


@dataclass(frozen=True)
class Tasks:
    """What `mtl_backward` differentiates.

    Attributes:
        losses: One for each task.
        features: What the losses are computed from.
        shared: Parameters below the features.
        own: For each task its parameters.
        later: For each task whether a later pass needs part of the graph that it goes through.
        from_losses: Whether the features do not separate the losses from the shared parameters:
            one is computed from another, or a loss reaches a shared parameter past them.
    """

    losses: list[Tensor]
    features: list[Tensor]
    shared: list[Tensor]
    own: list[list[Tensor]]
    later: list[bool]
    from_losses: bool


def read_tasks(
    losses: list[Tensor],
    features: Sequence[Tensor] | Tensor,
    tasks_params: Sequence[Iterable[Tensor]] | None,
    shared_params: Iterable[Tensor] | None,
) -> Tasks:
    """Validate features and parameters, and find those that are not given.

    Args:
        losses: Validated losses.
        features: One tensor or several.
        tasks_params: Parameters of each task, or None.
        shared_params: Parameters below the features, or None.

    Returns:
        The tasks.

    Raises:
        TypeError: A feature or a parameter is no tensor.
        ValueError: There is no feature, one is repeated, the numbers of losses and `tasks_params`
            differ, or a parameter is both shared and of a task.
        UnsupportedGraphError: A feature has no graph, or there is a re-entrant checkpoint.
    """
    found = as_tensors(features, "feature", allow_complex=True)
    check_not_leaves(found, "feature")
    edges = edges_of(found)
    below = walk(found)
    above = [walk([loss], stop=edges) for loss in losses]
    shared = (
        leaves_among(below)
        if shared_params is None
        else as_inputs(shared_params, "shared parameter")
    )
    reached = [leaves_among(nodes) for nodes in above]
    own = reached if tasks_params is None else _given(tasks_params, len(losses))
    _check_no_overlap(shared, own)
    past = {id(leaf) for leaves in reached for leaf in leaves}
    from_losses = _nested(below, edges) or any(id(parameter) in past for parameter in shared)
    later = _needed_later(above, below)
    # A parameter that is given may lie below the features: its task's pass goes through them.
    lower = {id(leaf) for leaf in leaves_among(below)}
    for task, parameters in enumerate(own):
        later[task] |= any(id(parameter) in lower for parameter in parameters)
    return Tasks(losses, found, shared, own, later, from_losses)


def differentiate_tasks(
    tasks: Tasks, cotangents: Sequence[Tensor] | None, retain_graph: bool
) -> tuple[Rows, list[tuple[Tensor, Tensor]]]:
    """Differentiate each loss down to the features and its own parameters.

    Args:
        tasks: What to differentiate.
        cotangents: What multiplies each loss, of its shape; None for 1.
        retain_graph: Whether the graph outlives the passes.

    Returns:
        The rows that are left to differentiate with respect to the shared parameters, and each
        task's parameters with their gradients.

    Raises:
        UnsupportedGraphError: The graph was freed, changed in place, or allows no further pass.
    """
    count = len(tasks.losses)
    arrived = [f.new_zeros((count, *f.shape)) for f in tasks.features]
    gradients: list[tuple[Tensor, Tensor]] = []
    seeds = [torch.ones_like(x) for x in tasks.losses] if cotangents is None else cotangents
    for task, (loss, own) in enumerate(zip(tasks.losses, tasks.own, strict=True)):
        with explained_graph_failures():
            found = torch.autograd.grad(
                loss,
                [*own, *tasks.features],
                grad_outputs=seeds[task].to(loss),
                retain_graph=retain_graph or tasks.from_losses or tasks.later[task],
                allow_unused=True,
            )
        for parameter, gradient in zip(own, found, strict=False):
            filled = torch.zeros_like(parameter) if gradient is None else gradient
            gradients.append((parameter, filled))
        for target, gradient in zip(arrived, found[len(own) :], strict=True):
            if gradient is not None:
                target[task] = gradient
    if not tasks.from_losses:
        return Rows(tasks.features, arrived), gradients
    # What arrives at a feature includes what arrives at those computed from it, so going on from
    # all of them would count that part twice, and a path past them not at all. Going on from the
    # losses counts each path once.
    return Rows(tasks.losses, _one_each(tasks.losses, seeds)), gradients


def check_scalars(losses: Sequence[Tensor]) -> None:
    """Refuse losses that are no scalars.

    Args:
        losses: Validated losses.

    Raises:
        ValueError: One is no scalar.
    """
    for position, loss in enumerate(losses):
        if loss.ndim > 0:
            raise ValueError(
                f"got a loss of shape {tuple(loss.shape)} at position {position}, expected a "
                "scalar; reduce it, unbind a vector of losses, or pass grad_tensors."
            )


def check_finite_gradients(gradients: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Refuse gradients that would spoil the parameters.

    Args:
        gradients: Parameters with their gradients.

    Raises:
        NonFiniteGradientError: One has NaN or infinite entries.
    """
    for parameter, gradient in gradients:
        entries = gradient if gradient.layout == torch.strided else gradient.coalesce().values()
        if not bool(entries.isfinite().all()):
            raise NonFiniteGradientError(
                "got NaN or infinity in the gradient of a task's parameter of shape "
                f"{tuple(parameter.shape)}, expected finite entries; skip this step, or lower the "
                "learning rate or the loss scale."
            )


def _given(tasks_params: Sequence[Iterable[Tensor]], count: int) -> list[list[Tensor]]:
    """Validate the parameters of each task; a task may have none that is trained."""
    listed = [list(params) if not isinstance(params, Tensor) else params for params in tasks_params]
    if len(listed) != count:
        raise ValueError(
            f"got {len(listed)} entries in tasks_params for {count} losses, expected one for each; "
            "pass an empty list for a task without parameters."
        )
    return [
        as_inputs(params, f"parameter of task {task}", allow_all_frozen=True)
        for task, params in enumerate(listed)
    ]


def _check_no_overlap(shared: Sequence[Tensor], own: Sequence[Sequence[Tensor]]) -> None:
    """Refuse parameters that would get both a task's gradient and the direction."""
    known = {id(parameter) for parameter in shared}
    both = [
        f"shape {tuple(parameter.shape)} of task {task}"
        for task, parameters in enumerate(own)
        for parameter in parameters
        if id(parameter) in known
    ]
    if both:
        raise ValueError(
            f"got {len(both)} parameter(s) both shared and of a task ({', '.join(both[:5])}), "
            "expected each to be one of the two; where a loss reaches shared parameters past "
            "the features, as an L2 term does, name tasks_params, and the term counts as shared, "
            "or leave it to the optimizer's weight_decay."
        )


def _needed_later(above: Sequence[Sequence[Node]], below: Sequence[Node]) -> list[bool]:
    """For each task whether later tasks, or the pass below the features, go through its nodes."""
    needed = set(below)
    flags: list[bool] = []
    for nodes in reversed(above):
        flags.append(not needed.isdisjoint(nodes))
        needed.update(nodes)
    return flags[::-1]


def _nested(below: Sequence[Node], edges: Sequence[GradientEdge]) -> bool:
    """Whether a feature is reached from another."""
    wanted = {(edge.node, edge.output_nr) for edge in edges}
    return any(child in wanted for node in below for child in node.next_functions)


def _one_each(losses: Sequence[Tensor], seeds: Sequence[Tensor]) -> list[Tensor]:
    """Cotangents under which row i is loss i times its seed."""
    found = [loss.new_zeros((len(losses), *loss.shape)) for loss in losses]
    for task, seed in enumerate(seeds):
        found[task][task] = seed
    return found
