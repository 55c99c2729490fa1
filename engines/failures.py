"""Turns autograd's refusals into one exception that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.autograd.graph import Node

from engines.errors import UnsupportedGraphError

_REENTRANT = (
    "a re-entrant checkpoint, which allows no partial backward pass",
    "checkpoint with use_reentrant=False",
)

# What autograd says, in torch 2.8 to 2.13, and what the reader can do about it.
_REMEDIES = (
    (
        "backward through the graph a second time",
        "a graph whose saved tensors were freed",
        "call this before the backward pass that frees the graph, or give that pass "
        "retain_graph=True",
    ),
    (
        "modified by an inplace operation",
        "a graph in which a saved tensor was changed in place after the forward pass",
        "step the optimizer and change tensors only afterwards, or run the forward pass again",
    ),
    (
        "donated buffer",
        "a compiled part that allows a single backward pass",
        "set torch._functorch.config.donated_buffer = False before compiling, or leave that "
        "part uncompiled",
    ),
    (
        "_will_engine_execute_node",
        "a hook on several tensors at once (register_multi_grad_hook), which forbids passes "
        "towards some of them",
        "register it after this call, or hooks on the single tensors",
    ),
    ("compatible with .grad()", *_REENTRANT),
    ("compatible with torch.autograd.grad()", *_REENTRANT),
)


@contextmanager
def explained_graph_failures() -> Iterator[None]:
    """Raise `UnsupportedGraphError` in place of autograd's own errors about the graph.

    Yields:
        Nothing; other errors pass unchanged.

    Raises:
        UnsupportedGraphError: The graph was freed, changed in place, or allows no further pass.
    """
    try:
        yield
    except RuntimeError as error:
        explain_graph_failure(error)
        raise


def explain_graph_failure(error: RuntimeError) -> None:
    """Raise `UnsupportedGraphError` if an error of autograd's is about the state of a graph.

    Args:
        error: The error.

    Raises:
        UnsupportedGraphError: The graph was freed, changed in place, or allows no further pass.
    """
    text = str(error)
    for sign, got, remedy in _REMEDIES:
        if sign in text:
            raise UnsupportedGraphError(
                f"got {got}, expected a graph that can be differentiated now; {remedy}."
            ) from error


def concerns_graph(error: RuntimeError) -> bool:
    """Tell whether an error of autograd's is about the state of a graph.

    Args:
        error: The error.

    Returns:
        Whether `explained_graph_failures` would explain it.
    """
    return any(sign in str(error) for sign, _, _ in _REMEDIES)


def refuse_reentrant(node: Node) -> None:
    """Raise if a node is a re-entrant checkpoint.

    The parameters inside it are not in the graph; their gradients appear only in a full backward
    pass, so without this check they would be missing silently.

    Args:
        node: A node of autograd's graph.

    Raises:
        UnsupportedGraphError: It is one.
    """
    if node.name() == "CheckpointFunctionBackward":
        got, remedy = _REENTRANT
        raise UnsupportedGraphError(
            f"got {got}, expected a graph that holds all parameters; {remedy}."
        )
