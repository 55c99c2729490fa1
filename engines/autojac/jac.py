"""Jacobians as values: nothing is aggregated, nothing is written."""

from collections.abc import Sequence

from torch import Tensor

from engines.autojac.checks import as_cotangents, as_differentiable, as_tensors, check_chunk_size
from engines.autojac.grouped import refuse_group
from engines.autojac.jacobian import build_jacobians
from engines.autojac.leaves import inner_edges, walk
from engines.autojac.rows import Rows


def jac(
    outputs: Sequence[Tensor] | Tensor,
    inputs: Sequence[Tensor] | Tensor,
    *,
    jac_outputs: Sequence[Tensor] | Tensor | None = None,
    retain_graph: bool = False,
    parallel_chunk_size: int | None = None,
) -> tuple[Tensor, ...]:
    """Compute the Jacobians of some outputs with respect to some inputs.

    Args:
        outputs: One tensor or several, of any shapes. Rows are their elements in order of
            flattening, m in all.
        inputs: One tensor or several, leaves or computed. One that is repeated has its Jacobian
            repeated.
        jac_outputs: What multiplies the Jacobian from the left: one for each output, shape
            [m, *output.shape]; complex outputs need it. By default the identity. The Jacobians of
            a later part of the graph with respect to these outputs give the chain rule.
        retain_graph: Whether the graph outlives the call.
        parallel_chunk_size: Rows differentiated at once; as in `backward`.

    Returns:
        For each input its Jacobian, shape [m, *input.shape], in its dtype; zeros where an output
        does not reach it.

    Raises:
        TypeError: An output or an input is no tensor, an output is complex without `jac_outputs`,
            `jac_outputs` are complex for a real output, or the chunk size is no integer.
        ValueError: There is no output, one is repeated, an input requires no grad, the chunk size
            is below 1, or a shape in `jac_outputs` does not fit.
        UnsupportedGraphError: An output has no graph, or the graph was freed, changed in place, or
            holds a re-entrant checkpoint above an input.
        UnsupportedGroupError: The default group of torch.distributed has several ranks.

    Example:
        >>> import torch
        >>> from engines.autojac import jac
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> h = x.square()
        >>> (outer,) = jac([h.sum(), h.prod()], h, retain_graph=True)
        >>> outer.tolist()
        [[1.0, 1.0], [4.0, 1.0]]
        >>> jac(h, x, jac_outputs=outer)[0].tolist()
        [[2.0, 4.0], [8.0, 4.0]]

    Cost: m backward passes, vectorised in chunks; m·n elements of memory and those of one chunk.
    """
    refuse_group("jac")
    check_chunk_size(parallel_chunk_size)
    found = as_tensors(outputs, "output", allow_complex=jac_outputs is not None)
    rows = Rows(found, as_cotangents(jac_outputs, found, "jac_outputs", batched=True))
    wanted = as_differentiable(inputs)
    walk(found, stop=inner_edges(wanted))  # refuses what would leave zeros instead of gradients
    distinct = list(dict.fromkeys(wanted))
    jacobians = build_jacobians(rows, distinct, retain_graph, parallel_chunk_size)
    of = dict(zip(distinct, jacobians, strict=True))
    return tuple(of[entry] for entry in wanted)
