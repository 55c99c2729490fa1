"""Validation shared by everything that differentiates tensors with respect to inputs."""

from collections.abc import Iterable, Sequence
from numbers import Integral

from torch import Tensor

from engines.errors import NonFiniteGradientError, UnsupportedGraphError


def as_tensors(tensors: Sequence[Tensor] | Tensor) -> list[Tensor]:
    """Make a list of the tensors to differentiate, and validate it.

    Args:
        tensors: One tensor or several, each with a graph.

    Returns:
        The tensors.

    Raises:
        TypeError: An element is not a tensor, or it is complex.
        ValueError: There is none, or one is repeated.
        UnsupportedGraphError: One has no graph.
    """
    found = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not found:
        raise ValueError("got no tensor, expected at least one; pass the losses to differentiate.")
    met: set[int] = set()
    for position, tensor in enumerate(found):
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"got {type(tensor).__name__} at position {position}, expected a tensor; pass "
                "losses as computed, not their items."
            )
        if id(tensor) in met:
            raise ValueError(
                f"got the tensor at position {position} twice, expected distinct tensors; pass "
                "each one once."
            )
        met.add(id(tensor))
        if tensor.is_complex():
            raise TypeError(
                f"got a complex tensor at position {position}, expected real objectives; pass its "
                "real part, imaginary part or absolute value."
            )
        if not tensor.requires_grad:
            raise UnsupportedGraphError(
                f"got a tensor without a graph at position {position}, expected one computed from "
                "parameters; check for detach(), no_grad() or frozen parameters."
            )
    return found


def as_inputs(inputs: Iterable[Tensor]) -> list[Tensor]:
    """Make a list of the inputs to differentiate with respect to, each once.

    Args:
        inputs: Leaf tensors that require grad.

    Returns:
        The inputs in the order given.

    Raises:
        TypeError: An element is not a tensor.
        ValueError: An element is no leaf or does not require grad.
    """
    if isinstance(inputs, Tensor):
        raise TypeError(
            "got a tensor as inputs, expected an iterable of tensors; put it in a list."
        )
    found: dict[int, Tensor] = {}
    for position, tensor in enumerate(inputs):
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"got {type(tensor).__name__} as input {position}, expected a tensor; pass "
                "parameters."
            )
        if not (tensor.requires_grad and tensor.is_leaf):
            state = "a computed tensor" if tensor.requires_grad else "one that requires no grad"
            raise ValueError(
                f"got {state} as input {position}, expected a leaf that requires grad; pass "
                "parameters that are trained."
            )
        found[id(tensor)] = tensor
    return list(found.values())


def check_chunk_size(parallel_chunk_size: int | None) -> None:
    """Validate the number of rows differentiated at once.

    Args:
        parallel_chunk_size: At least 1, or None.

    Raises:
        TypeError: It is no integer.
        ValueError: It is below 1.
    """
    given: object = parallel_chunk_size
    if given is not None and (isinstance(given, bool) or not isinstance(given, Integral)):
        raise TypeError(
            f"got parallel_chunk_size={parallel_chunk_size!r}, expected an integer or None; say "
            "how many rows are differentiated at once."
        )
    if parallel_chunk_size is not None and parallel_chunk_size < 1:
        raise ValueError(
            f"got parallel_chunk_size={parallel_chunk_size}, expected at least 1 or None; use 1 "
            "to differentiate one row at a time."
        )


def check_aggregator(aggregator: object) -> None:
    """Validate the aggregator before anything is differentiated.

    Args:
        aggregator: Maps the Jacobian to a direction.

    Raises:
        TypeError: It cannot be called.
    """
    if not callable(aggregator):
        raise TypeError(
            f"got {type(aggregator).__name__} as aggregator, expected one that maps the Jacobian, "
            "shape [m, n], to a direction, shape [n]; pass one of engines.aggregation."
        )


def check_direction(direction: object, expected: tuple[int, ...]) -> None:
    """Validate what an aggregator returned.

    Args:
        direction: What it returned.
        expected: The shape [n].

    Raises:
        TypeError: It is not a tensor.
        ValueError: It has another shape.
        NonFiniteGradientError: It has NaN or infinite entries.
    """
    if not isinstance(direction, Tensor):
        raise TypeError(
            f"got {type(direction).__name__} from the aggregator, expected a tensor of shape "
            f"{expected}; an aggregator maps [m, n] to [n]."
        )
    if tuple(direction.shape) != expected:
        raise ValueError(
            f"got a direction of shape {tuple(direction.shape)} from the aggregator, expected "
            f"{expected}; an aggregator maps [m, n] to [n]."
        )
    if not bool(direction.isfinite().all()):
        raise NonFiniteGradientError(
            "got a direction with NaN or infinite entries, expected finite ones; skip this step, "
            "or lower the learning rate or the loss scale."
        )
