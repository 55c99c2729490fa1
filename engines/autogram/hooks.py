"""Finds hooks on a node: what they do to a gradient cannot be read off the graph."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, _engine_run_backward

from engines.autogram.graph import output_metadata


class _TouchedError(Exception):
    """A hook looked at the probe."""


class _Probe(Tensor):
    """A gradient that cannot be looked at unnoticed while it is on its way; afterwards, zeros."""

    watched = False

    @classmethod
    def __torch_function__(cls, *arguments: Any, **__: Any) -> Any:
        """Stop whoever looks."""
        if cls.watched:
            raise _TouchedError
        return super().__torch_function__(*arguments, **__)


def hooked_itself(node: Node) -> bool:
    """Tell whether a hook is registered on a node, which acts between its inputs and its results.

    Args:
        node: A node.

    Returns:
        Whether there is one, before or after the node.
    """
    for register in (node.register_prehook, node.register_hook):
        handle = register(_nothing)
        others = len(handle.hooks_dict_ref() or ()) - 1
        handle.remove()
        if others:
            return True
    return False


def hooked(node: Node, output: int = 0) -> bool:
    """Tell whether something may change the gradient that passes a node.

    A hook on a tensor belongs to the node that made it and is not visible there, so a probe is
    sent to the node, and no further: a hook that reads the probe in any way is stopped at once
    and thereby found, before it could act; one that replaces it is found too; one that does
    neither cannot matter. One that keeps the probe keeps zeros. A tensor with `retain_grad()` gets
    a gradient of zeros. Engines take turns, so no other thread is in between.

    Args:
        node: A node.
        output: Which of its results the gradient belongs to.

    Returns:
        Whether there is a hook that reads or replaces the gradient, or any hook on the node.
    """
    if hooked_itself(node):
        return True
    known = output_metadata(node)[output]
    zero = torch.zeros((), dtype=known.dtype, device=known.device)
    probe = zero.expand(tuple(int(size) for size in known.shape)).as_subclass(_Probe)
    edge = GradientEdge(node, output)
    _Probe.watched = True
    try:
        # What torch.autograd.grad calls, which would itself look at the probe.
        (arrived,) = _engine_run_backward(
            (edge,), (probe,), True, False, (edge,), allow_unreachable=True, accumulate_grad=False
        )
    except _TouchedError:
        return True
    finally:
        _Probe.watched = False
    return arrived is not probe


def _nothing(*_: Any) -> None:
    """Leave gradients as they are."""
