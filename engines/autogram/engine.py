"""The engine: reads the graph of the objectives and adds up inner products, use by use."""

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from engines.autogram.accumulation import Accumulation
from engines.autogram.capture import TURN, sweep
from engines.autogram.graph import Graph, output_dtype, output_shape, read_graph
from engines.autogram.layout import Search
from engines.autogram.objectives import Objectives
from engines.autogram.plan import Plan, make_plan
from engines.autogram.rules.general import accumulate_general
from engines.autogram.structure import proved_outer
from engines.errors import BatchMixedError, UnsupportedGraphError
from engines.failures import explained_graph_failures

_HALF = (torch.float16, torch.bfloat16)


class Engine:
    """Computes the Gramian G = J Jᵀ of objectives without building their Jacobian J.

    Everything is read from autograd's graph when it is called: no hook is registered on a module,
    nothing of a model or of an earlier call is kept, no `.grad` of a parameter is written, and the
    graph stays usable. Parameters are those of the modules that require grad at that moment. An
    operation without a rule takes an exact path that costs one backward pass per objective.

    The engine runs backward passes of its own, with factors on the losses, so hooks on tensors and
    nodes are called with those passes' gradients, and activations with `retain_grad()` collect
    them. A hook that changes a gradient should be a function of that gradient. Calls from several
    threads take turns.

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

    def __repr__(self) -> str:
        names = [type(module).__name__ for module in self._modules]
        return f"Engine({', '.join(names)}, batch_dim={self._batch_dim})"

    def compute_gramian(self, output: Tensor) -> Tensor:
        """Compute the inner products of the gradients of all pairs of objectives.

        Args:
            output: Objectives of any shape [m1, …, mk] with a graph.

        Returns:
            The generalized Gramian, shape [m1, …, mk, mk, …, m1]: a matrix for a vector, a scalar
            for a scalar. In float64 if the output or a parameter is, else in float32.

        Raises:
            TypeError: The output is not a tensor, or it is complex.
            ValueError: `batch_dim` is not a dimension of the output, or no parameter is trainable.
            UnsupportedGraphError: The output has no graph, or its graph was freed, changed in
                place, allows no further pass, or holds a re-entrant checkpoint.
            BatchMixedError: `batch_dim` is given but a layer in training mode mixes samples.

        Cost: the input-gradient half of k backward passes, k being objectives per sample (all of
            them for `batch_dim=None`), and the contractions; plus m passes if some parameter takes
            the general path. Where the samples are is read off the graph; if something on the way
            is not known to keep them apart, as much again goes into proving it by numbers, for
            this call only (twice as much beyond 122 samples in float32, 402 in float64).
        """
        self._check(output)
        named = dict(self._named_parameters())
        if not named:
            raise ValueError(
                "got modules without a trainable parameter, expected at least one that requires "
                "grad; unfreeze one or pass other modules."
            )
        parameters = list(named.values())
        objectives = Objectives.of(output, self._batch_dim)
        dtype = _accumulation_dtype(output, parameters)
        total = torch.zeros(objectives.count, objectives.count, dtype=dtype, device=output.device)
        if objectives.count == 0:
            return objectives.generalized(total)
        # Autocast would turn the contractions into half precision.
        with (
            TURN,
            explained_graph_failures(),
            torch.no_grad(),
            torch.autocast(output.device.type, enabled=False),
        ):
            graph = read_graph(output, parameters)
            if objectives.samples > 1:
                self._refuse_mixing(graph, list(named))
            self._accumulate(total, output, objectives, graph, parameters)
        total = (total + total.T).div_(2)
        return objectives.generalized(total)

    def _accumulate(
        self,
        total: Tensor,
        output: Tensor,
        objectives: Objectives,
        graph: Graph,
        parameters: list[Tensor],
    ) -> None:
        """Add up the shares of all parameters, shape [m, m], in place."""
        plan = make_plan(graph, parameters)
        search = None
        if objectives.samples > 1:
            plan, search = self._locate(output, objectives, graph, parameters, plan)
        pending = Accumulation(total, graph, plan, search, objectives.samples)
        ones = torch.ones(objectives.samples, dtype=output.dtype, device=output.device)
        for loss in range(objectives.losses):
            first = loss * objectives.samples
            if search is not None:
                for code in search.codes:
                    cotangent = objectives.cotangent(code, first, output)
                    sweep(graph, output, cotangent, search.nodes, search.record)
            cotangent = objectives.cotangent(ones, first, output)
            last = loss == objectives.losses - 1
            sweep(graph, output, cotangent, plan.nodes, pending.receiver(last=last))
        # Autograd delivered everything, or a custom backward cut the graph: then exactly.
        rest = [*plan.general, *pending.unfinished()]
        accumulate_general(total, output, objectives, [parameters[index] for index in rest])

    def _locate(
        self,
        output: Tensor,
        objectives: Objectives,
        graph: Graph,
        parameters: list[Tensor],
        plan: Plan,
    ) -> tuple[Plan, Search | None]:
        """Prove where the samples are, or prepare to look for them in the passes."""
        proved = proved_outer(graph, output, objectives, plan.nodes)
        rows = {n: output_shape(graph.nodes[n])[0] for n in plan.nodes if n not in proved}
        odd = {index for index, count in rows.items() if count % objectives.samples}
        if odd:
            plan = make_plan(graph, parameters, odd)
            rows = {index: count for index, count in rows.items() if index in plan.nodes}
        if not rows:
            return plan, None
        leads = graph.leading_to(rows)
        dtypes = {
            output_dtype(node)
            for node, on_the_way in zip(graph.nodes, leads, strict=True)
            if on_the_way
        }
        return plan, Search(rows, objectives.samples, dtypes)

    def _check(self, output: Tensor) -> None:
        """Validate what can be told without the graph."""
        if not isinstance(output, Tensor):
            raise TypeError(
                f"got {type(output).__name__}, expected a tensor of objectives; stack them with "
                "torch.stack."
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

    def _refuse_mixing(self, graph: Graph, names: list[str]) -> None:
        """Raise if a layer is known to mix samples, naming all of them."""
        found = graph.mixing_norms()
        if not found:
            return
        lines = []
        for index, parameter in found.items():
            operation = graph.nodes[index].name().removesuffix("Backward0")
            # A layer without parameters has no path; its operation is all the graph knows.
            path = "" if parameter is None else names[parameter].rpartition(".")[0]
            lines.append(f"  {path or operation}  {operation} (training)")
        raise BatchMixedError(
            f"got batch_dim={self._batch_dim} and {len(found)} of {len(graph.nodes)} operations "
            "that mix samples, expected samples treated independently; use GroupNorm, eval mode, "
            "or batch_dim=None:\n" + "\n".join(lines)
        )


def _accumulation_dtype(output: Tensor, parameters: list[Tensor]) -> torch.dtype:
    """Widest dtype at hand, float32 at least."""
    dtype = output.dtype
    for parameter in parameters:
        dtype = torch.promote_types(dtype, parameter.dtype)
    dtype = torch.empty(0, dtype=dtype).real.dtype if dtype.is_complex else dtype
    return torch.float32 if dtype in _HALF else dtype
