"""Where else a run's scalar series can go: TensorBoard, MLflow, Weights & Biases."""

import importlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jdviz.runs.schema import measures
from jdviz.training.record import StepRecord

#: Weights of more objectives than this would fill a board with curves.
MOST_WEIGHTS = 16


class ScalarAdapter(Protocol):
    """Takes the numbers of every step, in ascending order, from the recorder's own thread."""

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Take one step.

        Args:
            step: Its number.
            scalars: Its numbers by name.
        """

    def close(self) -> None:
        """Send what is left."""


def scalars_of(record: StepRecord, objectives: Sequence[str]) -> dict[str, float]:
    """The numbers of a step that boards draw curves of.

    Args:
        record: The step.
        objectives: Names of the objectives; where there are none, their numbers from 0.

    Returns:
        Losses, weights of at most 16 objectives, conflict rate, smallest cosine, length of the
        update direction, and what else was logged by name.
    """
    m = len(record.losses)
    names = list(objectives) if len(objectives) == m else [str(place) for place in range(m)]
    found = {f"loss/{name}": float(v) for name, v in zip(names, record.losses, strict=True)}
    if record.weights is not None and m <= MOST_WEIGHTS:
        found |= {f"weight/{name}": float(v) for name, v in zip(names, record.weights, strict=True)}
    rate, least = measures(record.gramian)
    more = {
        "conflict/rate": rate,
        "conflict/least_cosine": least,
        "jd/direction_norm": record.direction_norm,
    }
    found |= {name: value for name, value in more.items() if value is not None}
    return {**found, **record.scalars}


class TensorBoard:
    """Writes to TensorBoard.

    Args:
        target: A folder for event files, or a `SummaryWriter` of your own, which stays open.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, target: Any) -> None:
        self._own = isinstance(target, str | Path)
        if self._own:
            board = _imported("torch.utils.tensorboard", "tensorboard")
            target = board.SummaryWriter(str(target))
        self._writer = target

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `ScalarAdapter.write`."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `ScalarAdapter.close`."""
        if self._own:
            self._writer.close()
        else:
            self._writer.flush()


class MLflow:
    """Writes metrics to an MLflow run.

    Args:
        run_id: Of the run; by default the active one, or a new one where none is active, which
            ends with the recorder.

    Raises:
        ImportError: MLflow is not installed.
    """

    def __init__(self, run_id: str | None = None) -> None:
        self._mlflow = _imported("mlflow", "mlflow")
        self._client = self._mlflow.MlflowClient()
        self._own = False
        # MLflow's active run belongs to a thread, and the recorder writes from its own.
        if run_id is None:
            active = self._mlflow.active_run()
            self._own = active is None
            active = active or self._mlflow.start_run()
            run_id = active.info.run_id
            if self._own:
                # It is ended by its identifier; left active, it would catch what others log.
                self._mlflow.end_run("RUNNING")
        self._run_id = run_id

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `ScalarAdapter.write`."""
        now_ms = int(1e3 * time.time())
        metric = self._mlflow.entities.Metric
        self._client.log_batch(
            self._run_id,
            metrics=[
                # These are all the characters that MLflow allows.
                metric(re.sub(r"[^\w\-. /:]", "_", name), value, now_ms, step)
                for name, value in scalars.items()
            ],
        )

    def close(self) -> None:
        """See `ScalarAdapter.close`."""
        if self._own:
            self._client.set_terminated(self._run_id)


class WeightsAndBiases:
    """Writes to a Weights & Biases run, over a step of its own, `jdviz_step`.

    Args:
        run: What `wandb.init` returned; by default the current run, or a new one where there is
            none, which ends with the recorder.

    Raises:
        ImportError: wandb is not installed.
    """

    def __init__(self, run: Any = None) -> None:
        self._own = False
        if run is None:
            wandb = _imported("wandb", "wandb")
            self._own = wandb.run is None
            run = wandb.init() if self._own else wandb.run
        self._run = run
        self._known: set[str] = set()
        run.define_metric("jdviz_step")

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `ScalarAdapter.write`."""
        for name in scalars.keys() - self._known:
            # Its own counter goes up at every call of `log`, also at those of the script.
            self._run.define_metric(name, step_metric="jdviz_step")
            self._known.add(name)
        self._run.log({"jdviz_step": step, **scalars})

    def close(self) -> None:
        """See `ScalarAdapter.close`."""
        if self._own:
            self._run.finish()


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"got no {package} in this environment ({error}), expected it where numbers are to go "
            f"there; install it with `pip install {package}`, or leave the adapter out."
        ) from error
