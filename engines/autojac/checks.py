"""Validation shared by everything that differentiates tensors with respect to inputs."""

from collections.abc import Iterable, Sequence
from numbers import Integral

from torch import Tensor

from engines.errors import NonFiniteGradientError, UnsupportedGraphError


def as_tensors(
    tensors: Iterable[Tensor] | Tensor, what: str = "tensor", allow_complex: bool = False
) -> list[Tensor]:
    """Make a list of the tensors to differentiate, and validate it.

    Args:
        tensors: One tensor or several, each with a graph.
        what: How the messages call one.
        allow_complex: Whether complex tensors pass.

    Returns:
        The tensors.

    Raises:
        TypeError: An element is not a tensor, or it is complex.
        ValueError: There is none, or one is repeated.
        UnsupportedGraphError: One has no graph.
    """
    found = as_list(tensors, what)
    if not found:
        raise ValueError(
            f"got no {what}, expected at least one; pass what was computed from parameters."
        )
    met: set[int] = set()
    for position, tensor in enumerate(found):
        if id(tensor) in met:
            raise ValueError(
                f"got the {what} at position {position} twice, expected distinct ones; pass each "
                "once."
            )
        met.add(id(tensor))
        if tensor.is_complex() and not allow_complex:
            raise TypeError(
                f"got a complex {what} at position {position}, expected a real one; pass its "
                "real part, imaginary part or absolute value."
            )
        if not tensor.requires_grad:
            raise UnsupportedGraphError(
                f"got a {what} without a graph at position {position}, expected one computed from "
                "parameters; check for detach(), no_grad() or frozen parameters."
            )
    return found


def as_list(tensors: Iterable[Tensor] | Tensor, what: str) -> list[Tensor]:
    """Make a list of one tensor or several.

    Args:
        tensors: A tensor, or an iterable of tensors.
        what: How the messages call one.

    Returns:
        The tensors.

    Raises:
        TypeError: It is something else, or an element is not a tensor.
    """
    given: object = tensors
    if isinstance(given, Tensor):
        return [given]
    if not isinstance(given, Iterable):
        raise TypeError(
            f"got {type(given).__name__} as {what}, expected a tensor or several; pass what torch "
            "computed."
        )
    found = list(given)
    for position, tensor in enumerate(found):
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"got {type(tensor).__name__} as the {what} at position {position}, expected a "
                "tensor; pass what torch computed, not its items."
            )
    return found


def check_not_leaves(tensors: Sequence[Tensor], what: str = "tensor") -> None:
    """Refuse tensors below which there is nothing to find parameters in.

    Args:
        tensors: Tensors whose leaves are looked for.
        what: How the message calls one.

    Raises:
        UnsupportedGraphError: One is a leaf.
    """
    for position, tensor in enumerate(tensors):
        if tensor.is_leaf:
            raise UnsupportedGraphError(
                f"got a leaf as the {what} at position {position}, expected a tensor computed from "
                "parameters; pass the loss, or name what to differentiate with respect to."
            )


def as_inputs(
    inputs: Iterable[Tensor], what: str = "input", allow_all_frozen: bool = False
) -> list[Tensor]:
    """Make a list of the tensors that gradients are written to, each once, without frozen leaves.

    Args:
        inputs: Leaves, or computed tensors with `retain_grad()`.
        what: How the messages call one.
        allow_all_frozen: Whether all may require no grad.

    Returns:
        Those that require grad, in the order given.

    Raises:
        TypeError: It is one tensor, or an element is not a tensor.
        ValueError: A computed tensor keeps no gradient, or all of several leaves are frozen.
    """
    if isinstance(inputs, Tensor):
        raise TypeError(
            f"got a tensor as {what}, expected an iterable of tensors; put it in a list."
        )
    found = list(dict.fromkeys(as_list(inputs, what)))
    for position, tensor in enumerate(found):
        if not (tensor.is_leaf or tensor.retains_grad):
            raise ValueError(
                f"got a computed tensor as {what} at position {position}, expected a leaf; pass "
                "parameters, call retain_grad() on it before the forward pass goes on, or use jac."
            )
    trained = [tensor for tensor in found if tensor.requires_grad]
    if found and not trained and not allow_all_frozen:
        raise ValueError(
            f"got {len(found)} times a {what} that requires no grad, expected at least one that "
            "does; pass parameters that are trained."
        )
    return trained


def as_differentiable(inputs: Iterable[Tensor] | Tensor) -> list[Tensor]:
    """Make a list of the tensors whose Jacobians are returned.

    Args:
        inputs: One tensor or several, leaves or computed, repeated or not.

    Returns:
        The inputs as given.

    Raises:
        TypeError: An element is not a tensor.
        ValueError: One does not require grad.
    """
    found = as_list(inputs, "input")
    for position, tensor in enumerate(found):
        if not tensor.requires_grad:
            raise ValueError(
                f"got input {position}, which requires no grad, expected one Jacobian for each "
                "input; leave frozen parameters out."
            )
    return found


def as_cotangents(
    given: Iterable[Tensor] | Tensor | None, tensors: Sequence[Tensor], what: str, batched: bool
) -> list[Tensor] | None:
    """Make a list of what tensors are multiplied by before they are differentiated.

    Args:
        given: One for each tensor, or None.
        tensors: What is differentiated.
        what: Name of the argument, for the messages.
        batched: Whether each has a leading dimension for the m rows.

    Returns:
        Detached tensors of shape [m, *tensor.shape], or [*tensor.shape] unless batched; None for
        None.

    Raises:
        TypeError: One is no tensor, or it is complex while the tensor is real.
        ValueError: Their number, a shape or a number of rows does not fit.
    """
    if given is None:
        return None
    found = as_list(given, what)
    if len(found) != len(tensors):
        raise ValueError(
            f"got {len(found)} {what} for {len(tensors)} tensors, expected one for each; leave "
            f"{what} out to take the identity."
        )
    for position, (cotangent, tensor) in enumerate(zip(found, tensors, strict=True)):
        shape = tuple(tensor.shape)
        wanted = ("m", *shape) if batched else shape
        fits = cotangent.ndim == len(wanted) and cotangent.shape[batched:] == tensor.shape
        if not fits:
            raise ValueError(
                f"got shape {tuple(cotangent.shape)} in {what} at position {position}, expected "
                f"({', '.join(map(str, wanted))}); reshape it to fit the tensor it multiplies."
            )
        if batched and len(cotangent) != len(found[0]):
            raise ValueError(
                f"got {len(cotangent)} rows in {what} at position {position}, expected "
                f"{len(found[0])} as at position 0; give all the same number of rows."
            )
        if cotangent.is_complex() and not tensor.is_complex():
            raise TypeError(
                f"got complex {what} at position {position}, expected real ones for a real tensor; "
                "pass its real part."
            )
    return [cotangent.detach() for cotangent in found]


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
            f"{expected}; return one entry per column, or use one of engines.aggregation."
        )
    if tuple(direction.shape) != expected:
        raise ValueError(
            f"got a direction of shape {tuple(direction.shape)} from the aggregator, expected "
            f"{expected}; return one entry per column, or use one of engines.aggregation."
        )
    # NaN and infinity of any entry survive a sum, which is ten times as fast as a look at each.
    if not bool(direction.sum().isfinite()) and not bool(direction.isfinite().all()):
        raise NonFiniteGradientError(
            "got a direction with NaN or infinite entries, expected finite ones; skip this step, "
            "or lower the learning rate or the loss scale."
        )
