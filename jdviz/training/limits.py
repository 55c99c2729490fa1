"""What a run may take, as whoever starts the server decides."""

import os
import re
from dataclasses import dataclass

from jdviz.training.config import ConfigError, RunConfig

_BY_WHOM = "set by whoever started this server"


@dataclass(frozen=True)
class RunLimits:
    """Limits on the size and the time of a run; None sets none.

    Attributes:
        max_steps: Most steps of a run.
        max_batch: Largest batch size.
        max_seconds: Longest training, in seconds from the first step on, pauses excluded.
    """

    max_steps: int | None = None
    max_batch: int | None = None
    max_seconds: float | None = None

    def check(self, config: RunConfig) -> None:
        """Checks that a run may start.

        Args:
            config: What to train.

        Raises:
            ConfigError: It has more steps or a larger batch than is allowed; the message is one
                sentence for a person.
        """
        _at_most("steps", config.steps, self.max_steps)
        _at_most("samples in a batch", config.batch_size, self.max_batch)

    @property
    def time_is_up(self) -> str:
        """What a run that took `max_seconds` is told, one sentence; empty without that limit."""
        if self.max_seconds is None:
            return ""
        return (
            f"The run was stopped after {_duration(self.max_seconds)} of training, the limit "
            f"{_BY_WHOM}; the steps recorded until then are kept."
        )


def _at_most(what: str, value: int, most: int | None) -> None:
    """Raises ConfigError where there is a limit and the value is beyond it."""
    if most is not None and value > most:
        raise ConfigError(
            f"This run has {value:,} {what}, and the limit is {most:,}, {_BY_WHOM}; choose at "
            f"most {most:,}."
        )


def _duration(seconds: float) -> str:
    """A duration in words, three significant digits."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = f"{seconds / 60:.3g}"
    return "1 minute" if minutes == "1" else f"{minutes} minutes"


def default_workers() -> int:
    """How many runs train at once: `JDVIZ_WORKERS`, else one for each core.

    Raises:
        ConfigError: If `JDVIZ_WORKERS` is not a whole number of at least 1.
    """
    named = os.environ.get("JDVIZ_WORKERS", "")
    if not named:
        # A container may be given fewer cores than the machine has.
        allowed = getattr(os, "sched_getaffinity", None)
        return len(allowed(0)) if allowed else os.cpu_count() or 1
    if not re.fullmatch("[0-9]+", named) or int(named) < 1:
        raise ConfigError(
            f"JDVIZ_WORKERS is {named!r} and must be a whole number of at least 1; "
            "unset it to use one worker for each core."
        )
    return int(named)
