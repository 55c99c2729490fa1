"""The bundled example: a short recorded run, so that no page opens on an empty axis.

It is an ordinary store with one ordinary run. `python -m jdviz.runs.example` records it anew.
"""

import sys
from pathlib import Path

from jdviz.runs.loading import RecordedRun
from jdviz.runs.store import RunStore

# The file travels with the package, so it holds few.
CHECKPOINTS_EVERY = 20
EXAMPLE_PATH = Path(__file__).parent / "example.sqlite"


def example_store() -> RunStore:
    """Open the bundled run store for reading.

    Returns:
        A store with exactly one finished run.

    Raises:
        StoreError: If the file is missing or damaged.
    """
    return RunStore(EXAMPLE_PATH, read_only=True)


def example_run() -> RecordedRun:
    """Open the bundled run for reading, as `load_run` opens one of your own.

    Raises:
        StoreError: If the file is missing or damaged.
    """
    store = example_store()
    return RecordedRun(store, store.runs(limit=1)[0].run_id)


def record_example(path: Path) -> None:
    """Train the digits MLP for 80 steps and write the run to `path`, replacing what is there.

    Args:
        path: The SQLite file to write.
    """
    from jdviz.training import RunConfig
    from jdviz.training.checkpoints import pack
    from jdviz.training.loop import Trainer

    path.unlink(missing_ok=True)
    config = RunConfig(
        problem="digits_mlp",
        size="small",
        batch_size=32,
        optimizer="sgd",
        learning_rate=0.05,
        engine="autogram",
        aggregator="UPGrad",
        seed=0,
        steps=80,
        conflict=0.0,
    )
    store = RunStore(path)
    run_id = store.create_run(config.to_dict(), run_id="example", name="Example")
    run = Trainer(config)
    for step in range(config.steps):
        if step % CHECKPOINTS_EVERY == 0:
            store.save_checkpoint(run_id, step, pack(run))
        store.append(run_id, [run.advance()])
    store.set_status(run_id, "finished")
    store.seal()


if __name__ == "__main__":
    record_example(Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLE_PATH)
