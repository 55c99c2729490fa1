import csv
import io
import sys
from dataclasses import replace

import numpy as np
import pytest
from pyarrow import parquet

from jdviz.runs import TransferError
from jdviz.runs.outputs import (
    csv_bytes,
    objective_names,
    parquet_bytes,
    series_columns,
    write_csv,
    write_parquet,
)
from tests.support.records import make_record


@pytest.fixture
def columns(store):
    run_id = store.create_run({}, objectives=("left, right", "b"))
    first = replace(make_record(0), peak_bytes=2**40, scalars={"accuracy": 0.1})
    store.append(run_id, [first, replace(make_record(7), weights=None, inner=None)])
    return series_columns(store, run_id)


NAMES = [
    "step",
    "time_s",
    "elapsed_s",
    *(
        f"{kind}[{name}]"
        for kind in ("loss", "weight", "inner")
        for name in ("left, right", "b", "2")
    ),
    "direction_norm",
    "conflict_rate",
    "least_cosine",
    "peak_bytes",
    "scalar[accuracy]",
]


def test_every_series_is_a_column(columns):
    assert list(columns) == NAMES
    first, last = make_record(0), make_record(7)
    np.testing.assert_array_equal(columns["step"], [0, 7])
    np.testing.assert_array_equal(columns["loss[b]"], [first.losses[1], last.losses[1]])
    np.testing.assert_array_equal(columns["weight[2]"], [first.weights[2], np.nan])
    np.testing.assert_array_equal(columns["inner[left, right]"], [first.inner[0], np.nan])
    np.testing.assert_array_equal(columns["peak_bytes"], [2.0**40, np.nan])
    np.testing.assert_array_equal(columns["scalar[accuracy]"], [0.1, np.nan])


def test_what_no_step_has_is_no_column(store):
    run_id = store.create_run({})
    bare = replace(make_record(0), gramian=None, weights=None, inner=None, direction_norm=None)
    store.append(run_id, [bare])
    names = ["step", "time_s", "elapsed_s", "loss[0]", "loss[1]", "loss[2]"]
    assert list(series_columns(store, run_id)) == names
    assert list(series_columns(store, "nobody")) == ["step", "time_s", "elapsed_s"]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ((), ["0", "1", "2"]),
        (("a",), ["a", "1", "2"]),
        (("a", "a", "a"), ["a", "a (1)", "a (2)"]),
        (("a (2)", "a", "a"), ["a (2)", "a", "a (2) (2)"]),
        (("1",), ["1", "1 (1)", "2"]),
        (("a", "b", "c", "d"), ["a", "b", "c"]),
    ],
)
def test_every_objective_has_a_name_of_its_own(named, expected):
    assert objective_names(named, 3) == expected


def test_csv_has_every_digit_and_nothing_for_nan(columns, tmp_path):
    rows = list(csv.reader(io.StringIO(csv_bytes(columns).decode())))
    assert rows[0] == NAMES
    assert len(rows) == 3
    for name, first, last in zip(*rows, strict=True):
        got = [float(text) if text else np.nan for text in (first, last)]
        np.testing.assert_array_equal(got, columns[name])
    assert rows[2][NAMES.index("weight[b]")] == ""
    assert (rows[1][0], rows[2][0]) == ("0", "7")
    path = tmp_path / "run.csv"
    write_csv(columns, path)
    assert path.read_bytes() == csv_bytes(columns)


def test_parquet_comes_back_bit_for_bit(columns, tmp_path):
    table = parquet.read_table(io.BytesIO(parquet_bytes(columns)))
    assert table.column_names == NAMES
    for name, values in columns.items():
        back = table[name].to_numpy()
        assert back.dtype == values.dtype
        np.testing.assert_array_equal(back, values)
    write_parquet(columns, tmp_path / "run.parquet")
    assert (tmp_path / "run.parquet").read_bytes() == parquet_bytes(columns)


def test_parquet_without_its_library_says_what_to_install(columns, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"Install it \(pip install pyarrow\), or write CSV"):
        parquet_bytes(columns)


def test_a_file_that_cannot_be_written_says_so(columns, tmp_path):
    with pytest.raises(TransferError, match="cannot be written"):
        write_csv(columns, tmp_path / "nowhere" / "run.csv")
    assert list(tmp_path.glob("*.csv")) == []
