import json

import pytest

from benchmarks.__main__ import main
from benchmarks.bounds import Bound
from benchmarks.cases import Case
from benchmarks.growth import (
    Point,
    grown,
    limit_ms,
    measure_growth,
    workspace_limit_bytes,
)
from benchmarks.report import Report
from benchmarks.timing import Timed
from jdviz.problems.base import parameter_count
from jdviz.problems.subjects import SUBJECTS
from jdviz.profiling import Limits, MeasurementError
from tests.benchmarks.made import MIB, fails, inspected, measuring, times, timing

LIMITS = Limits()
MLP = Point(Case("mlp"), "batch size", 64)
METHODS = ["sgd", "fused"]


def timed(problem, durations_ms):
    return Timed(Case(problem), times([], durations_ms), Bound(100, 20, 0.5))


def measured(monkeypatch, peaks, durations_ms, predicted=2 * MIB):
    """A report on one point, of what is made up."""
    monkeypatch.setattr("benchmarks.repeating.measure", measuring(peaks))
    monkeypatch.setattr("benchmarks.timing.measure_times", timing(durations_ms))
    monkeypatch.setattr("benchmarks.timing.closed_form", lambda *_: Bound(100, 20, 0.5))
    monkeypatch.setattr("benchmarks.growth.structure_of", lambda *_: None)
    monkeypatch.setattr("benchmarks.growth.predicted_bytes", lambda *_: predicted)
    return measure_growth([MLP], list(peaks), None, LIMITS, memory=True)


def cells(report, row):
    return dict(zip(report.columns, report.rows[row], strict=True))


@pytest.mark.timeout(300)
def test_growth_measures_beside_its_prediction_and_draws_both(tmp_path):
    files = {kind: tmp_path / f"growth.{kind}" for kind in ("json", "html")}
    written = [part for kind, file in files.items() for part in (f"--{kind}", str(file))]
    asked = ["--problem", "mlp", "--batches", "2", "--sizes", "--rounds", "1"]
    assert main(["growth", *asked, "--methods", "two-pass", *written]) == 0
    report = Report.from_dict(json.loads(files["json"].read_text()))
    assert set(report.figures) == {"mlp batch=2"}
    found = report.figures["mlp batch=2"]
    assert (found["axis"], found["x"]) == ("batch size", 2)
    for method in ("sgd", "two-pass"):
        peak = found["peaks"][method]
        assert 0.5 < peak["predicted_bytes"] / peak["peak_bytes"][0] < 2
    shown = files["html"].read_text()
    assert "mlp: growth with the batch size" in shown
    assert shown.count('class="plotly-graph-div"') == 1


def test_growth_is_over_batches_and_model_sizes():
    points, notes = grown([Case("cifar_cnn"), Case("mlp")], [8, 32], None, LIMITS)
    assert [(point.case.name, point.axis, point.x) for point in points] == [
        ("cifar_cnn batch=8", "batch size", 8),
        ("cifar_cnn batch=32", "batch size", 32),
        ("mlp batch=8", "batch size", 8),
        ("mlp batch=32", "batch size", 32),
        *((f"mlp size={width}", "width", width) for width in (64, 128, 256, 512, 1024)),
    ]
    assert notes == []
    asked, _ = grown([Case("cifar_cnn"), Case("mlp")], [8], ["64"], LIMITS)
    assert [point.case.name for point in asked] == [
        "cifar_cnn batch=8",
        "mlp batch=8",
        "mlp size=64",
    ]
    with pytest.raises(MeasurementError, match="got --sizes 65, expected a model size of one"):
        grown([Case("mlp")], [8], ["64", "65"], LIMITS)


def test_a_problem_that_does_not_load_leaves_the_others(monkeypatch):
    monkeypatch.setattr("benchmarks.cases.inspect", fails("a:b could not be loaded."))
    points, notes = grown([Case("a:b"), Case("cifar_cnn")], [8], None, LIMITS)
    assert [point.case.name for point in points] == ["cifar_cnn batch=8"]
    assert notes == ["a:b could not be loaded."]
    with pytest.raises(MeasurementError, match=r"^a:b could not be loaded\.$"):
        grown([Case("a:b")], [8], None, LIMITS)


def test_sizes_that_are_no_widths_are_told_apart_by_their_parameters():
    points, _ = grown([Case("digits_mlp")], [8], None, LIMITS)
    sizes = list(SUBJECTS["digits_mlp"].sizes)
    assert [point.case.size for point in points[1:]] == sizes
    models = [SUBJECTS["digits_mlp"].build(size, 1).model for size in sizes]
    assert [point.x for point in points[1:]] == [parameter_count(model) for model in models]
    assert {point.axis for point in points[1:]} == {"parameters"}


def test_a_problem_that_comes_with_one_batch_is_measured_there(monkeypatch):
    monkeypatch.setattr("benchmarks.cases.inspect", inspected(default_batch=7, resizable=False))
    points, notes = grown([Case("a:b")], [8, 32], None, LIMITS)
    assert [(point.case.name, point.x) for point in points] == [("a:b", 7)]
    assert notes == [
        "a:b comes with a batch of 7 and takes no other; give its factory an argument batch_size "
        "to see it grow."
    ]


def test_limits_of_growth_are_those_of_the_targets():
    durations = {"sgd": [2.0, 2.0]}
    assert limit_ms(timed("cifar_cnn", durations)) == pytest.approx(3)
    # 1.25 times the bound of 1.2, and 0.15 ms.
    assert limit_ms(timed("mlp", durations)) == pytest.approx(3.15)
    assert limit_ms(timed("alexnet", durations)) is None
    assert workspace_limit_bytes(MIB) == 16 * MIB
    assert workspace_limit_bytes(100 * MIB) == 25 * MIB


def test_growth_judges_time_and_workspace(monkeypatch):
    durations = {"sgd": [2.0, 2.0], "fused": [4.0, 4.0]}
    report = measured(monkeypatch, {"sgd": MIB, "fused": 3 * MIB}, durations)
    row = cells(report, 1)
    assert (row["limit ms"], row["time outcome"]) == ("3.15", "not met")
    assert (row["peak MiB"], row["predicted MiB"], row["workspace MiB"]) == ("3.00", "2.00", "2.00")
    assert (row["limit MiB"], row["memory outcome"]) == ("16.0", "met")


def test_a_failed_peak_is_a_labelled_point_and_is_not_timed(monkeypatch, tmp_path):
    failed = MeasurementError("autogram, fused: out of memory at batch 64, limit 1 GiB.", "memory")
    durations = {"sgd": [2.0, 2.0], "fused": [4.0, 4.0]}
    report = measured(monkeypatch, {"sgd": MIB, "fused": failed}, durations)
    assert report.notes == [f"mlp: {failed}"]
    row = cells(report, 1)
    assert (row["÷ SGD"], row["memory ÷ SGD"], row["predicted MiB"]) == ("failed", "failed", "2.00")
    peak = report.figures["mlp"]["peaks"]["fused"]
    assert peak == {"peak_bytes": [], "failure": str(failed), "predicted_bytes": 2 * MIB}
    from benchmarks.page import page

    shown = page(Report.from_dict({**report.to_dict(), "command": "growth"}))
    assert "out of memory at batch 64, limit 1 GiB" in shown


def test_without_memory_there_are_times_only(monkeypatch):
    monkeypatch.setattr("benchmarks.timing.measure_times", timing({"sgd": [2.0], "fused": [4.0]}))
    monkeypatch.setattr("benchmarks.timing.closed_form", lambda *_: Bound(100, 20, 0.5))
    report = measure_growth([MLP], METHODS, 1, LIMITS, memory=False)
    assert (cells(report, 1)["÷ SGD"], cells(report, 1)["peak MiB"]) == ("2.00", "")
    assert report.figures["mlp"]["peaks"] == {}
    monkeypatch.setattr("benchmarks.timing.measure_times", fails("Timing: no."))
    with pytest.raises(MeasurementError, match=r"^Timing: no\.$"):
        measure_growth([MLP], METHODS, 1, LIMITS, memory=False)
