"""What the run store gives beside single steps: a run's description and its history."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

#: Who wrote a run: a worker of the app, a `Recorder` in someone's own script, or an imported file.
Source = Literal["app", "recorder", "import"]

#: The setting of a run that holds how many processes of torch.distributed trained it together. No
#: option of a script has such a name.
RANKS = "distributed ranks"
#: The number of a step that holds how many bytes these sent to each other in it.
SENT_BYTES = "exchange/sent_bytes"


@dataclass(frozen=True)
class Run:
    """What is known of a run beside its steps.

    Attributes:
        run_id: Its identifier in the store, unique and hard to guess.
        created_s: When it was created, seconds since the epoch.
        config: The settings it was started with.
        status: queued, running, paused, finished, stopped, diverged, failed or interrupted.
        message: One sentence for a person where the status needs one, else empty.
        heartbeat_s: When its writer last wrote, seconds since the epoch.
        steps: Steps recorded so far.
        name: What a person calls it; need not be unique.
        source: Who wrote it.
        owner: The visitor who started or imported it; empty for a run of a script.
        published: Whether every visitor of a shared server sees it.
        group: Runs that were started together, to be shown side by side, have the same; else empty.
        tags: Words to filter by.
        notes: What a person wrote about it.
        objectives: Names of the objectives, length m; empty where they were not named.
        size_bytes: About what its steps and checkpoints take in the store.
    """

    run_id: str
    created_s: float
    config: dict[str, Any]
    status: str
    message: str
    heartbeat_s: float
    steps: int
    name: str = ""
    source: Source = "app"
    owner: str = ""
    published: bool = False
    group: str = ""
    tags: tuple[str, ...] = ()
    notes: str = ""
    objectives: tuple[str, ...] = ()
    size_bytes: int = 0

    @property
    def ranks(self) -> int:
        """How many processes trained it together: 1 where nothing else was recorded."""
        found = self.config.get(RANKS)
        # An imported file may hold anything.
        return found if type(found) is int and found > 1 else 1


@dataclass(frozen=True, eq=False)
class Series:
    """A run's history without its matrices, thinned to a number of points.

    Where the number of objectives changes over a run, m is the largest, and a step with fewer has
    NaN in the places it lacks. NaN also stands where a step has no such number.

    Attributes:
        steps: Step numbers, ascending, shape [k].
        losses: Losses, shape [k, m].
        weights: Weights, shape [k, m].
        inner: First-order improvement of every objective, J·A(J), shape [k, m].
        direction_norm: Length of the update direction, shape [k].
        time_s: Seconds from the beginning of the run to the end of the step, shape [k].
        elapsed_s: Seconds that the step took, shape [k].
        peak_bytes: Peak of memory during the step, shape [k].
        conflict_rate: Share of the pairs of gradients with a cosine below zero, shape [k].
        least_cosine: Smallest cosine of a pair of gradients, shape [k].
        has_gramian: Whether the Gramian of the step is kept, shape [k].
        has_shares: Whether its split over modules is kept, shape [k].
        scalars: Every further number by name, shape [k] each.
    """

    steps: NDArray[np.int64]
    losses: NDArray[np.float64]
    weights: NDArray[np.float64]
    inner: NDArray[np.float64]
    direction_norm: NDArray[np.float64]
    time_s: NDArray[np.float64]
    elapsed_s: NDArray[np.float64]
    peak_bytes: NDArray[np.float64]
    conflict_rate: NDArray[np.float64]
    least_cosine: NDArray[np.float64]
    has_gramian: NDArray[np.bool_]
    has_shares: NDArray[np.bool_]
    scalars: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
