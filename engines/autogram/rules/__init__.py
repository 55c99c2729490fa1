"""Rules: for one family of operations each, how a parameter's inner products are found."""

from engines.autogram.rules import (  # noqa: F401 - importing registers them
    broadcast,
    conv,
    embedding,
    linear,
    recurrent,
)
from engines.autogram.rules.base import Rule, add_outer, part_of, readable
from engines.autogram.rules.crossing import add_between
from engines.autogram.rules.embedding import add_tied
from engines.autogram.rules.factors import Declined, Factors, Part, Role
from engines.autogram.rules.linear import sides
from engines.autogram.rules.options import Counts, Option
from engines.autogram.rules.registry import RULES, find, register
from engines.autogram.rules.spreading import Extent, cut_of
from engines.autogram.rules.workspace import Workspace

__all__ = [
    "RULES",
    "Counts",
    "Declined",
    "Extent",
    "Factors",
    "Option",
    "Part",
    "Role",
    "Rule",
    "Workspace",
    "add_between",
    "add_outer",
    "add_tied",
    "cut_of",
    "find",
    "part_of",
    "readable",
    "register",
    "sides",
]
