"""Names the work of a contraction under torch's profiler, which sees only its operations."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch.autograd import profiler
from torch.autograd.graph import Node

#: A mark is this prefix, the name of autograd's node, "#" and the node's sequence number, which the
#: profiler also states at the operation of the forward pass that made the node.
PREFIX = "autogram::"


def label_of(node: Node) -> str:
    """What the work on a node's output gradient is called.

    Args:
        node: The node.

    Returns:
        A mark's name; "" while no profiler runs, so that a step pays nothing for it.
    """
    # The one flag that torch itself asks to avoid the cost of a mark; without it a mark costs
    # microseconds at every contraction.
    if not profiler._is_profiler_enabled:
        return ""
    return f"{PREFIX}{node.name()}#{node._sequence_nr()}"


def named(label: str) -> AbstractContextManager[Any]:
    """Shows what happens inside under a name.

    Args:
        label: From `label_of`.

    Returns:
        A context manager that does nothing for "".
    """
    return profiler.record_function(label) if label else nullcontext()
