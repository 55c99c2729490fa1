"""Records by name, as every registry keeps them."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol, TypeVar


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """The key in a registry."""


Record = TypeVar("Record", bound=Named)


def by_name(records: Iterable[Record]) -> Mapping[str, Record]:
    """Key records by their names, in the order given.

    Args:
        records: One for each entry of the registry.

    Returns:
        The registry, read-only.

    Raises:
        ValueError: Two records have one name.
    """
    registry: dict[str, Record] = {}
    for record in records:
        if record.name in registry:
            raise ValueError(
                f"got a second record named {record.name!r}, expected one, rename or remove it."
            )
        registry[record.name] = record
    return MappingProxyType(registry)
