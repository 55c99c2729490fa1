"""The engine: reads the graph of the objectives and adds up inner products, use by use."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, overload

import torch
from torch import Tensor, nn

from engines.autogram.accumulation import Accumulation
from engines.autogram.capture import TURN, sweep
from engines.autogram.explanation import UsePlan, explained
from engines.autogram.graph import Graph, read_graph
from engines.autogram.objectives import Objectives
from engines.autogram.plan import Plan, make_plan
from engines.autogram.probing import Proofs
from engines.autogram.refusal import refuse_mixing
from engines.autogram.rules.general import accumulate_general
from engines.autogram.separation import separate
from engines.errors import UnsupportedGraphError
from engines.failures import explained_graph_failures

_HALF = (torch.float16, torch.bfloat16)


class Engine:
    """Computes the Gramian G = J Jᵀ of objectives without building their Jacobian J.

    Everything is read from autograd's graph when it is called: no hook is registered on a module,
    nothing of a model is kept, and of earlier calls only which operations keep samples apart at
    which shapes; no `.grad` of a parameter is written, and the graph stays usable. Parameters are
    those of the modules that require grad at that moment. An operation without a rule takes an
    exact path that costs one backward pass per objective.

    The engine runs backward passes of its own, so hooks on tensors and nodes are called with those
    passes' gradients, and once with zeros to find out whether they are there; activations with
    `retain_grad()` collect all of these. A hook that changes a gradient should be a function of
    that gradient. Calls from several threads take turns.

    Args:
        modules: Modules whose parameters the Jacobian is taken with respect to.
        batch_dim: Dimension of the output that indexes samples treated independently, or None if
            objectives may depend on the whole batch. Prefer a dimension where there is one: then
            one backward pass serves all samples.

    Raises:
        TypeError: An argument is not a module, or `batch_dim` is not an integer.
        ValueError: There is no module.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(3, 1)
        >>> inputs, targets = torch.randn(8, 3), torch.randn(8)
        >>> losses = (model(inputs).squeeze(1) - targets) ** 2
        >>> Engine(model, batch_dim=0).compute_gramian(losses).shape
        torch.Size([8, 8])

    Source: arXiv 2406.16232, Section 6.
    """

    def __init__(self, *modules: nn.Module, batch_dim: int | None) -> None:
        if not modules:
            raise ValueError(
                "got no module, expected at least one; pass the modules whose parameters are "
                "trained."
            )
        for position, module in enumerate(modules):
            if not isinstance(module, nn.Module):
                raise TypeError(
                    f"got {type(module).__name__} as argument {position}, expected an nn.Module; "
                    "pass modules, not their parameters."
                )
        if not (batch_dim is None or type(batch_dim) is int):
            raise TypeError(
                f"got batch_dim={batch_dim!r}, expected an integer or None; name a dimension of "
                "the output."
            )
        self._modules = modules
        self._batch_dim = batch_dim
        self._proofs = Proofs()

    def __repr__(self) -> str:
        names = [type(module).__name__ for module in self._modules]
        return f"Engine({', '.join(names)}, batch_dim={self._batch_dim})"

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

        Cost: the input-gradient half of k backward passes, k being objectives per sample (all of
            them for `batch_dim=None`), and the contractions; plus m passes if some parameter takes
            the general path. Where the samples are is read off the graph. An operation that is not
            known is asked by numbers, which costs its own backward twice: at the first call with
            these shapes if it saves no tensor, else at every call.
        """
        named, objectives = self._prepare(output)
        names, parameters = list(named), list(named.values())
        labels = [name.rpartition(".")[0] for name in names] if by_module else [""] * len(names)
        dtype = _accumulation_dtype(output, parameters)
        shape = (objectives.count, objectives.count)
        totals = {label: torch.zeros(shape, dtype=dtype, device=output.device) for label in labels}
        if objectives.count:
            with _reading(output):
                graph, plan = self._plan(output, objectives, named, labels)
                self._accumulate(totals, output, objectives, graph, plan, parameters, labels)
        shares = {
            label: objectives.generalized((total + total.T).div_(2))
            for label, total in totals.items()
        }
        return shares if by_module else shares[""]

    def explain(self, losses: Tensor) -> tuple[UsePlan, ...]:
        """Say what `compute_gramian` would do with every use of a parameter, and why.

        Args:
            losses: Objectives of any shape with a graph.

        Returns:
            One record per use, in the order in which the graph is read. No backward pass through
            the graph is run; operations that are not known are asked by numbers, and hooks on
            activations are looked for, as `compute_gramian` does. What only a pass can show is
            missing: a custom backward that returns no gradient sends uses to the general path.

        Raises:
            TypeError: As `compute_gramian`.
            ValueError: As `compute_gramian`.
            UnsupportedGraphError: As `compute_gramian`.
            BatchMixedError: As `compute_gramian`.

        Example:
            >>> import torch
            >>> model = torch.nn.Linear(3, 1)
            >>> losses = model(torch.randn(8, 3)).squeeze(1).square()
            >>> [use.rule for use in Engine(model, batch_dim=0).explain(losses)]
            ['linear', 'linear']
        """
        named, objectives = self._prepare(losses)
        if objectives.count == 0:
            return ()
        with _reading(losses):
            graph, plan = self._plan(losses, objectives, named, [""] * len(named))
            parameters = list(named.values())
            itemsize = _accumulation_dtype(losses, parameters).itemsize
            return explained(graph, plan, objectives, list(named), parameters, itemsize)

    def _prepare(self, output: Tensor) -> tuple[dict[str, Tensor], Objectives]:
        """Validate, collect the parameters and number the objectives."""
        self._check(output)
        named = dict(self._named_parameters())
        if not named:
            raise ValueError(
                "got modules without a trainable parameter, expected at least one that requires "
                "grad; unfreeze one or pass other modules."
            )
        return named, Objectives.of(output, self._batch_dim)

    def _plan(
        self,
        output: Tensor,
        objectives: Objectives,
        named: dict[str, Tensor],
        labels: list[str],
    ) -> tuple[Graph, Plan]:
        """Read the graph, refuse mixing, and decide how every parameter is contracted."""
        parameters = list(named.values())
        graph = read_graph(output, parameters)
        separation = None
        if objectives.samples > 1:
            wanted = {use.node for use in graph.uses}
            separation = separate(graph, output, objectives, wanted, self._proofs)
            refuse_mixing(graph, separation, list(named), self._batch_dim)
        return graph, make_plan(graph, parameters, separation, labels)

    def _accumulate(
        self,
        totals: dict[str, Tensor],
        output: Tensor,
        objectives: Objectives,
        graph: Graph,
        plan: Plan,
        parameters: list[Tensor],
        labels: list[str],
    ) -> None:
        """Add up the shares of all parameters, shape [m, m], in place."""
        pending = Accumulation(
            [totals[labels[group.members[0].parameter]] for group in plan.groups],
            graph,
            plan,
            [parameter.shape for parameter in parameters],
            objectives.samples,
        )
        ones = torch.ones(objectives.samples, dtype=output.dtype, device=output.device)
        for loss in range(objectives.losses):
            cotangent = objectives.cotangent(ones, loss * objectives.samples, output)
            last = loss == objectives.losses - 1
            sweep(graph, output, cotangent, plan.nodes, pending.receiver(last=last))
        # Autograd delivered everything, or a custom backward cut the graph: then exactly.
        rest = [*plan.general, *pending.unfinished()]
        for label, total in totals.items():
            own = [parameters[index] for index in rest if labels[index] == label]
            accumulate_general(total, output, objectives, own)

    def _check(self, output: Tensor) -> None:
        """Validate what can be told without the graph."""
        if not isinstance(output, Tensor):
            raise TypeError(
                f"got {type(output).__name__}, expected a tensor of objectives; stack them with "
                "torch.stack."
            )
        if output.is_nested:
            raise TypeError(
                "got a nested tensor, expected objectives in one tensor; stack or concatenate them."
            )
        if output.is_complex():
            raise TypeError(
                "got a complex output, expected real objectives; pass its real part, imaginary "
                "part or absolute value."
            )
        if not output.requires_grad:
            raise UnsupportedGraphError(
                "got an output without a graph, expected one computed from the modules' "
                "parameters; check for detach(), no_grad() or frozen parameters."
            )
        dim, ndim = self._batch_dim, output.ndim
        if dim is not None and not -ndim <= dim < ndim:
            raise ValueError(
                f"got an output of shape {tuple(output.shape)} with batch_dim={dim}, expected a "
                "dimension of the output; use None if objectives are not indexed by samples."
            )

    def _named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Trainable parameters of all modules, each once, with a path a reader can follow."""
        met: set[int] = set()
        repeated = Counter(type(module).__name__ for module in self._modules)
        for position, module in enumerate(self._modules):
            name = type(module).__name__
            label = name if repeated[name] == 1 else f"{name}[{position}]"
            prefix = "" if len(self._modules) == 1 else f"{label}."
            for path, parameter in module.named_parameters():
                if parameter.requires_grad and id(parameter) not in met:
                    met.add(id(parameter))
                    yield prefix + path, parameter


@contextmanager
def _reading(output: Tensor) -> Iterator[None]:
    """Everything under which a graph is read: one engine at a time, no new graph, no autocast."""
    # Autocast would turn the contractions into half precision.
    with (
        TURN,
        explained_graph_failures(),
        torch.no_grad(),
        torch.autocast(output.device.type, enabled=False),
    ):
        yield


def _accumulation_dtype(output: Tensor, parameters: list[Tensor]) -> torch.dtype:
    """Widest dtype at hand, float32 at least."""
    dtype = output.dtype
    for parameter in parameters:
        dtype = torch.promote_types(dtype, parameter.dtype)
    dtype = torch.empty(0, dtype=dtype).real.dtype if dtype.is_complex else dtype
    return torch.float32 if dtype in _HALF else dtype
