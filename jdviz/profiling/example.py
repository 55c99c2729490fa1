"""The bundled measurement: the digits CNN at batch 64, so that no page opens on an empty axis.

`python -m jdviz.profiling.example` measures it anew.
"""

import json
from functools import cache
from pathlib import Path

from jdviz.profiling.measure import compare
from jdviz.profiling.results import Comparison
from jdviz.profiling.spec import OURS, SGD, MeasurementError, MeasureSpec

EXAMPLE_PATH = Path(__file__).parent / "example.json"


@cache
def example_comparison() -> Comparison:
    """Reads the bundled measurement.

    Returns:
        The digits CNN by every method of ours and by the plain step.
    """
    return Comparison.from_dict(json.loads(EXAMPLE_PATH.read_text()))


def record_example(path: Path) -> None:
    """Measures the digits CNN and writes the result.

    Args:
        path: The JSON file to write.

    Raises:
        MeasurementError: If a measurement gave no result, or its times are disturbed.
    """
    found = compare(
        [MeasureSpec("digits_cnn", "medium", 64, method, "UPGrad") for method in (*OURS, SGD)]
    )
    wrong = [failure.sentence for failure in found.failures]
    if found.times is None or found.times.disturbed:
        wrong.append("The times were disturbed." if found.times else "There are no times.")
    if wrong:
        raise MeasurementError(" ".join(wrong))
    path.write_text(json.dumps(found.to_dict()) + "\n")


if __name__ == "__main__":
    record_example(EXAMPLE_PATH)
