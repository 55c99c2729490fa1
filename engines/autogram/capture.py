"""Delivers output gradients of chosen nodes, each as soon as autograd has it."""

import threading
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor
from torch.autograd.graph import GradientEdge, _engine_run_backward

from engines.autogram.graph import Graph

# Two passes over one graph at the same time would run each other's hooks. Engines of all threads
# take turns; it is one lock because a graph does not say whose it is. A hook may call an engine,
# hence re-entrant.
TURN = threading.RLock()

# Up to this size in all, output gradients are taken in one go: that saves a call into Python for
# each, and costs what they take.
TOGETHER_BYTES = 4 * 2**20

# Takes the index of a node and the gradients of the results that were asked for.
Deliver = Callable[[int, Sequence[Tensor | None]], None]


def sweep(
    graph: Graph,
    output: Tensor,
    cotangent: Tensor,
    nodes: Mapping[int, Sequence[int]],
    deliver: Deliver,
    *,
    retain_graph: bool = True,
    together: bool = False,
) -> None:
    """Run the input-gradient half of a backward pass.

    Only the deepest nodes are targets, so autograd visits the others without keeping their output
    gradients and without computing any weight gradient. A target that is not needed for another
    one does not fire its pre-hooks; autograd returns its gradient instead.

    Args:
        graph: Graph of the output.
        output: The objectives.
        cotangent: Factor of every objective, the output's shape.
        nodes: Indices of the nodes wanted, and which of their results.
        deliver: Called once per node with its index and the gradients of these results, None where
            autograd knows the gradient to be zero. What it does not keep is freed.
        retain_graph: Whether the nodes that run keep what they saved. Those of the deepest do.
        together: Whether all gradients are delivered after the pass: quicker where they are small,
            but what the nodes saved may be gone by then.

    Raises:
        RuntimeError: Autograd could not run.
    """
    if not nodes:
        return
    deepest = sorted(nodes if together else graph.deepest(nodes))

    def hook(index: int) -> Callable[[tuple[Tensor | None, ...]], None]:
        results = nodes[index]
        return lambda gradients: deliver(index, [gradients[each] for each in results])

    handles = [
        graph.nodes[index].register_prehook(hook(index))
        for index in sorted(nodes)
        if not together and index not in deepest
    ]
    try:
        # What torch.autograd.grad calls after checks that cost as much as a small layer.
        gradients = _engine_run_backward(
            (output,),
            (cotangent,),
            retain_graph,
            False,
            tuple([GradientEdge(graph.nodes[i], each) for i in deepest for each in nodes[i]]),
            allow_unreachable=True,
            accumulate_grad=False,
        )
    finally:
        for handle in handles:
            handle.remove()
    remaining = list(gradients)
    del gradients
    for index in reversed(deepest):
        found = [remaining.pop() for _ in nodes[index]]
        found.reverse()
        deliver(index, found)
