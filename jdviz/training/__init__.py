"""Training with several objectives: the configuration of a run, its loop and its step record.

What the loop defines is imported on first use: the server and the run store need only
configurations and records, and must not wait for torch.
"""

from typing import TYPE_CHECKING, Any

from jdviz.training.config import ConfigError, RunConfig
from jdviz.training.record import StepRecord

if TYPE_CHECKING:
    from jdviz.training.loop import DivergedError, suggested_learning_rate, train, warm_up

__all__ = [
    "ConfigError",
    "DivergedError",
    "RunConfig",
    "StepRecord",
    "suggested_learning_rate",
    "train",
    "warm_up",
]

_IN_LOOP = frozenset({"DivergedError", "suggested_learning_rate", "train", "warm_up"})


def __getattr__(name: str) -> Any:
    if name in _IN_LOOP:
        from jdviz.training import loop

        return getattr(loop, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
