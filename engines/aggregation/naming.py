"""How methods print: `repr` is the constructor call, `str` the name and what distinguishes it."""

from collections.abc import Sequence

from torch import Tensor


def constructor_call(instance: object, parameters: Sequence[str]) -> str:
    """The call that makes an equal instance, every parameter by keyword.

    Args:
        instance: The object; each parameter is an attribute of the same name.
        parameters: Names, in the constructor's order.

    Returns:
        For example ``MGDA(epsilon=0.001, max_iters=100)``.
    """
    shown = ", ".join(f"{name}={getattr(instance, name)!r}" for name in parameters)
    return f"{type(instance).__name__}({shown})"


def vector_suffix(vector: Tensor | None) -> str:
    """What a vector adds to the name of a method.

    Args:
        vector: Shape [m], or None.

    Returns:
        For example ``([1., 2., 0.25])`` with at most two decimals, empty for None.
    """
    if vector is None:
        return ""
    return "([" + ", ".join(f"{value:.2f}".rstrip("0") for value in vector.tolist()) + "])"
