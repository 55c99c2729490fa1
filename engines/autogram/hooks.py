"""Finds hooks on a node: what they do to a gradient cannot be read off the graph."""

import threading
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, _engine_run_backward
from torch.utils.hooks import RemovableHandle

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


def hooked(node: Node) -> bool:
    """Tell whether something may change the gradients that pass a node.

    A hook on a tensor belongs to the node that made it and is not visible there, so probes are
    sent to all results of the node, and no further: a hook that reads its probe in any way is
    stopped at once and thereby found, before it could act; one that replaces it is found too; one
    that does neither cannot matter. One that keeps the probe keeps zeros. A tensor with
    `retain_grad()` gets a gradient of zeros. Engines take turns, so no other thread is in between.

    Args:
        node: A node.

    Returns:
        Whether there is a hook that reads or replaces a gradient, or any hook on the node, or a
        nested tensor that cannot be probed.
    """
    if hooked_itself(node):
        return True
    edges, probes = [], []
    for number, known in enumerate(output_metadata(node)):
        if known.is_nested_tensor or known.is_cpp_nested_tensor:
            return True  # of which no probe can be made
        zero = torch.zeros((), dtype=known.dtype, device=known.device)
        probes.append(zero.expand(tuple(int(size) for size in known.shape)).as_subclass(_Probe))
        edges.append(GradientEdge(node, number))
    _Probe.watched = True
    try:
        # What torch.autograd.grad calls, which would itself look at the probes.
        arrived = _engine_run_backward(
            tuple(edges),
            tuple(probes),
            True,
            False,
            tuple(edges),
            allow_unreachable=True,
            accumulate_grad=False,
        )
    except _TouchedError:
        return True
    finally:
        _Probe.watched = False
    return any(one is not probe for one, probe in zip(arrived, probes, strict=True))


def _nothing(*_: Any) -> None:
    """Leave gradients as they are."""


# How many operations a thread may record for each node of a graph before its numbers prove nothing.
_MOST_PER_NODE = 8


class Watch:
    """Rules hooks out without looking: none was registered since the oldest node was made.

    Every hook that Python registers, on tensors, nodes or modules, takes the next number of one
    counter. If no number was taken since a moment, and all nodes were made after it, none of them
    has a hook. Nodes are numbered in the order they are made, but thread by thread, so it counts
    only while there is one thread, and only for the few numbers that this thread gave since then.
    (A graph with a hook, made in a thread that has ended since, in just the steps of that thread
    that bear the same numbers, would be missed.)
    """

    _handles = -1
    _sequence = -1
    _thread = -1

    @classmethod
    def reset(cls) -> None:
        """Begin to watch from now on; call it when all own hooks are registered."""
        alone = threading.active_count() == 1
        cls._handles = RemovableHandle.next_id if alone else -1
        cls._sequence = torch.autograd._get_sequence_nr()
        cls._thread = threading.get_ident()

    @classmethod
    def unhooked(cls, oldest: int, newest: int, count: int) -> bool:
        """Tell whether nodes have no hooks for certain.

        Args:
            oldest: The smallest number of a node of one graph, leaves left out.
            newest: The largest.
            count: How many nodes there are.

        Returns:
            Whether it is certain. If not, they may have none all the same.
        """
        if (
            cls._handles != RemovableHandle.next_id
            or cls._thread != threading.get_ident()
            or threading.active_count() != 1
        ):
            return False
        start, stop = cls._sequence, torch.autograd._get_sequence_nr()
        return stop - start <= _MOST_PER_NODE * count and start <= oldest and newest < stop
