import csv
import json

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.bounds import Bound
from benchmarks.cases import Case
from benchmarks.report import Report
from benchmarks.step_time import measure_step_time
from jdviz.problems.subjects import SUBJECTS
from jdviz.problems.workloads import WORKLOADS
from jdviz.profiling import Comparison, Limits, MeasurementError
from tests.benchmarks.made import fails, inspected, timing

DURATIONS = {
    "sgd": [1.0, 1.0],
    "fused": [1.5, 1.5],
    "two-pass": [2.0, 2.0],
    "autojac": [1.0, 1.0],
    "torchjd autojac": [2.0, 2.0],
}
METHODS = list(DURATIONS)


@pytest.fixture
def bound(monkeypatch):
    """A closed form that needs no model."""
    monkeypatch.setattr(Case, "build", lambda case: (SUBJECTS["mlp"], None))
    monkeypatch.setattr("benchmarks.timing.closed_form", lambda *_: Bound(100, 20, 0.5))


def use(monkeypatch, measure_times):
    monkeypatch.setattr("benchmarks.timing.measure_times", measure_times)


@pytest.mark.timeout(300)
def test_time_prints_and_writes_the_same_measurement(capsys, tmp_path):
    files = {kind: tmp_path / f"time.{kind}" for kind in ("json", "csv", "html")}
    written = [part for kind, file in files.items() for part in (f"--{kind}", str(file))]
    asked = ["time", "--problem", "mlp", "--size", "64", "--batch", "4", "--rounds", "2"]
    before = torch.get_num_threads()
    assert main([*asked, "--methods", "fused", "two-pass", *written]) == 0
    assert torch.get_num_threads() == before
    report = Report.from_dict(json.loads(files["json"].read_text()))
    printed = capsys.readouterr().out
    assert report.command == "time"
    assert report.machine["threads"] == "1"
    name = "mlp size=64 batch=4"
    measured = report.figures[name]
    assert set(measured["methods"]) == {"sgd", "fused", "two-pass"}
    for entry in measured["methods"].values():
        assert len(entry["durations_ms"]) == len(entry["ratios"]) == 2
        assert entry["gradient_error"] <= 1e-5
    assert measured["methods"]["sgd"]["ratios"] == [1, 1]
    assert measured["bound_ratio"] > 1
    times = Comparison.from_dict(report.comparisons[name]).times
    assert times.durations_ms["fused"] == measured["methods"]["fused"]["durations_ms"]
    table = list(csv.reader(files["csv"].read_text().splitlines()))
    assert table == [report.columns, *report.rows]
    shown = files["html"].read_text()
    assert shown.count('class="plotly-graph-div"') == 1
    for row in report.rows:
        assert " ".join(cell for cell in row if cell) in " ".join(printed.split())
        assert row[1] in shown


def test_targets_are_those_of_the_workloads_as_they_are(monkeypatch, bound):
    use(monkeypatch, timing(DURATIONS))
    found = measure_step_time([Case(name) for name in WORKLOADS], METHODS, None, Limits())
    judged = {(row[0], row[1]): row[-2:] for row in found.rows}
    assert judged["mlp", "fused"] == ["≤ 1.8", "met"]
    assert judged["mlp", "two-pass"] == ["", ""]
    assert judged["mlp", "autojac ÷ torchjd autojac"] == ["≤ 1", "met"]
    assert judged["cifar_cnn", "autojac ÷ torchjd autojac"] == ["≤ 0.3", "not met"]
    assert judged["geometric mean", "fused"] == ["≤ 1.4", "not met"]
    assert judged["geometric mean", "two-pass"] == ["≤ 1.9", "not met"]
    # Two of five say nothing about the mean over all.
    fewer = measure_step_time([Case("mlp"), Case("alexnet")], METHODS, None, Limits())
    assert next(row for row in fewer.rows if row[0] == "geometric mean")[-2:] == ["", ""]
    other = measure_step_time([Case("mlp", batch_size=8)], METHODS, None, Limits())
    assert not any(row[-1] for row in other.rows)


def test_a_method_that_failed_is_a_row_and_has_no_mean(monkeypatch, bound):
    durations = {"sgd": [1.0, 1.0], "two-pass": [2.0, 2.0]}
    failures = {"fused": "failed with RuntimeError: no"}
    errors = {"sgd": 0.0, "two-pass": 0.1}
    use(monkeypatch, timing(durations, failures=failures, errors=errors, disturbed="Busy."))
    cases = [Case("mlp"), Case("alexnet")]
    found = measure_step_time(cases, ["sgd", "fused", "two-pass"], None, Limits())
    row = next(row for row in found.rows if row[:2] == ["mlp", "fused"])
    assert (row[2], row[-1]) == ("failed", "fused: failed with RuntimeError: no.")
    assert [row[1] for row in found.rows if row[0] == "geometric mean"] == ["two-pass"]
    assert found.notes[:2] == [
        "mlp: Busy.",
        "two-pass on mlp left gradients that differ from SGD's by 1e-01.",
    ]


def test_weights_that_are_not_uniform_have_no_error_and_no_target(monkeypatch, bound):
    use(monkeypatch, timing(DURATIONS, errors={}))
    found = measure_step_time([Case("mlp", aggregator="UPGrad")], METHODS, None, Limits())
    row = dict(zip(found.columns, found.rows[1], strict=True))
    assert (row["problem"], row["method"]) == ("mlp UPGrad", "fused")
    assert (row["÷ SGD"], row["gradient error"], row["target"]) == ("1.50", "", "")


def test_a_model_that_the_engine_refuses_has_no_bound_and_a_note(monkeypatch):
    use(monkeypatch, timing({"sgd": [1.0]}, failures={"fused": "failed with BatchMixedError"}))
    monkeypatch.setattr("benchmarks.cases.inspect", inspected("full"))
    cases = [Case("tests.benchmarks.tiny:MIXING")]
    found = measure_step_time(cases, ["sgd", "fused"], 1, Limits())
    assert "bound_ratio" not in next(iter(found.figures.values()))
    assert "The engine refuses the model: BatchMixedError" in found.notes[0]


def test_a_problem_without_times_leaves_the_others(monkeypatch, bound):
    use(monkeypatch, timing(DURATIONS))
    monkeypatch.setattr("benchmarks.cases.inspect", fails("a:b could not be loaded."))
    found = measure_step_time([Case("a:b"), Case("mlp")], METHODS, None, Limits())
    assert found.rows[0][:3] == ["a:b", "every method", "failed"]
    assert found.rows[0][-1] == "a:b could not be loaded."
    assert set(found.figures) == {"mlp"}
    use(monkeypatch, fails("Timing: no."))
    with pytest.raises(MeasurementError, match=r"^Timing: no\.$"):
        measure_step_time([Case("mlp")], METHODS, None, Limits())
