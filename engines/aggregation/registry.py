"""All methods, in the order in which menus and tables show them."""

from collections.abc import Mapping

from engines.aggregation import (
    aligned_mtl,
    cagrad,
    config,
    constant,
    cr_mogm,
    dualproj,
    excess_mtl,
    fairgrad,
    graddrop,
    gradvac,
    imtl_g,
    krum,
    mean,
    mgda,
    modo,
    nash_mtl,
    pcd,
    pcgrad,
    random,
    sdmgrad,
    sum,
    trimmed_mean,
    upgrad,
)
from engines.aggregation.records import PROPERTIES, MethodRecord
from engines.named import by_name

METHODS: Mapping[str, MethodRecord] = by_name(
    (
        upgrad.RECORD,
        dualproj.RECORD,
        mgda.RECORD,
        pcgrad.RECORD,
        gradvac.RECORD,
        graddrop.RECORD,
        cagrad.RECORD,
        nash_mtl.RECORD,
        fairgrad.RECORD,
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

# Column heads of the table of properties, in the order of `PROPERTIES`.
_HEADS = {
    "non_conflicting": "non-conflicting",
    "linear_under_scaling": "linear",
    "weighted": "weighted",
    "permutation_invariant": "order-free",
    "stateful": "stateful",
    "random": "random",
}
_NEEDS = {"gramian": "G", "jacobian": "J", "product": "J₁J₂ᵀ"}


def markdown() -> str:
    """The tables of `docs/aggregation.md`.

    Returns:
        Lines of Markdown: what each method computes and from what, then its properties.
    """
    lines = ["| method | direction | needs | paper |", "|---|---|---|---|"]
    for record in METHODS.values():
        needs = _NEEDS[record.statistic]
        lines.append(f"| `{record.name}` | {_cell(record.formula)} | {needs} | {record.paper} |")
    heads = [_HEADS[name] for name in PROPERTIES]
    lines += ["", f"| method | {' | '.join(heads)} | remarks |", "|---" * (len(heads) + 2) + "|"]
    for record in METHODS.values():
        answers = ["yes" if answer else "–" for answer in record.properties.values()]
        lines.append(f"| `{record.name}` | {' | '.join(answers)} | {_cell(record.remarks)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text whose bars do not end a cell."""
    return text.replace("|", "\\|")
