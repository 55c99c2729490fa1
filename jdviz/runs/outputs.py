"""The numbers of a run that are drawn over time, as columns of a table: CSV and Parquet."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jdviz.runs.errors import TransferError
from jdviz.runs.files import replacing
from jdviz.runs.store import RunStore

Columns = Mapping[str, NDArray[Any]]


def series_columns(store: RunStore, run_id: str) -> dict[str, NDArray[Any]]:
    """Every step of a run as columns.

    Args:
        store: Where the run is.
        run_id: The run.

    Returns:
        Name to values, shape [k] each: `step` (whole numbers), `time_s` and `elapsed_s` in
        seconds, `loss[…]`, `weight[…]` and `inner[…]` of every objective by its name or else its
        place, `direction_norm`, `conflict_rate`, `least_cosine`, `peak_bytes`, and `scalar[…]` of
        every further number by its name. NaN where a step has no such number; what no step has is
        left out.

    Raises:
        StoreError: If the store cannot be read.
    """
    run = store.run(run_id)
    series = store.series(run_id, max_points=None)
    names = objective_names(() if run is None else run.objectives, series.losses.shape[1])
    columns: dict[str, NDArray[Any]] = {
        "step": series.steps,
        "time_s": series.time_s,
        "elapsed_s": series.elapsed_s,
    }
    for title, values in (
        ("loss", series.losses),
        ("weight", series.weights),
        ("inner", series.inner),
    ):
        if np.isfinite(values).any() or title == "loss":
            columns |= {f"{title}[{name}]": values[:, i] for i, name in enumerate(names)}
    for title, column in (
        ("direction_norm", series.direction_norm),
        ("conflict_rate", series.conflict_rate),
        ("least_cosine", series.least_cosine),
        ("peak_bytes", series.peak_bytes),
    ):
        if not np.isnan(column).all():
            columns[title] = column
    return columns | {f"scalar[{name}]": values for name, values in series.scalars.items()}


def objective_names(named: Sequence[str], m: int) -> list[str]:
    """A name of its own for every objective.

    Args:
        named: What a run says; may be shorter or longer than m, and have a name twice.
        m: Number of objectives.

    Returns:
        The names, length m; the place, from 0, where a name is missing or was there before.
    """
    names: dict[str, None] = {}
    for place in range(m):
        name = named[place] if place < len(named) else str(place)
        while name in names:
            name += f" ({place})"
        names[name] = None
    return list(names)


def csv_bytes(columns: Columns) -> bytes:
    """Columns as CSV.

    Args:
        columns: Name to values of one length.

    Returns:
        UTF-8 text: a line of names, then one for every step; every digit that a number has, and
        nothing for NaN.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(_cells(values) for values in columns.values()), strict=True))
    return text.getvalue().encode()


def parquet_bytes(columns: Columns) -> bytes:
    """Columns as Parquet.

    Args:
        columns: Name to values of one length.

    Returns:
        The content of the file, 64-bit numbers.

    Raises:
        ImportError: If pyarrow is not installed.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]  # ships no annotations
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            "got no pyarrow, expected it for Parquet. Install it (pip install pyarrow), or write "
            "CSV, which needs nothing."
        ) from error
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(dict(columns)), buffer)
    return buffer.getvalue()


def write_csv(columns: Columns, path: Path) -> None:
    """Write columns as CSV; see `csv_bytes`.

    Args:
        columns: Name to values of one length.
        path: The file; it is complete or as it was.

    Raises:
        TransferError: If the file cannot be written.
    """
    _write(csv_bytes(columns), path)


def write_parquet(columns: Columns, path: Path) -> None:
    """Write columns as Parquet; see `parquet_bytes`.

    Args:
        columns: Name to values of one length.
        path: The file; it is complete or as it was.

    Raises:
        TransferError: If the file cannot be written.
        ImportError: If pyarrow is not installed.
    """
    _write(parquet_bytes(columns), path)


def _write(content: bytes, path: Path) -> None:
    try:
        with replacing(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise TransferError(
            f"The file {path} cannot be written ({error.strerror}). Check that there is space, "
            "and that the folder is yours to write."
        ) from error


def _cells(values: NDArray[Any]) -> list[str]:
    return ["" if value != value else repr(value) for value in values.tolist()]
