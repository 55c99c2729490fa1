"""All methods, in the order in which menus and tables show them."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from engines.aggregation import dualproj, mean, mgda, pcgrad, sum, upgrad
from engines.aggregation.records import MethodRecord


def _by_name(records: Iterable[MethodRecord]) -> Mapping[str, MethodRecord]:
    """Key the records by name; a second record of one name raises."""
    methods: dict[str, MethodRecord] = {}
    for record in records:
        if record.name in methods:
            raise ValueError(
                f"got a second record named {record.name!r}, expected one, rename or remove it."
            )
        methods[record.name] = record
    return MappingProxyType(methods)


METHODS: Mapping[str, MethodRecord] = _by_name(
    (
        upgrad.RECORD,
        dualproj.RECORD,
        mgda.RECORD,
        pcgrad.RECORD,
        mean.RECORD,
        sum.RECORD,
    )
)
