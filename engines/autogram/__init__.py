"""The Gramian of a Jacobian, use by use, without the Jacobian."""

from engines.autogram.engine import Engine

__all__ = ["Engine"]
