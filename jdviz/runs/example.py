"""The bundled example: a short recorded run, so that no page opens on an empty axis.

It is an ordinary store with one ordinary run. `python -m jdviz.runs.example` records it anew.
"""

import sys
from pathlib import Path

from jdviz.runs.store import RunStore

EXAMPLE_PATH = Path(__file__).parent / "example.sqlite"


def example_store() -> RunStore:
    """Open the bundled run store for reading.

    Returns:
        A store with exactly one finished run.

    Raises:
        StoreError: If the file is missing or damaged.
    """
    return RunStore(EXAMPLE_PATH, read_only=True)


def record_example(path: Path) -> None:
    """Train the digits MLP for 80 steps and write the run to `path`, replacing what is there.

    Args:
        path: The SQLite file to write.
    """
    from jdviz.training import RunConfig, train

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
        conflict=0.5,
    )
    store = RunStore(path)
    run_id = store.create_run(config.to_dict(), run_id="example")
    store.append(run_id, list(train(config)))
    store.set_status(run_id, "finished")
    store.seal()


if __name__ == "__main__":
    record_example(Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLE_PATH)
