"""The bundled measurement: the digits CNN at batch 64, so that no page opens on an empty axis.

`python -m jdviz.profiling.example` measures it anew.
"""

import json
from pathlib import Path

from jdviz.profiling.measure import measure
from jdviz.profiling.spec import STEP_METHODS, Measurement, MeasureSpec

EXAMPLE_PATH = Path(__file__).parent / "example.json"


def example_measurements() -> list[Measurement]:
    """Reads the bundled measurements.

    Returns:
        One measurement for each method, in the order of `STEP_METHODS`.
    """
    return [Measurement.from_dict(values) for values in json.loads(EXAMPLE_PATH.read_text())]


def record_example(path: Path) -> None:
    """Measures the digits CNN by every method and writes the result.

    Args:
        path: The JSON file to write.

    Raises:
        MeasurementError: If a measurement gave no result.
    """
    specs = [
        MeasureSpec(
            problem="digits_cnn",
            size="medium",
            batch_size=64,
            method=method,
            aggregator="UPGrad",
            seed=0,
        )
        for method in STEP_METHODS
    ]
    path.write_text(json.dumps([measure(spec).to_dict() for spec in specs]) + "\n")


if __name__ == "__main__":
    record_example(EXAMPLE_PATH)
