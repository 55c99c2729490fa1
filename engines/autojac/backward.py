"""The Jacobian-descent counterpart of `torch.autograd.backward`."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from engines.autojac.accumulation import add_direction, add_jacobians, check_room_for_jacobians
from engines.autojac.batched import as_batch, build_batched_jacobian, build_batched_jacobians
from engines.autojac.checks import (
    as_cotangents,
    as_inputs,
    as_tensors,
    check_aggregator,
    check_chunk_size,
    check_direction,
    check_not_leaves,
)
from engines.autojac.grouped import refuse_group
from engines.autojac.jacobian import build_jacobian, build_jacobians
from engines.autojac.leaves import inner_edges, leaves_among, walk
from engines.autojac.rows import Rows


def backward(
    tensors: Sequence[Tensor] | Tensor,
    aggregator: Callable[[Tensor], Tensor] | None = None,
    inputs: Iterable[Tensor] | None = None,
    retain_graph: bool = False,
    parallel_chunk_size: int | None = None,
    *,
    jac_tensors: Sequence[Tensor] | Tensor | None = None,
    modules: Iterable[nn.Module] | nn.Module | None = None,
    batch_dim: int | None = None,
) -> None:
    """Differentiate objectives; aggregate the Jacobian into `.grad`, or leave it in `.jac`.

    Nothing is written to an input before everything is known, and with an aggregator before the
    direction is known to be finite. Hooks on tensors run with the rows' gradients; activations
    with `retain_grad()` that are no inputs collect those of the chunks, which are readable only
    with `parallel_chunk_size=1`.

    With `modules` and `batch_dim` the result is the same, and the passes are fewer: one serves all
    samples, one for each loss of a sample. Parameters of these modules that have a hook, or an
    operation without a rule, and inputs outside the modules are differentiated row by row as
    without. Hooks on activations then run with the gradients of all samples.

    Args:
        tensors: Objectives: one tensor or several, of any shapes. The rows of the Jacobian are
            their elements in order of flattening, m in all.
        aggregator: Maps the Jacobian, shape [m, n], to one direction, shape [n], which is added to
            `.grad`. Called as a module, so that its hooks run. With None, each input's Jacobian,
            shape [m, *input.shape], is added to its `.jac` instead, for `jac_to_grad`.
        inputs: Leaves to differentiate with respect to, in the order of the columns, or computed
            tensors with `retain_grad()`; those that require no grad are skipped. By default all
            leaves that require grad and that the graph reaches.
        retain_graph: Whether the graph outlives the call.
        parallel_chunk_size: Rows differentiated at once. 1 is sequential and needs the least
            memory. None takes 16 rows where they are small, and an eighth of the Jacobian, at most
            16 rows, where they are large. Where an operation cannot be vectorised, rows are
            differentiated one by one after one warning that names it.
        jac_tensors: What multiplies the Jacobian from the left: one for each tensor, shape
            [m, *tensor.shape]. By default the identity.
        modules: One module or several that treat samples independently, together with `batch_dim`.
            The tensors are then one tensor of losses, and `jac_tensors` is left out.
        batch_dim: Dimension of the losses that indexes samples.

    Raises:
        TypeError: A tensor, an input or a module is something else, a tensor or one of
            `jac_tensors` is complex, an input's `.jac` is no tensor, the aggregator cannot be
            called or returns no tensor, or the chunk size or `batch_dim` is no integer.
        ValueError: There is no tensor, one is repeated, an input is computed and retains no
            gradient, all inputs require no grad, the chunk size is below 1, a shape in
            `jac_tensors` does not fit, an input's `.jac` has another number of rows, the aggregator
            returns a wrong shape, only one of `modules` and `batch_dim` is given, they come with
            several tensors or with `jac_tensors`, `batch_dim` is not a dimension of the losses, or
            the modules have no trainable parameter.
        UnsupportedGraphError: A tensor has no graph, or the graph was freed, changed in place, or
            holds a re-entrant checkpoint.
        BatchMixedError: With `batch_dim`, samples meet on the way to a parameter of the modules.
        NonFiniteGradientError: The direction is NaN or infinite; no `.grad` was touched.
        UnsupportedGroupError: The default group of torch.distributed has several ranks.

    Example:
        >>> import torch
        >>> from engines.autojac import backward
        >>> model = torch.nn.Linear(3, 2)
        >>> losses = model(torch.randn(8, 3)).square().mean(0)
        >>> backward(losses, lambda jacobian: jacobian.mean(0), retain_graph=True)
        >>> model.weight.grad.shape
        torch.Size([2, 3])
        >>> backward(losses)
        >>> model.weight.jac.shape
        torch.Size([2, 2, 3])
        >>> losses = model(torch.randn(8, 3)).square().mean(1)
        >>> backward(losses, lambda jacobian: jacobian.mean(0), modules=model, batch_dim=0)

    Source: arXiv 2406.16232, Section 2.
    Cost: m backward passes, vectorised in chunks; m·n elements of memory and those of one chunk.
        An existing `.jac` comes on top. With `batch_dim` k passes for k losses per sample, and the
        products that make the gradients of every use; m·n elements, the output gradients of one
        parameter's uses and at most 8 MiB or the gradient of one sample.
    """
    refuse_group("backward")
    check_chunk_size(parallel_chunk_size)
    if aggregator is not None:
        check_aggregator(aggregator)
    objectives = as_tensors(tensors)
    rows = Rows(objectives, as_cotangents(jac_tensors, objectives, "jac_tensors", batched=True))
    found = None if inputs is None else as_inputs(inputs)
    if found is None:
        check_not_leaves(objectives)
    batch = as_batch(objectives, modules, batch_dim, weighted=jac_tensors is not None)
    nodes = walk(objectives, stop=inner_edges(found or ()))
    leaves = leaves_among(nodes) if found is None else found
    del nodes, found  # they would keep the graph alive
    if aggregator is None:
        check_room_for_jacobians(leaves, len(rows))
        if batch is None:
            jacobians = build_jacobians(rows, leaves, retain_graph, parallel_chunk_size)
        else:
            jacobians = build_batched_jacobians(batch, leaves, retain_graph, parallel_chunk_size)
        add_jacobians(leaves, jacobians)
        return
    if batch is None:
        jacobian = build_jacobian(rows, leaves, retain_graph, parallel_chunk_size)
    else:
        jacobian = build_batched_jacobian(batch, leaves, retain_graph, parallel_chunk_size)
    direction = aggregator(jacobian)
    expected = tuple(jacobian.shape[1:])
    del jacobian  # before gradients are made, so that they do not add to the peak
    check_direction(direction, expected)
    add_direction(leaves, direction.detach())
