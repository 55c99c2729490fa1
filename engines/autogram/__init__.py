"""The Gramian of an output's Jacobian from autograd's graph, without the Jacobian."""

from engines.autogram.engine import Engine
from engines.autogram.explanation import UsePlan
from engines.autogram.grouped import Exchange
from engines.autogram.marks import PREFIX as MARK_PREFIX
from engines.autogram.rates import settle_rates
from engines.autogram.step import GramianStep

__all__ = ["MARK_PREFIX", "Engine", "Exchange", "GramianStep", "UsePlan", "settle_rates"]
