"""The full Jacobian: gradients of every objective, combined by an aggregator."""

from engines.autojac.backward import backward

__all__ = ["backward"]
