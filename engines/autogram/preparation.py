"""What comes before a graph is read: validation, parameters, numbering, and peace."""

from collections.abc import Sequence
from types import TracebackType

import torch
from torch import Tensor, nn

from engines.autogram.capture import TURN
from engines.autogram.exchange.sharded import refuse_sharded
from engines.autogram.hooks import Watch
from engines.autogram.objectives import Objectives
from engines.autogram.tracked import Tracked
from engines.errors import UnsupportedGraphError
from engines.failures import explain_graph_failure

_HALF = (torch.float16, torch.bfloat16)


def check_modules(modules: Sequence[nn.Module], batch_dim: int | None) -> None:
    """Validate what an engine is made of.

    Args:
        modules: Whose parameters are tracked.
        batch_dim: Dimension of an output that indexes samples, or None.

    Raises:
        TypeError: An argument is not a module, or `batch_dim` is not an integer.
        ValueError: There is no module.
    """
    if not modules:
        raise ValueError(
            "got no module, expected at least one; pass the modules whose parameters are trained."
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


def prepare(
    modules: Sequence[nn.Module], output: Tensor, batch_dim: int | None
) -> tuple[Tracked, Objectives]:
    """Validate an output, collect the parameters and number the objectives.

    Args:
        modules: Whose parameters are tracked.
        output: The objectives.
        batch_dim: Dimension of the output that indexes samples, or None.

    Returns:
        The parameters and the numbering.

    Raises:
        TypeError: The output is not a tensor, or it is complex or nested.
        ValueError: `batch_dim` is not a dimension of the output, or no parameter is trainable.
        UnsupportedGraphError: The output has no graph.
        UnsupportedGroupError: Parameters are split over processes.
    """
    _check(output, batch_dim)
    tracked = Tracked(modules)
    if not tracked.parameters:
        raise ValueError(
            "got modules without a trainable parameter, expected at least one that requires "
            "grad; unfreeze one or pass other modules."
        )
    refuse_sharded(tracked.parameters, lambda: tracked.names, modules)
    return tracked, Objectives.of(output, batch_dim)


def accumulation_dtype(output: Tensor, parameters: Sequence[Tensor]) -> torch.dtype:
    """Choose the widest real dtype at hand, float32 at least.

    Args:
        output: The objectives.
        parameters: The tracked parameters.

    Returns:
        In which inner products are added up.
    """
    dtype = output.dtype
    for other in {parameter.dtype for parameter in parameters}:
        dtype = torch.promote_types(dtype, other)
    dtype = torch.empty(0, dtype=dtype).real.dtype if dtype.is_complex else dtype
    return torch.float32 if dtype in _HALF else dtype


class Undisturbed:
    """Everything under which a graph is read: one engine at a time, no new graph, no autocast.

    A class, as `contextlib` costs as much as a small layer.

    Args:
        output: For its device.

    Raises:
        UnsupportedGraphError: In place of autograd's own errors about the graph.
    """

    def __init__(self, output: Tensor) -> None:
        self._device = output.device.type

    def __enter__(self) -> None:
        TURN.acquire()
        self._no_grad = torch.no_grad()
        self._no_grad.__enter__()
        # Autocast would turn the contractions into half precision.
        self._autocast = None
        if torch.is_autocast_enabled(self._device):
            self._autocast = torch.autocast(self._device, enabled=False)
            self._autocast.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._autocast is not None:
            self._autocast.__exit__(kind, error, trace)
        self._no_grad.__exit__(kind, error, trace)
        Watch.reset()
        TURN.release()
        if isinstance(error, RuntimeError):
            explain_graph_failure(error)


def _check(output: Tensor, batch_dim: int | None) -> None:
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
    dim, ndim = batch_dim, output.ndim
    if dim is not None and not -ndim <= dim < ndim:
        raise ValueError(
            f"got an output of shape {tuple(output.shape)} with batch_dim={dim}, expected a "
            "dimension of the output; use None if objectives are not indexed by samples."
        )
