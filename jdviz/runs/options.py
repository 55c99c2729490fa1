"""What a recorder is given beside the steps, checked."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def as_texts(values: Sequence[str], what: str) -> tuple[str, ...]:
    """Check a list of texts.

    Args:
        values: The texts.
        what: Their name, for the message.

    Returns:
        The same.

    Raises:
        TypeError: It is a single text, or one of them is none.
    """
    if isinstance(values, str) or not all(isinstance(one, str) for one in values):
        raise TypeError(f"got {what}={values!r}, expected texts in a list; put each in one.")
    return tuple(values)


def as_json(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Copy settings as JSON holds them.

    Args:
        config: Names and values; None for none.

    Returns:
        The same, with text for what JSON does not hold.

    Raises:
        TypeError: These are no names and values.
    """
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(config or {}), default=str))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"got a config that JSON does not hold ({error}), expected names and values; give a "
            "dict with texts as keys, such as vars(arguments)."
        ) from error
    return found


def check_every(every: int, what: str) -> None:
    """Check how often something is done.

    Args:
        every: Every so many steps.
        what: Its name, for the message.

    Raises:
        ValueError: It is no integer of 1 or more.
    """
    if type(every) is not int or every < 1:
        raise ValueError(f"got {what}={every!r}, expected an integer of 1 or more; 10 is usual.")
