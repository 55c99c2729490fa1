"""What the problems whose objectives are tasks share."""

import numpy as np
from numpy.typing import NDArray

from jdviz.problems.base import Problem


class TaskProblem(Problem):
    """Several tasks on the same samples; each objective is a mean over the batch."""

    def objective_names(self, m: int) -> tuple[str, ...]:
        """Returns the names of the tasks; m must be their number."""
        if m != len(self.task_names):
            raise ValueError(
                f"got {m} objectives, expected the {len(self.task_names)} tasks of {self.title}; "
                f"give m={len(self.task_names)}"
            )
        return self.task_names

    def sample_names(self, sample_ids: NDArray[np.int64]) -> tuple[str, ...]:
        """Names samples by their row in the data."""
        return tuple(f"sample {row}" for row in sample_ids.tolist())
