"""The engine: reads the graph of the objectives and adds up inner products, use by use."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from engines.autogram.explanation import UsePlan, explained
from engines.autogram.grouped import Exchange, Grouped
from engines.autogram.objectives import Objectives
from engines.autogram.observers import Observers, added_up
from engines.autogram.passes import run_passes
from engines.autogram.preparation import Undisturbed, accumulation_dtype, check_modules, prepare
from engines.autogram.reading import Reader
from engines.autogram.step import GramianStep, finish_step


class Engine:
    """Computes the Gramian G = J Jᵀ of objectives without building their Jacobian J.

    Everything is read from autograd's graph when it is called: no hook is registered on a module,
    and nothing of a model is kept; of earlier calls only what was found and planned for graphs of
    the same structure. `backward` writes `.grad` as `losses.backward` does; the other methods write
    none and leave the graph usable. Parameters are those of the modules that require grad at that
    moment. An operation without a rule takes an exact path that costs one backward pass per
    objective.

    The engine runs backward passes of its own, so hooks on tensors and nodes are called with those
    passes' gradients, and once with zeros to find out whether they are there; activations with
    `retain_grad()` collect all of these. A hook that changes a gradient should be a function of
    that gradient. Calls from several threads take turns.

    Args:
        modules: Modules whose parameters the Jacobian is taken with respect to.
        batch_dim: Dimension of the output that indexes samples treated independently, or None if
            objectives may depend on the whole batch. Prefer a dimension where there is one: then
            one backward pass serves all samples.
        memory_cap: Bytes that may be used beside what plain training uses: blocks of gradients,
            and what is kept from the Gramian to the weighted gradients. None allows two thirds
            of what a plain step needs, a quarter for blocks, and 16 MiB at least for either.
        process_group: Where torch.distributed is initialised, the processes that take every step
            together, each with its own samples; None for all of them. See below.

    In a group of more than one process every rank calls the same methods at the same time, and each
    passes the losses of its own samples, any number of them. Gramians and weights are those of all
    samples: in rank order along `batch_dim`, or along the first dimension without one. `.grad` is
    the same on every rank: that of the whole weighted batch, summed, not averaged. Modules may be
    wrapped in DistributedDataParallel.

    Raises:
        TypeError: An argument is not a module, `batch_dim` is not an integer, `memory_cap` no
            number of bytes, or `process_group` no group.
        ValueError: There is no module, or `memory_cap` is negative.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(3, 1)
        >>> inputs, targets = torch.randn(8, 3), torch.randn(8)
        >>> losses = (model(inputs).squeeze(1) - targets) ** 2
        >>> Engine(model, batch_dim=0).compute_gramian(losses).shape
        torch.Size([8, 8])

    Source: arXiv 2406.16232, Section 6.
    """

    def __init__(
        self,
        *modules: nn.Module,
        batch_dim: int | None,
        memory_cap: int | None = None,
        process_group: "dist.ProcessGroup | None" = None,
    ) -> None:
        check_modules(modules, batch_dim)
        if memory_cap is not None and (type(memory_cap) is not int or memory_cap < 0):
            kind = ValueError if type(memory_cap) is int else TypeError
            raise kind(
                f"got memory_cap={memory_cap!r}, expected a number of bytes or None; None allows "
                "two thirds of what a plain step needs, and 16 MiB at least."
            )
        self._modules = modules
        self._batch_dim = batch_dim
        self._memory_cap = memory_cap
        self._reader = Reader(batch_dim, memory_cap)
        self._grouped = Grouped(modules, batch_dim, self._reader, process_group)
        self._observers = Observers()

    def __getstate__(self) -> dict[str, Any]:
        # Whoever watches an engine watches that one, not its copies.
        return {**self.__dict__, "_observers": Observers()}

    def __repr__(self) -> str:
        names = [type(module).__name__ for module in self._modules]
        cap = "" if self._memory_cap is None else f", memory_cap={self._memory_cap}"
        return f"Engine({', '.join(names)}, batch_dim={self._batch_dim}{cap})"

    @property
    def exchange(self) -> Exchange | None:
        """What the last call exchanged with other processes, None if there were none."""
        return self._grouped.exchange

    @overload
    def compute_gramian(self, output: Tensor, by_module: Literal[False] = False) -> Tensor: ...

    @overload
    def compute_gramian(self, output: Tensor, by_module: Literal[True]) -> dict[str, Tensor]: ...

    def compute_gramian(
        self, output: Tensor, by_module: bool = False
    ) -> Tensor | dict[str, Tensor]:
        """Compute the inner products of the gradients of all pairs of objectives.

        Args:
            output: Objectives of any shape [m1, …, mk] with a graph.
            by_module: Whether to keep the shares of the modules apart.

        Returns:
            The generalized Gramian, shape [m1, …, mk, mk, …, m1]: a matrix for a vector, a scalar
            for a scalar. In float64 if the output or a parameter is, else in float32; symmetric to
            the bit. With `by_module` a dict from the path of every module that owns a trainable
            parameter ("" for the module itself) to its share; the shares add up to the Gramian.

        Raises:
            TypeError: The output is not a tensor, or it is complex or nested.
            ValueError: `batch_dim` is not a dimension of the output, or no parameter is trainable.
            UnsupportedGraphError: The output has no graph, or its graph was freed, changed in
                place, allows no further pass, or holds a re-entrant checkpoint.
            BatchMixedError: `batch_dim` is given but samples meet on the way to a parameter, and
                the graph shows it. Where it does not, as where the whole batch ends in a tensor
                that no operation reads by sample, the result is exact all the same.
            MemoryCapError: `memory_cap` is less than the result needs.

        Cost: the input-gradient half of k backward passes, k being objectives per sample (all of
            them for `batch_dim=None`), and the contractions; plus m passes if some parameter takes
            the general path. Where the samples are is read off the graph, at the first call with a
            graph of its structure. An operation that is not known is asked by numbers, which costs
            its own backward twice: at the first call with these shapes if it saves no tensor, else
            at every call.
        """
        members = self._grouped.members()
        if members is not None:
            found = self._grouped.compute_gramian(
                members, output, self._observers, by_module=by_module
            )
            return found if by_module else found[""]
        tracked, objectives = prepare(self._modules, output, self._batch_dim)
        parameters = tracked.parameters
        asked = self._observers.asking() if self._observers else frozenset()
        labels = tracked.owners if by_module or asked else None
        dtype = accumulation_dtype(output, parameters)
        totals = _zeros(labels, objectives, dtype, output.device)
        if objectives.count:
            with Undisturbed(output):
                reading = self._reader.read(output, objectives, tracked, dtype, labels=labels)
                run_passes(
                    _of_parameters(totals, labels, len(parameters)),
                    output,
                    objectives,
                    reading,
                    parameters,
                    retain_graph=True,
                )
        shares = {
            label: objectives.generalized((total + total.T).div_(2))
            for label, total in totals.items()
        }
        if not self._observers:
            return shares if by_module else shares[""]
        gramian = added_up(shares)
        self._observers.tell(asked, output, gramian, None, shares if asked else None)
        return shares if by_module else gramian

    def backward(
        self,
        losses: Tensor,
        weighting: Callable[[Tensor], Tensor],
        retain_graph: bool = False,
    ) -> GramianStep:
        """Do what `losses.backward(weighting(engine.compute_gramian(losses)))` does, in one pass.

        The output gradients that the Gramian is made of make the weighted gradients too, so the
        second backward pass is saved, except for parameters outside the engine's modules, those on
        the general path, and those whose output gradients do not fit `memory_cap`.

        Args:
            losses: Objectives of any shape with a graph.
            weighting: Maps the generalized Gramian to weights of the shape of the losses. Called
                once, as a module, so that its hooks run.
            retain_graph: Whether the graph outlives the call.

        Returns:
            The Gramian and the weights. Every leaf that the losses reach has the gradient of the
            weighted sum added to its `.grad`, as autograd adds it: hooks on parameters run.

        Raises:
            TypeError: As `compute_gramian`, or the weighting cannot be called or returns no tensor
                of real numbers.
            ValueError: As `compute_gramian`, or the weights have another shape.
            UnsupportedGraphError: As `compute_gramian`.
            BatchMixedError: As `compute_gramian`.
            MemoryCapError: As `compute_gramian`.
            NonFiniteGradientError: A gradient is NaN or infinite; no `.grad` was touched.

        Example:
            >>> import torch
            >>> from engines.aggregation import UPGradWeighting
            >>> model = torch.nn.Linear(3, 1)
            >>> losses = model(torch.randn(8, 3)).squeeze(1).square()
            >>> step = Engine(model, batch_dim=0).backward(losses, UPGradWeighting())
            >>> step.weights.shape, model.weight.grad.shape
            (torch.Size([8]), torch.Size([1, 3]))

        Source: arXiv 2210.00038 keeps output gradients for a second product in the same way.
        Cost: the input-gradient half of k backward passes, the contractions, and the
            weight-gradient half of one; memory for the output gradients of all uses.
        """
        if not callable(weighting):
            raise TypeError(
                f"got {type(weighting).__name__}, expected a callable from a Gramian to weights; "
                "pass a weighting such as UPGradWeighting()."
            )
        members = self._grouped.members()
        if members is not None:
            step = self._grouped.backward(
                members,
                losses,
                lambda found, shape: _as_weights(weighting(found), shape),
                self._observers,
                retain_graph=retain_graph,
            )
            return GramianStep(*step)
        tracked, objectives = prepare(self._modules, losses, self._batch_dim)
        parameters = tracked.parameters
        dtype = accumulation_dtype(losses, parameters)
        asked = self._observers.asking() if self._observers else frozenset()
        labels = tracked.owners if asked else None
        totals = _zeros(labels, objectives, dtype, losses.device)
        if objectives.count == 0:
            gramian = objectives.generalized(added_up(totals))
            weights = _as_weights(weighting(gramian), losses.shape)
            losses.backward(weights, retain_graph=retain_graph)
        else:
            with Undisturbed(losses):
                reading = self._reader.read(
                    losses, objectives, tracked, dtype, labels=labels, fused=True
                )
                brought = run_passes(
                    _of_parameters(totals, labels, len(parameters)),
                    losses,
                    objectives,
                    reading,
                    parameters,
                    retain_graph=retain_graph or reading.needs_more,
                )
                totals = {label: (one + one.T).div_(2) for label, one in totals.items()}
                total = added_up(totals)
            gramian = objectives.generalized(total)
            # A copy, as a weighting may write to what it is given.
            weights = _as_weights(weighting(gramian.clone()), losses.shape)
            with Undisturbed(losses):
                finish_step(
                    losses,
                    weights,
                    total,
                    objectives,
                    reading,
                    brought,
                    parameters,
                    retain_graph=retain_graph,
                )
        if self._observers:
            shares = {label: objectives.generalized(one) for label, one in totals.items()}
            self._observers.tell(asked, losses, gramian, weights, shares if asked else None)
        return GramianStep(gramian, weights)

    def observe(
        self, callback: Callable[..., object], by_module: bool | Callable[[], bool] = False
    ) -> RemovableHandle:
        """Have a function called with what every later call computes.

        It is called when the result is complete, before it is returned: by `backward` after `.grad`
        is written, by `compute_gramian` too. Several observers are called in the order in which
        they came; copies of the engine have none. An exception in a callback leaves the call of the
        engine; what the call wrote stays. Without observers the engine does nothing more than
        before.

        Args:
            callback: Called as `callback(losses, gramian, weights)`: the losses without their
                graph, the generalized Gramian as it is returned, and the weights, None from
                `compute_gramian`. They are not to be written to.
            by_module: Whether the callback is called with a fourth argument, the shares of the
                modules as `compute_gramian(losses, by_module=True)` gives them. A function is asked
                before every call, and where it answers False the fourth argument is None. The
                shares come from the same pass; the Gramian is then their sum, which may differ from
                the other in the last bits.

        Returns:
            What ends it: `remove()`, also at the end of a `with` block.

        Raises:
            TypeError: The callback cannot be called, or `by_module` is neither a bool nor callable.

        Example:
            >>> import torch
            >>> model = torch.nn.Linear(3, 1)
            >>> engine, seen = Engine(model, batch_dim=0), []
            >>> handle = engine.observe(lambda losses, gramian, weights: seen.append(gramian))
            >>> gramian = engine.compute_gramian(model(torch.randn(8, 3)).square().squeeze(1))
            >>> handle.remove()
            >>> torch.equal(seen[0], gramian)
            True

        Cost: none of its own. With shares, modules share no contraction, and each takes its own
            passes on the general path.
        """
        return self._observers.add(callback, by_module)

    def explain(self, losses: Tensor) -> tuple[UsePlan, ...]:
        """Say what `backward` would do with every use of a parameter, and why.

        `compute_gramian` contracts by the same options, but need not choose the same where keeping
        something for the gradients counts.

        Args:
            losses: Objectives of any shape with a graph.

        Returns:
            One record per use, in the order in which the graph is read. No backward pass through
            the graph is run; operations that are not known are asked by numbers, and hooks on
            activations are looked for, as the other methods do. What only a pass can show is
            missing: a custom backward that returns no gradient sends uses to the general path.

        Raises:
            TypeError: As `compute_gramian`.
            ValueError: As `compute_gramian`.
            UnsupportedGraphError: As `compute_gramian`.
            BatchMixedError: As `compute_gramian`.
            MemoryCapError: As `compute_gramian`.

        Example:
            >>> import torch
            >>> model = torch.nn.Linear(3, 1)
            >>> losses = model(torch.randn(8, 3)).squeeze(1).square()
            >>> [use.rule for use in Engine(model, batch_dim=0).explain(losses)]
            ['linear', 'linear']
        """
        members = self._grouped.members()
        if members is not None:
            return self._grouped.explain(members, losses)
        tracked, objectives = prepare(self._modules, losses, self._batch_dim)
        if objectives.count == 0:
            return ()
        parameters = tracked.parameters
        dtype = accumulation_dtype(losses, parameters)
        with Undisturbed(losses):
            reading = self._reader.read(losses, objectives, tracked, dtype, fused=True)
            return explained(reading, objectives, tracked.names, parameters, dtype.itemsize)


def _zeros(
    labels: Sequence[str] | None, objectives: Objectives, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """One sum for each label, or a single one, shape [m, m]."""
    shape = (objectives.count, objectives.count)
    names = [""] if labels is None else labels
    return {name: torch.zeros(shape, dtype=dtype, device=device) for name in names}


def _of_parameters(
    totals: dict[str, Tensor], labels: Sequence[str] | None, count: int
) -> list[Tensor]:
    """For every parameter the sum that it adds to."""
    return [totals[""]] * count if labels is None else [totals[label] for label in labels]


def _as_weights(weights: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Validate what a weighting returned."""
    if not isinstance(weights, Tensor):
        raise TypeError(
            f"got {type(weights).__name__} from the weighting, expected a tensor of weights; pass "
            "a weighting, not an aggregator."
        )
    if weights.is_complex():
        raise TypeError(
            "got complex weights from the weighting, expected real ones; pass a weighting of a "
            "real Gramian."
        )
    if weights.shape != shape:
        raise ValueError(
            f"got weights of shape {tuple(weights.shape)}, expected that of the losses, "
            f"{tuple(shape)}; for losses of several dimensions wrap the weighting in "
            "Flattening."
        )
    return weights.detach()
