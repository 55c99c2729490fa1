"""Backward passes for the rows of a Jacobian: some at once, or one by one where that fails."""

import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.autograd.graph import Node

from engines.autojac.leaves import inner_edges, walk
from engines.autojac.rows import Rows
from engines.failures import explained_graph_failures

# Rows differentiated at once unless the caller says otherwise. Twice as many are no faster on a
# CPU; the gain is in the cost of a call, which small models feel.
MOST_ROWS = 16
# Above this many bytes in MOST_ROWS rows, a chunk is one of this many parts of the Jacobian, so
# that the two together stay close to the Jacobian alone. Rows of that size gain nothing from being
# differentiated together: 64 rows of a million entries take 0.31 s in chunks of 16, 0.27 s in
# chunks of 8 and 0.26 s one by one (one thread, torch 2.13).
_SMALL_BYTES = 4 * 2**20
_PARTS = 8
_LONGEST_REASON = 200

# Receives the index of an input, the first row and the gradients of some rows, shape [q, …].
Write = Callable[[int, int, Tensor], None]


def differentiate(
    rows: Rows,
    inputs: Sequence[Tensor],
    write: Write,
    retain_graph: bool,
    parallel_chunk_size: int | None,
) -> None:
    """Compute the rows of a Jacobian and hand them out chunk by chunk.

    Every vectorised pass keeps the graph: one that fails after freeing part of it would leave
    nothing to fall back on. Unless the graph is kept, the last row goes alone and frees it.

    Args:
        rows: What is differentiated, m rows.
        inputs: With respect to what.
        write: Called for each input that a chunk reaches; what it does not copy is freed.
        retain_graph: Whether the graph outlives the last row.
        parallel_chunk_size: Rows differentiated at once, None for `default_chunk_rows`.

    Raises:
        UnsupportedGraphError: The graph was freed, changed in place, or allows no further pass.

    Cost: m backward passes, vectorised in chunks; the gradients of one chunk.
    """
    row_bytes = sum(entry.numel() * entry.element_size() for entry in inputs)
    size = parallel_chunk_size or default_chunk_rows(len(rows), row_bytes)
    with explained_graph_failures(), torch.no_grad(), retained_gradients_unchanged(inputs):
        failure = _run(rows, inputs, write, retain_graph, size) if inputs else None
    if failure is not None:
        # Only now is it known that the graph itself is sound. The level is that of the caller of
        # the public function, which calls a builder, which calls this.
        warnings.warn(
            f"got {failure}, expected operations that can be differentiated for several rows at "
            "once, so rows are differentiated one by one; pass parallel_chunk_size=1 to choose "
            "this without the attempt.",
            stacklevel=4,
        )


def default_chunk_rows(count: int, row_bytes: int) -> int:
    """Choose how many rows are differentiated at once.

    Args:
        count: Rows in all, m.
        row_bytes: Bytes of one row.

    Returns:
        16 while their gradients need at most 4 MiB, else an eighth of the rows, at most 16.
    """
    if MOST_ROWS * row_bytes <= _SMALL_BYTES:
        return MOST_ROWS
    return min(MOST_ROWS, max(1, count // _PARTS))


def _chunks(count: int, size: int, retain_graph: bool) -> list[tuple[int, int]]:
    """Cut rows into chunks; a row that frees the graph goes alone."""
    together = count if retain_graph else max(0, count - 1)
    cuts = dict.fromkeys([*range(0, together, size), together, count])
    return list(pairwise(cuts))


def _run(
    rows: Rows, inputs: Sequence[Tensor], write: Write, retain_graph: bool, size: int
) -> str | None:
    """Do the passes; the result says what could not be vectorised."""
    failure: str | None = None
    for start, stop in _chunks(len(rows), size, retain_graph):
        if failure is None and stop - start > 1:
            # An operation may fail in any way when it meets a batched tensor. Whether the batch
            # was the reason shows when the same rows are differentiated one by one.
            try:
                gradients = _together(rows, start, stop, inputs)
            except Exception as error:
                # Text, not the exception: its traceback would hold the gradients of the pass.
                failure = _reason(error)
            else:
                _write_all(write, start, gradients)
                continue
            name = _last_node_of(partial(_together, rows, start, stop, inputs), rows, inputs)
            failure = f"an operation ({failure})" if name is None else f"{name} ({failure})"
        for row in range(start, stop):
            keep = retain_graph or row < len(rows) - 1
            _write_all(write, row, _alone(rows, row, inputs, keep))
    return failure


def _alone(rows: Rows, row: int, inputs: Sequence[Tensor], keep: bool) -> list[Tensor | None]:
    """Differentiate one row; gradients of shape [1, …]."""
    outputs, cotangents = rows.between(row, row + 1)
    found = torch.autograd.grad(
        outputs,
        inputs,
        grad_outputs=[cotangent[0] for cotangent in cotangents],
        retain_graph=keep,
        allow_unused=True,
    )
    return [None if gradient is None else gradient.unsqueeze(0) for gradient in found]


def _together(rows: Rows, start: int, stop: int, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """Differentiate q rows in one vectorised pass that keeps the graph; shapes [q, …]."""
    outputs, cotangents = rows.between(start, stop)
    return list(
        torch.autograd.grad(
            outputs,
            inputs,
            grad_outputs=cotangents,
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=True,
        )
    )


def _write_all(write: Write, start: int, gradients: list[Tensor | None]) -> None:
    """Hand out the gradients of a chunk, freeing each at once."""
    gradients.reverse()
    for index in range(len(gradients)):
        gradient = gradients.pop()
        if gradient is not None:
            write(index, start, gradient)


def _reason(error: Exception) -> str:
    """The first line of an exception, shortened."""
    line = (str(error).strip() or type(error).__name__).partition("\n")[0]
    return textwrap.shorten(line, _LONGEST_REASON, placeholder=" …")


def _last_node_of(
    attempt: Callable[[], object], rows: Rows, inputs: Sequence[Tensor]
) -> str | None:
    """Name the operation in which a backward pass fails, by doing it again and watching.

    Args:
        attempt: The pass.
        rows: Where its graph starts.
        inputs: Where it ends.

    Returns:
        The name of the last node that was entered; None if there was none, or if the pass does
        not fail again.
    """
    entered: list[str] = []

    def note(name: str, _: object) -> None:
        entered[:] = [name]

    def watch(node: Node) -> torch.utils.hooks.RemovableHandle:
        return node.register_prehook(partial(note, node.name()))

    handles = [watch(node) for node in walk(rows.outputs, stop=inner_edges(inputs))]
    try:
        attempt()
    except Exception:
        return entered[0] if entered else None
    finally:
        for handle in handles:
            handle.remove()
    return None


@contextmanager
def retained_gradients_unchanged(inputs: Sequence[Tensor]) -> Iterator[None]:
    """Give computed inputs back the `.grad` they had: passes through them collect theirs there."""
    retained = [(x, x.grad) for x in inputs if not x.is_leaf and x.retains_grad]
    try:
        yield
    finally:
        for entry, gradient in retained:
            entry.grad = gradient
