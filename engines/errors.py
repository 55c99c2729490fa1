"""One family of exceptions; each is also the built-in exception a user would catch.

Every message has one form: what was got, what was expected, what to do.
"""


class EngineError(Exception):
    """Base of every exception that `engines` raises on its own account."""


class BatchMixedError(EngineError, ValueError):
    """Samples are mixed although the caller declared a batch dimension, and the graph shows it."""


class UnsupportedGraphError(EngineError, ValueError):
    """The autograd graph cannot be differentiated: absent, freed, compiled or re-entrant."""


class NonFiniteGradientError(EngineError, ValueError):
    """A gradient, or an inner product of gradients, is NaN or infinite."""


class SolverError(EngineError, RuntimeError):
    """A numerical solver did not reach its answer; the message carries the solver's status."""


class NonDifferentiableError(EngineError, RuntimeError):
    """Weights that come from a solver outside autograd were differentiated."""


class MemoryCapError(EngineError, MemoryError):
    """A caller's memory cap is less than an exact result needs; the message says how much."""


class GroupError(EngineError, RuntimeError):
    """A step over several processes cannot be taken."""


class RankFailedError(GroupError):
    """A rank of the group ended, did not arrive in time, or failed; the message names it."""


class RanksDisagreeError(GroupError):
    """The ranks of a group have different models, losses or weights; the message says where."""


class UnsupportedGroupError(EngineError, ValueError):
    """How a model or a method is spread over processes is not supported; the message says why."""
