"""A parameter of an aggregator that lives in its weighting."""

from typing import Any


class Forwarded:
    """Reads and sets the attribute of the same name of `gramian_weighting` or `weighting`.

    The constructor passes parameters to the weighting, which validates them; a later assignment
    on the aggregator takes the same way, so there is one value and one check.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return getattr(_weighting(instance), self._name)

    def __set__(self, instance: Any, value: Any) -> None:
        setattr(_weighting(instance), self._name, value)


def _weighting(aggregator: Any) -> Any:
    """The weighting that has the parameters: of the Gramian if there is one, else of the matrix."""
    return getattr(aggregator, "gramian_weighting", aggregator.weighting)
