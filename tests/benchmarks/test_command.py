import csv
import json
import subprocess
import sys

import pytest
import torch

from benchmarks.__main__ import main


def test_memory_needs_none_of_the_test_tools():
    code = "import sys, benchmarks.__main__; print({'pytest', 'playwright'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_app_without_the_test_tools_says_what_to_install(monkeypatch, capsys):
    for module in ("benchmarks.app", "tests.support.browser"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    assert main(["app"]) == 1
    assert "make environment-dev" in capsys.readouterr().err


def test_exact_prints_errors_and_refusals_and_hides_no_other(monkeypatch, capsys):
    from benchmarks import exact
    from tests.engines.edges.record import Edge

    def half_off(dtype):
        yield torch.ones(2, dtype=dtype), torch.full((2,), 2.0, dtype=dtype)

    def refusing(dtype):
        raise ValueError("no")

    rows = [
        Edge("autogram", "off", half_off, dtypes=(torch.float64,)),
        Edge("autojac", "refused", refusing, ValueError, "no", dtypes=(torch.float32,)),
    ]
    monkeypatch.setattr(exact, "EDGES", {row.id: row for row in rows})
    assert main(["exact"]) == 0
    printed = capsys.readouterr().out
    assert "5.0e-01" in printed
    assert "ValueError  refused" in printed
    monkeypatch.setattr(exact, "EDGES", {"crash": Edge("autogram", "crash", refusing)})
    with pytest.raises(ValueError, match="no"):
        main(["exact"])


def test_aggregation_times_every_weighting_and_checks_the_update(capsys, tmp_path):
    from engines.aggregation import METHODS

    files = {kind: tmp_path / f"table.{kind}" for kind in ("json", "csv")}
    asked = [part for kind, file in files.items() for part in (f"--{kind}", str(file))]
    assert main(["aggregation", "--sizes", "4", "8", "--repeats", "2", *asked]) == 0
    written = json.loads(files["json"].read_text())
    durations = written["figures"]["durations_ms"]
    weighted = {name for name, record in METHODS.items() if record.make_weighting is not None}
    assert weighted <= set(durations)
    assert all(len(found) == 2 for name in weighted for found in durations[name].values())
    # The exact solver and "auto" agree; the regularized one is off by more.
    errors = written["figures"]["errors"]
    assert errors["UPGrad: error of the update"]["8"] <= 1e-6
    assert errors["quadprog row by row: error of the update"]["8"] > 1e-6
    table = list(csv.reader(files["csv"].read_text().splitlines()))
    assert table[0] == ["weighting", "m = 4", "m = 8"]
    assert table[1:] == written["rows"]
    assert "quadprog row by row ÷ UPGrad" in capsys.readouterr().out


def test_aggregation_refuses_what_it_cannot_measure(monkeypatch, capsys):
    assert main(["aggregation", "--sizes", "0"]) == 1
    assert "expected whole numbers >= 1" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torchjd", None)
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    assert main(["aggregation", "--peer"]) == 1
    assert "pip install" in capsys.readouterr().err


def test_row_by_row_is_upgrad_up_to_its_regularizer():
    from benchmarks.aggregation import row_by_row

    # As in the pinned case of UPGrad: weights 10/9 and 15/19 without a regularizer.
    gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]])
    assert row_by_row(gramian).tolist() == pytest.approx([10 / 9, 15 / 19], rel=1e-3)
