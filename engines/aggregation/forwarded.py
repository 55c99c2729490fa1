"""A parameter of an aggregator that lives in its weighting."""

from typing import Any


class Forwarded:
    """Reads and sets the attribute of the same name of `gramian_weighting`.

    The constructor passes parameters to the weighting, which validates them; a later assignment
    on the aggregator takes the same way, so there is one value and one check.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return getattr(instance.gramian_weighting, self._name)

    def __set__(self, instance: Any, value: Any) -> None:
        setattr(instance.gramian_weighting, self._name, value)
