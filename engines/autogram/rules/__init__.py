"""Rules: for one family of operations each, how a parameter's inner products are found."""

from engines.autogram.rules import conv, linear  # noqa: F401 - importing registers them
from engines.autogram.rules.base import Factors, Role, Rule
from engines.autogram.rules.registry import RULES, find, register

__all__ = ["RULES", "Factors", "Role", "Rule", "find", "register"]
