"""What would have become of a run with other aggregation methods, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: The most steps that a future has.
MAX_STEPS_AHEAD = 50
#: The losses of a future are also taken over so many samples, the first rows of the data.
EVALUATED = 512


class FuturesError(RuntimeError):
    """No future could be found; the message is one sentence for a person."""


@dataclass(frozen=True, eq=False)
class Future:
    """What became of the run with one method, k steps from the chosen one on.

    Attributes:
        method: The method's name.
        losses: Losses of the objectives of the chosen step, on its batch, before the first step
            and after each, shape [k + 1, m]; NaN from where it ended.
        mean_losses: Mean loss over the first samples of the data, shape [k + 1]; NaN likewise.
        norms: Length of the direction at each step, before the optimizer, shape [k]; NaN likewise.
        ending: Why it ended before k steps, one sentence; empty where it did not.
    """

    method: str
    losses: Array
    mean_losses: Array
    norms: Array
    ending: str = ""


@dataclass(frozen=True)
class Refused:
    """A method that has no future here.

    Attributes:
        method: The method's name.
        sentence: Why, one sentence for a person.
    """

    method: str
    sentence: str


@dataclass(frozen=True, eq=False)
class Futures:
    """What became of a run with several methods from one step on.

    All take the same batches, at the run's learning rate. The run's own method goes on with what it
    remembers and the optimizer with what it keeps; every other method starts without a past.

    Attributes:
        step: Number of the first step taken.
        steps_ahead: Number of steps k.
        equal_length: Whether every method's directions were multiplied by the one factor that
            makes its first as long as the first of the run's own method.
        evaluated: Number of samples that mean losses are over, the first rows of the data.
        sample_ids: Row of the data that each objective is, shape [m]; None where they are tasks.
        futures: One for each method, the run's own first.
        refused: The methods that have none.
    """

    step: int
    steps_ahead: int
    equal_length: bool
    evaluated: int
    sample_ids: NDArray[np.int64] | None
    futures: tuple[Future, ...]
    refused: tuple[Refused, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold, NaN and infinity included."""
        return {
            "step": self.step,
            "steps_ahead": self.steps_ahead,
            "equal_length": self.equal_length,
            "evaluated": self.evaluated,
            "sample_ids": None if self.sample_ids is None else self.sample_ids.tolist(),
            "futures": [
                {
                    "method": one.method,
                    "losses": one.losses.tolist(),
                    "mean_losses": one.mean_losses.tolist(),
                    "norms": one.norms.tolist(),
                    "ending": one.ending,
                }
                for one in self.futures
            ],
            "refused": [{"method": one.method, "sentence": one.sentence} for one in self.refused],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Futures":
        """Builds what `to_dict` gave.

        Args:
            values: One entry per field.

        Returns:
            The futures.
        """
        ids = values["sample_ids"]
        return cls(
            step=values["step"],
            steps_ahead=values["steps_ahead"],
            equal_length=values["equal_length"],
            evaluated=values["evaluated"],
            sample_ids=None if ids is None else np.array(ids, dtype=np.int64),
            futures=tuple(
                Future(
                    method=one["method"],
                    losses=np.array(one["losses"], dtype=np.float64),
                    mean_losses=np.array(one["mean_losses"], dtype=np.float64),
                    norms=np.array(one["norms"], dtype=np.float64),
                    ending=one["ending"],
                )
                for one in values["futures"]
            ),
            refused=tuple(Refused(one["method"], one["sentence"]) for one in values["refused"]),
        )
