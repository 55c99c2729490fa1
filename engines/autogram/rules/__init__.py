"""Rules: for one family of operations each, how a parameter's inner products are found."""

from engines.autogram.rules import (  # noqa: F401 - importing registers them
    broadcast,
    conv,
    embedding,
    linear,
)
from engines.autogram.rules.base import Counts, Declined, Factors, Part, Price, Role, Rule
from engines.autogram.rules.embedding import add_tied
from engines.autogram.rules.linear import sides
from engines.autogram.rules.registry import RULES, find, register

__all__ = [
    "RULES",
    "Counts",
    "Declined",
    "Factors",
    "Part",
    "Price",
    "Role",
    "Rule",
    "add_tied",
    "find",
    "register",
    "sides",
]
