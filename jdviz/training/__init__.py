"""Training with several objectives: the configuration of a run, its loop and its step record.

What needs torch is imported on first use: the server and the run store need only
configurations and records, and must not wait for torch.
"""

from typing import TYPE_CHECKING, Any

from jdviz.training.config import ConfigError, RunConfig
from jdviz.training.futures import MAX_STEPS_AHEAD, Future, Futures, FuturesError, Refused
from jdviz.training.limits import RunLimits
from jdviz.training.record import StepRecord

if TYPE_CHECKING:
    from jdviz.training.asking import ask_futures
    from jdviz.training.loop import DivergedError, train, warm_up
    from jdviz.training.methods import engines_for, suggested_learning_rate, trainable_methods

__all__ = [
    "MAX_STEPS_AHEAD",
    "ConfigError",
    "DivergedError",
    "Future",
    "Futures",
    "FuturesError",
    "Refused",
    "RunConfig",
    "RunLimits",
    "StepRecord",
    "ask_futures",
    "engines_for",
    "suggested_learning_rate",
    "train",
    "trainable_methods",
    "warm_up",
]

_IN_LOOP = frozenset({"DivergedError", "train", "warm_up"})
_IN_METHODS = frozenset({"engines_for", "suggested_learning_rate", "trainable_methods"})


def __getattr__(name: str) -> Any:
    if name in _IN_LOOP:
        from jdviz.training import loop

        return getattr(loop, name)
    if name == "ask_futures":
        from jdviz.training import asking

        return asking.ask_futures
    if name in _IN_METHODS:
        from jdviz.training import methods

        return getattr(methods, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
