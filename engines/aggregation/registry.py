"""All methods, in the order in which menus and tables show them."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from engines.aggregation import (
    aligned_mtl,
    config,
    constant,
    cr_mogm,
    dualproj,
    excess_mtl,
    graddrop,
    gradvac,
    imtl_g,
    krum,
    mean,
    mgda,
    modo,
    pcd,
    pcgrad,
    random,
    sdmgrad,
    sum,
    trimmed_mean,
    upgrad,
)
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
        gradvac.RECORD,
        graddrop.RECORD,
        aligned_mtl.RECORD,
        config.RECORD,
        imtl_g.RECORD,
        excess_mtl.RECORD,
        pcd.RECORD,
        cr_mogm.RECORD,
        modo.RECORD,
        sdmgrad.RECORD,
        mean.RECORD,
        sum.RECORD,
        constant.RECORD,
        random.RECORD,
        krum.RECORD,
        trimmed_mean.RECORD,
    )
)
