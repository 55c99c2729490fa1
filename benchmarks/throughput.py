"""Steps a second of a run in a worker process beside the same loop without worker and store."""

import time
from pathlib import Path

import torch

from jdviz.profiling import MeasurementError
from jdviz.runs import FINAL_STATUSES, RunStore
from jdviz.training import RunConfig, train
from jdviz.training.pool import WorkerPool

STEPS = 400
WAIT_S = 300.0


def measure_throughput(folder: Path, rounds: int) -> list[float]:
    """Train the digits CNN in a worker and in this process in turn.

    Args:
        folder: For the run store.
        rounds: How often each is run.

    Returns:
        Steps a second of the worker ÷ those of the loop, by round; of either the steps from the
        first quarter on, by the wall clock.

    Raises:
        MeasurementError: A run did not finish.
    """
    config = RunConfig.from_dict(
        {
            "problem": "digits_cnn",
            "size": "medium",
            "batch_size": 64,
            "optimizer": "sgd",
            "learning_rate": 0.01,
            "engine": "autogram",
            "aggregator": "UPGrad",
            "seed": 0,
            "steps": STEPS,
        }
    )
    store = RunStore(folder / "runs.sqlite")
    pool = WorkerPool(store, 1, warm=False)
    # A worker has one thread, and so has the loop it is compared with.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_in_worker(pool, store, config) / _bare(config) for _ in range(rounds)]
    finally:
        torch.set_num_threads(threads)
        pool.close()


def _bare(config: RunConfig) -> float:
    """Steps a second of the loop alone."""
    began_s = 0.0
    for record in train(config):
        if record.step == STEPS // 4:
            began_s = time.perf_counter()
    return (STEPS - 1 - STEPS // 4) / (time.perf_counter() - began_s)


def _in_worker(pool: WorkerPool, store: RunStore, config: RunConfig) -> float:
    """Steps a second of a run, from the times at which its steps were seen in the store."""
    run_id = pool.start(config, owner="benchmark")
    first: tuple[float, int] | None = None
    end_s = time.monotonic() + WAIT_S
    while True:
        run = store.run(run_id)
        now_s = time.perf_counter()
        if run is None or time.monotonic() > end_s:
            raise MeasurementError(f"got no end of a run within {WAIT_S:g} s; try again.")
        if first is None and run.steps > STEPS // 4:
            first = (now_s, run.steps)
        if run.steps == STEPS or run.status in FINAL_STATUSES:
            break
        time.sleep(0.01)
    if first is None or run.steps < STEPS:
        raise MeasurementError(f"got a run that is {run.status}, expected a finished one.")
    return (run.steps - first[1]) / (now_s - first[0])
