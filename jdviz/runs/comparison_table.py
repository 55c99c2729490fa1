"""What a comparison of runs found, as a table to take along."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from jdviz.runs.comparison import Result, common_end, deltas, final
from jdviz.runs.describing import METHOD, seed_of

_SETTINGS = ("problem", METHOD, "engine")


def comparison_csv(
    results: Sequence[Result], names: Sequence[str], baselines: Sequence[Result | None]
) -> str:
    """Final losses and Δ% of several runs as CSV, one line for each run.

    Args:
        results: The runs.
        names: What every run is called.
        baselines: What every run is compared with, one of `results`, or None.

    Returns:
        The text: what the run is, the step at which it is compared, its final losses, its
        baseline and Δ% where they can be compared; numbers in full precision.
    """
    found, _ = deltas(list(zip(results, baselines, strict=True)), names)
    compared = {delta.result.run.run_id: delta for delta in found}
    called = {result.run.run_id: name for result, name in zip(results, names, strict=True)}
    tasks = list(dict.fromkeys(name for result in results for name in result.names))
    columns = found[0].tasks if found else ()
    rows = []
    for result, name in zip(results, names, strict=True):
        delta = compared.get(result.run.run_id)
        until = common_end([result]) if delta is None else delta.step
        at_end = final(result, until)
        losses = dict(zip(result.names, at_end.losses.tolist(), strict=False))
        percent: list[float | None] = [None] * (len(columns) + 1)
        if delta is not None:
            percent = [*delta.per_task.tolist(), delta.mean]
        rows.append(
            [
                name,
                result.run.run_id,
                *(result.run.config.get(key) for key in _SETTINGS),
                seed_of(result.run),
                until,
                at_end.mean_loss,
                *(losses.get(task) for task in tasks),
                None if delta is None else called[delta.baseline.run.run_id],
                *percent,
            ]
        )
    head = ["run", "identifier", *_SETTINGS, "seed", "step", "final mean loss"]
    head += [f"final loss [{task}]" for task in tasks]
    return _csv(
        [*head, "baseline", *(f"delta % [{column}]" for column in columns), "delta % mean"], rows
    )


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if _is_missing(value) else value for value in row])
    return out.getvalue()


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
