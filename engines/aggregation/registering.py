"""What nn.Module registers, and what it must not."""

from typing import Any

from torch import nn


def unregistered(module: nn.Module, name: str, value: Any) -> Any:
    """A value that goes through the property of its name.

    nn.Module registers a parameter or a buffer past any property, and with it past the check of
    what is assigned.

    Args:
        module: What is assigned to.
        name: Of the attribute.
        value: What is assigned.

    Returns:
        The value; for a parameter or buffer whose name is a property of the class, a tensor that
        shares its memory.
    """
    if isinstance(value, nn.Parameter | nn.Buffer) and hasattr(type(module), name):
        return value.detach()
    return value
