"""Builds the rows of a Jacobian where they belong, from passes that serve all samples at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from engines.autogram.accumulation import Accumulation
from engines.autogram.capture import TOGETHER_BYTES, sweep
from engines.autogram.objectives import Objectives
from engines.autogram.preparation import Undisturbed, accumulation_dtype, check_modules, prepare
from engines.autogram.rates import Rates, rates_of
from engines.autogram.reading import Reader, Reading
from engines.autogram.rules import Workspace
from engines.autogram.schedule import Share, Task, known_bytes, predicted
from engines.autogram.tracked import Tracked

# Gives the memory for the gradients of an input, shape [m, entries], by its index.
Target = Callable[[int], Tensor]

# What was read before, for as long as the first of the modules lives.
_READERS: WeakKeyDictionary[nn.Module, dict[int, Reader]] = WeakKeyDictionary()


def write_rows(
    losses: Tensor,
    modules: Sequence[nn.Module],
    batch_dim: int,
    inputs: Sequence[Tensor],
    target: Target,
    *,
    retain_graph: bool,
) -> list[int]:
    """Differentiate losses of independent samples with respect to parameters, all samples at once.

    Args:
        losses: Any shape, m elements.
        modules: Whose parameters are differentiated so, as far as they are among the inputs.
        batch_dim: Dimension of the losses that indexes samples.
        inputs: Columns of the Jacobian.
        target: Gives for the index of an input where its gradients are written, shape
            [m, entries], rows in the order of `losses.flatten()`. What is there is overwritten. May
            be called more than once for an index.
        retain_graph: Whether the graph outlives the call.

    Returns:
        Indices of the inputs that are left: those outside the modules, and parameters without a
        rule. If there are some the graph is kept.

    Raises:
        TypeError: One is not a module, `batch_dim` is no integer, or the losses are complex.
        ValueError: There is no module, none has a trainable parameter, or `batch_dim` is not a
            dimension of the losses.
        UnsupportedGraphError: The graph was freed, changed in place, or allows no further pass.
        BatchMixedError: Samples meet on the way to one of these parameters.

    Cost: the input-gradient half of k backward passes for k losses per sample, and for every use
        the products that make its rows; beside the rows the output gradients of one parameter's
        uses, and 8 MiB or the gradient of one sample where an operation hands out a copy.
    """
    check_modules(modules, batch_dim)
    whole, objectives = prepare(modules, losses, batch_dim)
    tracked = _Among(modules, inputs)
    left = list(range(len(inputs)))
    if objectives.count == 0 or not tracked.parameters:
        return left
    numbers = {id(entry): index for index, entry in enumerate(inputs)}
    columns = [numbers[id(parameter)] for parameter in tracked.parameters]
    dtype = accumulation_dtype(losses, whole.parameters)
    with Undisturbed(losses):
        reading = _reader(modules[0], batch_dim).read(losses, objectives, tracked, dtype)
        reached = {id(leaf) for leaf in reading.leaves}
        for index in left:
            if inputs[index].is_leaf and id(inputs[index]) not in reached:
                target(index).zero_()
        ruled = {columns[m.parameter] for group in reading.plan.groups for m in group.members}
        left = [
            index
            for index in left
            if index not in ruled and (not inputs[index].is_leaf or id(inputs[index]) in reached)
        ]
        unfinished = _run(
            losses,
            objectives,
            reading,
            tracked.parameters,
            dtype,
            lambda parameter: target(columns[parameter]),
            retain_graph=retain_graph or bool(left) or not reading.certain,
        )
    return sorted({*left, *(columns[parameter] for parameter in unfinished)})


class _Among(Tracked):
    """The parameters of some modules that are among some tensors."""

    def __init__(self, modules: Sequence[nn.Module], tensors: Sequence[Tensor]) -> None:
        super().__init__(modules)
        self._chosen = {id(tensor) for tensor in tensors}
        self.parameters = [p for p in self.parameters if id(p) in self._chosen]

    @cached_property
    def names(self) -> list[str]:
        """For every parameter a path that a reader can follow."""
        return [name for name, parameter in self._named() if id(parameter) in self._chosen]


def _reader(module: nn.Module, batch_dim: int) -> Reader:
    """The reader that remembers graphs of a module."""
    readers = _READERS.setdefault(module, {})
    if batch_dim not in readers:
        readers[batch_dim] = Reader(batch_dim, None)
    return readers[batch_dim]


def _run(
    losses: Tensor,
    objectives: Objectives,
    reading: Reading,
    parameters: Sequence[Tensor],
    dtype: torch.dtype,
    target: Target,
    *,
    retain_graph: bool,
) -> set[int]:
    """Run one pass for each loss of a sample; parameters that never had all they need."""
    tasks = reading.schedule.tasks
    rates = rates_of(losses.device, dtype)
    names = {id(s): _contraction(s, objectives, rates) for task in tasks for s in task.shares}
    ones = torch.ones(objectives.samples, dtype=losses.dtype, device=losses.device)
    like = torch.empty(0, dtype=dtype, device=losses.device)
    for parameter, size in _read_in_parts(tasks).items():
        if size < len(parameters[parameter]):
            target(parameter).zero_()  # what is in no part
    unfinished: set[int] = set()
    for loss in range(objectives.losses):
        rows = _rows_of(objectives, loss)
        filling = _Filling(reading, tasks, like, names, target, rows)
        held = sum(known_bytes(reading.graph, index) for index in filling.nodes)
        together = held <= TOGETHER_BYTES and not filling.reads_gradients
        if together:
            filling.read_inputs(filling.nodes)
        sweep(
            reading.graph,
            losses,
            objectives.cotangent(ones, loss * objectives.samples, losses),
            filling.nodes,
            filling.receiver(last=True),
            retain_graph=retain_graph or loss < objectives.losses - 1,
            together=together,
        )
        unfinished.update(filling.unfinished())
    return unfinished


def _read_in_parts(tasks: Sequence[Task]) -> dict[int, int]:
    """Rows that are read at all, of the parameters that are read in parts."""
    found: dict[int, int] = {}
    for task in tasks:
        for member in task.group.members:
            if member.rows is not None:
                start, stop = member.rows
                found[member.parameter] = found.get(member.parameter, 0) + stop - start
    return found


def _contraction(share: Share, objectives: Objectives, rates: Rates) -> str:
    """The quickest way to build rows; what it takes to multiply them does not count."""
    m = objectives.count
    gramian = m * m * sum(part.shape.numel() for part in share.parts)
    offered = [
        option for option in (share.option, *(o for o, _ in share.others)) if option.kept_rows
    ]
    if not offered:
        return "rows"  # of a table: they are built in one way
    priced = {
        option.contraction: predicted(
            replace(option, multiply_adds=max(0, option.multiply_adds - gramian)),
            rates,
            fused=False,
        )
        for option in offered
    }
    return min(priced, key=priced.__getitem__)


def _rows_of(objectives: Objectives, loss: int) -> slice:
    """Where in the caller's order one loss of every sample is."""
    b = objectives.samples
    if objectives.order is None or objectives.dim is None:
        return slice(loss * b, (loss + 1) * b)
    # The dimension of the samples is one of those of the flattened losses: steps of one length.
    start = int(objectives.order[loss * b])
    step = objectives.shape[objectives.dim + 1 :].numel()
    return slice(start, start + step * (b - 1) + 1, step)


class _Filling(Accumulation):
    """Writes rows where an accumulation multiplies them.

    Args:
        reading: The graph and what is done with it.
        tasks: All of them.
        like: A tensor in the dtype and on the device of the computation.
        contractions: How the rows of a share are built, by its identity.
        target: Where the rows of a parameter go, shape [m, entries].
        rows: Which of them.
    """

    def __init__(
        self,
        reading: Reading,
        tasks: Sequence[Task],
        like: Tensor,
        contractions: dict[int, str],
        target: Target,
        rows: slice,
    ) -> None:
        super().__init__(reading, tasks, [like] * len(tasks), Workspace(0))
        self._contractions = contractions
        self._target = target
        self._rows = rows

    def _contract(self, task: Task, total: Tensor) -> None:
        """Write the rows of one group's parameters, the first use over what was there."""
        found = self._present(task, total)
        for number, member in enumerate(task.group.members):
            target = self._target(member.parameter)[self._rows]
            if member.rows is not None:
                width = task.shares[0].parts[number].shape[1:].numel()
                target = target[:, member.rows[0] * width : member.rows[1] * width]
            if not found:
                target.zero_()
            for turn, one in enumerate(found):
                name = self._contractions[id(one.share)]
                one.share.rule.write_rows(
                    target, one.parts[number], one.factors, name, add=turn > 0
                )
