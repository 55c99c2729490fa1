"""Rules: for one family of operations each, how a parameter's inner products are found."""

from engines.autogram.rules import (  # noqa: F401 - importing registers them
    broadcast,
    conv,
    embedding,
    linear,
    recurrent,
)
from engines.autogram.rules.base import Declined, Factors, Part, Role, Rule, add_outer, readable
from engines.autogram.rules.embedding import add_tied
from engines.autogram.rules.linear import sides
from engines.autogram.rules.options import Counts, Option
from engines.autogram.rules.registry import RULES, find, register
from engines.autogram.rules.workspace import Workspace

__all__ = [
    "RULES",
    "Counts",
    "Declined",
    "Factors",
    "Option",
    "Part",
    "Role",
    "Rule",
    "Workspace",
    "add_outer",
    "add_tied",
    "find",
    "readable",
    "register",
    "sides",
]
