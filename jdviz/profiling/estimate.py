"""Memory of a step, predicted before it is run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn

from engines.autojac import default_chunk_rows
from jdviz.problems import PROBLEMS
from jdviz.problems.base import parameter_count
from jdviz.profiling.available import available_bytes
from jdviz.profiling.spec import STEP_METHODS, MeasurementError, StepMethod

FLOAT_BYTES = 4
DOUBLE_BYTES = 8
# What the engines do, seen from outside; a test holds the prediction to what is measured.
COMBINING_BYTES = 2 * 2**20  # largest part of a Jacobian that an aggregator takes to double
WORKSPACE_BYTES = 16 * 2**20  # largest block of gradients that a contraction builds
SQUARE_MATRICES = 4  # m x m matrices alive at once while a Gramian is put together


@dataclass(frozen=True)
class StepSizes:
    """Sizes of a step.

    Attributes:
        objectives: Number of objectives m.
        losses_per_sample: Backward passes that find all output gradients: 1 where samples are
            the objectives, m where tasks are.
        parameters: Number of trainable parameters n.
        saved_bytes: What the forward pass keeps for the backward pass, each block once,
            parameters and batch excluded.
        largest_bytes: The largest of those blocks.
        largest_parameter: Entries of the largest parameter.
        convolution_bytes: Largest sum over the convolutions of per-sample gradients, a workspace
            of them at most, and the input with a copy for every place of the kernel; 0 without
            convolutions.
    """

    objectives: int
    losses_per_sample: int
    parameters: int
    saved_bytes: int
    largest_bytes: int
    largest_parameter: int
    convolution_bytes: int


def step_bytes(problem: str, size: str, batch_size: int, method: StepMethod) -> int:
    """Predicts the peak memory of one step, parameters and batch excluded.

    With A the bytes the forward pass saves, L its largest block, m objectives, n parameters of 4
    bytes and r rows at once, at most 16 (`engines.autojac.default_chunk_rows`):

    * autograd: A + L + 4n. All gradients exist while the first layer's input gradient does.
    * autojac: 4mn for the Jacobian, and the larger of two further needs: A + r(4n + 2L) while its
      rows are computed, or min(2 MiB, 8mn) + 8n for the weighted sum of the rows, which an
      aggregator takes in double precision, part by part.
    * autogram: the larger of the plain step with a Gramian, A + L + 4n + 4m², and the Gramian
      stage, k(A + 2L) + 4·4m² + U: k is 1 where samples are the objectives and m where tasks are,
      each of which keeps its output gradients; U is for the per-sample gradients of the largest
      convolution, min(16 MiB, 4mc) with c parameters, and its unfolded input, or, where tasks are
      the objectives, the gradients of the largest parameter, min(16 MiB, 4mp).

    The layers of the problems at hand decide that form; it is no bound for other models. Within
    a factor of two of the measured peak on the problems of the registry.

    Args:
        problem: Key of `PROBLEMS`.
        size: Name of one of its model sizes.
        batch_size: Samples in the batch.
        method: Which step.

    Returns:
        Bytes; for autojac never less than the Jacobian.

    Raises:
        KeyError: There is no such problem.
        ValueError: There is no such size or method, or the batch is not possible.
    """
    if method not in STEP_METHODS:
        raise ValueError(f"got method {method!r}, expected one of {', '.join(STEP_METHODS)}")
    s = step_sizes(problem, size, batch_size)
    m, n, k = s.objectives, s.parameters, s.losses_per_sample
    plain = s.saved_bytes + s.largest_bytes + FLOAT_BYTES * n
    if method == "autograd":
        return plain
    if method == "autojac":
        rows = min(default_chunk_rows(m, FLOAT_BYTES * n), m)
        building = s.saved_bytes + rows * (FLOAT_BYTES * n + 2 * s.largest_bytes)
        combining = min(COMBINING_BYTES, DOUBLE_BYTES * m * n) + 2 * FLOAT_BYTES * n
        return FLOAT_BYTES * m * n + max(building, combining)
    gramian = FLOAT_BYTES * m * m
    contracting = k * (s.saved_bytes + 2 * s.largest_bytes)
    rows = min(WORKSPACE_BYTES, FLOAT_BYTES * m * s.largest_parameter) if k > 1 else 0
    contracting += SQUARE_MATRICES * gramian + max(s.convolution_bytes, rows)
    return max(plain + gramian, contracting)


@cache
def step_sizes(problem: str, size: str, batch_size: int) -> StepSizes:
    """Counts the sizes of a step from one forward pass on zeros.

    Torch's meta device would need no memory, but its first use imports a compiler for a second or
    more, which a page should not wait for; the pass on zeros takes milliseconds.

    Args:
        problem: Key of `PROBLEMS`.
        size: Name of one of its model sizes.
        batch_size: Samples in the batch.

    Returns:
        The sizes.

    Raises:
        KeyError: There is no such problem.
        ValueError: There is no such size, or the batch is not possible.
    """
    record = PROBLEMS[problem]
    record.check_batch(batch_size)
    model = record.make_model(size, seed=0)
    batch = record.blank_batch(batch_size)
    blocks = _saved_blocks(
        lambda: record.losses(model, batch), [*model.parameters(), *batch.tensors]
    )
    m = record.objectives(batch_size)
    return StepSizes(
        objectives=m,
        losses_per_sample=1 if record.batch_dim is not None else m,
        parameters=parameter_count(model),
        saved_bytes=sum(blocks),
        largest_bytes=max(blocks, default=0),
        largest_parameter=max(parameter.numel() for parameter in model.parameters()),
        convolution_bytes=_convolution_bytes(model, batch.tensors[0], m),
    )


def _saved_blocks(forward: Callable[[], Tensor], present: Sequence[Tensor]) -> list[int]:
    """Returns the bytes of every block that a forward pass saves, but for those present before."""
    # Storages are held until the end, so that no two of them share an identity.
    before = {tensor.untyped_storage()._cdata for tensor in present}
    saved: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in before:
            saved[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        losses = forward()
    del losses
    return [storage.nbytes() for storage in saved.values()]


def _convolution_bytes(model: nn.Module, inputs: Tensor, m: int) -> int:
    """Returns the largest `StepSizes.convolution_bytes` of one convolution."""
    needs = [0]

    def note(entries: int, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        gradients = min(WORKSPACE_BYTES, FLOAT_BYTES * m * entries)
        positions = output.numel() // output.shape[1]
        unfolded = FLOAT_BYTES * positions * entries // output.shape[1]
        needs.append(gradients + unfolded)

    handles = [
        layer.register_forward_hook(partial(note, layer.weight.numel()))
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return max(needs)


def check_fits(problem: str, size: str, batch_size: int, method: StepMethod) -> None:
    """Refuses a step that would need more memory than the machine has free.

    Args:
        problem: Key of `PROBLEMS`.
        size: Name of one of its model sizes.
        batch_size: Samples in the batch.
        method: Which step.

    Raises:
        MeasurementError: It would; the message is one sentence for a person.
        ValueError: There is no such size, or the batch is not possible.
    """
    need, have = step_bytes(problem, size, batch_size, method), available_bytes()
    if need > have:
        raise MeasurementError(
            f"A step by {method} with these settings would need about {need / 2**20:,.0f} MiB, and "
            f"this machine has {have / 2**20:,.0f} MiB free; choose a smaller batch or model."
        )
