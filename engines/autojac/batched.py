"""Builds Jacobians of one loss per sample, or a few, in one backward pass for each of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from engines.autogram.rows import write_rows
from engines.autojac.jacobian import column_count, common_dtype, dense, flattened
from engines.autojac.memory import fresh
from engines.autojac.passes import differentiate, retained_gradients_unchanged
from engines.autojac.rows import Rows


@dataclass(frozen=True, eq=False)
class Batch:
    """What is known about the samples.

    Attributes:
        losses: Losses of independent samples, any shape.
        modules: Those whose parameters see every sample apart.
        batch_dim: Dimension of the losses that indexes samples.
    """

    losses: Tensor
    modules: tuple[nn.Module, ...]
    batch_dim: int


def as_batch(
    tensors: Sequence[Tensor],
    modules: Iterable[nn.Module] | nn.Module | None,
    batch_dim: int | None,
    *,
    weighted: bool,
) -> Batch | None:
    """Validate what the caller says about samples.

    Args:
        tensors: The objectives.
        modules: One module, several, or None.
        batch_dim: Dimension of the samples, or None.
        weighted: Whether the Jacobian is multiplied from the left.

    Returns:
        The batch; None if neither is given.

    Raises:
        TypeError: `modules` are no modules.
        ValueError: Only one of the two is given, there are several tensors, or the Jacobian is
            multiplied.
    """
    if modules is None and batch_dim is None:
        return None
    if modules is None or batch_dim is None:
        given, other = ("modules", "batch_dim") if batch_dim is None else ("batch_dim", "modules")
        raise ValueError(
            f"got {given} without {other}, expected both or neither; name the modules and the "
            "dimension of the losses that indexes samples, or leave both out."
        )
    if len(tensors) != 1:
        raise ValueError(
            f"got {len(tensors)} tensors with batch_dim={batch_dim}, expected one; stack the "
            "losses of all samples in one tensor, or leave modules and batch_dim out."
        )
    if weighted:
        raise ValueError(
            "got jac_tensors together with modules, expected one of them; rows of several samples "
            "are sums, so leave modules and batch_dim out."
        )
    if not isinstance(modules, nn.Module | Iterable):
        raise TypeError(
            f"got {type(modules).__name__} as modules, expected an nn.Module or several; pass the "
            "model."
        )
    found = (modules,) if isinstance(modules, nn.Module) else tuple(modules)
    return Batch(tensors[0], found, batch_dim)


def build_batched_jacobian(
    batch: Batch,
    inputs: Sequence[Tensor],
    retain_graph: bool,
    parallel_chunk_size: int | None,
) -> Tensor:
    """Do what `build_jacobian` does, all samples at once where a rule says how.

    Args:
        batch: What is differentiated, m losses.
        inputs: Columns are in the order of their flattened entries, n in all. A complex entry has
            two, its real and its imaginary part.
        retain_graph: Whether the graph outlives the call.
        parallel_chunk_size: Rows differentiated at once with respect to inputs without a rule, or
            None for a choice.

    Returns:
        The Jacobian, shape [m, n], in the widest real dtype of the inputs.

    Raises:
        TypeError: One of the modules is none, or `batch_dim` is no integer.
        ValueError: No module has a trainable parameter, or `batch_dim` is not a dimension.
        UnsupportedGraphError: The graph was freed, changed in place, or allows no further pass.
        BatchMixedError: Samples meet on the way to a parameter.

    Cost: see `write_rows`; m passes for inputs without a rule.
    """
    rows = Rows([batch.losses])
    device = inputs[0].device if inputs else batch.losses.device
    widths = [column_count(entry) for entry in inputs]
    # Every column is written once: zeros would be written in vain.
    jacobian = fresh((len(rows), sum(widths)), common_dtype(inputs), device)
    columns = jacobian.split(widths, dim=1) if inputs else ()
    left = _write_ruled(batch, inputs, columns.__getitem__, retain_graph)
    for index in left:
        columns[index].zero_()

    def write(position: int, start: int, gradient: Tensor) -> None:
        target = columns[left[position]][start : start + len(gradient)]
        target.copy_(flattened(gradient))

    differentiate(rows, [inputs[k] for k in left], write, retain_graph, parallel_chunk_size)
    return jacobian


def build_batched_jacobians(
    batch: Batch,
    inputs: Sequence[Tensor],
    retain_graph: bool,
    parallel_chunk_size: int | None,
) -> list[Tensor]:
    """Do what `build_jacobians` does, all samples at once where a rule says how.

    Args:
        batch: What is differentiated, m losses.
        inputs: With respect to what.
        retain_graph: Whether the graph outlives the call.
        parallel_chunk_size: Rows differentiated at once with respect to inputs without a rule, or
            None for a choice.

    Returns:
        For each input a Jacobian, shape [m, *input.shape], in its dtype and on its device, with a
        storage of its own that is allocated when its first row is there.

    Raises:
        TypeError: One of the modules is none, or `batch_dim` is no integer.
        ValueError: No module has a trainable parameter, or `batch_dim` is not a dimension.
        UnsupportedGraphError: The graph was freed, changed in place, or allows no further pass.
        BatchMixedError: Samples meet on the way to a parameter.

    Cost: see `write_rows`; m passes for inputs without a rule.
    """
    rows = Rows([batch.losses])
    found: dict[int, Tensor] = {}

    def block(index: int) -> Tensor:
        entry = inputs[index]
        if index not in found:
            found[index] = fresh((len(rows), *entry.shape), entry.dtype, entry.device)
        return found[index]

    left = _write_ruled(
        batch,
        inputs,
        lambda index: block(index).view(len(rows), inputs[index].numel()),
        retain_graph,
    )
    for index in left:
        found.pop(index, None)

    def write(position: int, start: int, gradient: Tensor) -> None:
        index = left[position]
        if index not in found:
            block(index).zero_()
        found[index][start : start + len(gradient)] = dense(gradient)

    differentiate(rows, [inputs[k] for k in left], write, retain_graph, parallel_chunk_size)
    return [found[k] if k in found else block(k).zero_() for k in range(len(inputs))]


def _write_ruled(
    batch: Batch, inputs: Sequence[Tensor], target: Callable[[int], Tensor], retain_graph: bool
) -> list[int]:
    """Write the columns that have a rule; the others."""
    with retained_gradients_unchanged(inputs):
        return write_rows(
            batch.losses,
            batch.modules,
            batch.batch_dim,
            inputs,
            target,
            retain_graph=retain_graph,
        )
