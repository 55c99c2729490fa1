"""The Gramian of an output's Jacobian from autograd's graph, without the Jacobian."""

from engines.autogram.engine import Engine
from engines.autogram.explanation import UsePlan
from engines.autogram.step import GramianStep

__all__ = ["Engine", "GramianStep", "UsePlan"]
