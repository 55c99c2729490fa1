import json

import pytest

from benchmarks.__main__ import main
from benchmarks.cases import TIMEOUT_S, Case
from benchmarks.report import Report
from benchmarks.step_memory import measure_step_memory
from jdviz.problems.workloads import WORKLOADS
from jdviz.profiling import Comparison, Limits, MeasurementError, MeasureSpec, measure
from tests.benchmarks.made import MIB, fails, measuring

LIMITS = Limits(timeout_s=TIMEOUT_S)
METHODS = ["sgd", "fused", "two-pass", "autojac", "torchjd autojac"]


@pytest.fixture
def peaks(monkeypatch):
    """Peaks by method, instead of processes that measure."""
    found = {
        "sgd": 100 * MIB,
        "fused": 150 * MIB,
        "two-pass": (170 * MIB, 170 * MIB - 2),
        "autojac": 400 * MIB,
        "torchjd autojac": 200 * MIB,
    }
    monkeypatch.setattr("benchmarks.repeating.measure", measuring(found))
    return found


def cells(report, *wanted):
    """Some columns of every row, by problem and method."""
    places = [report.columns.index(name) for name in wanted]
    return {(row[0], row[1]): [row[place] for place in places] for row in report.rows}


@pytest.mark.timeout(300)
def test_the_command_and_the_page_agree_to_the_byte(capsys, tmp_path):
    files = {kind: tmp_path / f"memory.{kind}" for kind in ("json", "html")}
    asked = ["--problem", "digits_cnn", "--size", "small", "--batch", "8", "--aggregator", "UPGrad"]
    written = [part for kind, file in files.items() for part in (f"--{kind}", str(file))]
    assert main(["memory", *asked, "--methods", "fused", "--repeats", "1", *written]) == 0
    report = Report.from_dict(json.loads(files["json"].read_text()))
    name = "digits_cnn size=small batch=8 UPGrad"
    # What the page calls.
    here = measure(MeasureSpec("digits_cnn", "small", 8, "fused", "UPGrad"))
    assert report.figures[name]["fused"]["peak_bytes"] == [here.peak_bytes]
    assert report.figures[name]["fused"]["split_bytes"] == here.peak_split
    assert report.figures[name]["fused"]["layer"] == here.peak_source.layer
    there = Comparison.from_dict(report.comparisons[name]).of("fused")
    assert there.live_bytes == here.live_bytes
    assert there.changed_by == here.changed_by
    assert cells(report, "repeats")[name, "fused"] == ["agree"]
    assert f"{here.peak_bytes / MIB:#.3g}" in capsys.readouterr().out
    shown = files["html"].read_text()
    assert shown.count('class="plotly-graph-div"') == 3
    assert f"{name}: what the peak is made of" in shown


@pytest.mark.timeout(300)
def test_a_model_of_ones_own_is_measured_at_the_batch_it_comes_with(capsys, tmp_path):
    file = tmp_path / "memory.json"
    place = "tests.benchmarks.tiny:whole"
    asked = ["memory", "--problem", place, "--methods", "fused", "--repeats", "1"]
    assert main([*asked, "--json", str(file)]) == 0
    found = Report.from_dict(json.loads(file.read_text())).figures[place]["fused"]
    assert (found["failure"], found["objectives"], found["parameters"]) == ("", 3, 10)
    capsys.readouterr()
    assert main([*asked, "--batch", "5"]) == 1
    caught = capsys.readouterr().err
    assert caught.startswith(f"{place} ")
    assert "argument batch_size" in caught
    assert caught.count("\n") == 1


@pytest.mark.timeout(300)
def test_a_step_beyond_the_limit_is_a_row_and_the_others_stand(tmp_path):
    file = tmp_path / "memory.json"
    # The Jacobian alone has 64 rows of 34 MiB.
    asked = ["--problem", "mlp", "--size", "2048", "--methods", "autojac", "--repeats", "1"]
    assert main(["memory", *asked, "--memory-limit", "400", "--json", str(file)]) == 0
    report = Report.from_dict(json.loads(file.read_text()))
    found = cells(report, "÷ SGD", "outcome")
    assert found["mlp size=2048", "sgd"] == ["1.00", ""]
    failed, sentence = found["mlp size=2048", "autojac"]
    assert failed == "failed"
    assert sentence.startswith("autojac: ")
    assert "memory at batch 64, limit 400 MiB" in sentence
    assert report.figures["mlp size=2048"]["autojac"] == {"peak_bytes": [], "failure": sentence}


@pytest.mark.timeout(300)
def test_a_time_limit_that_ends_everything_is_one_sentence(capsys):
    asked = ["--problem", "mlp", "--methods", "fused", "--timeout", "0.01"]
    assert main(["memory", *asked]) == 1
    assert capsys.readouterr().err == (
        "plain SGD: stopped at batch 64 after 0.01 s, the time limit; choose a smaller batch or "
        "model.\n"
    )


def test_targets_are_those_of_the_workloads_as_they_are(peaks):
    whole = measure_step_memory([Case(name) for name in WORKLOADS], METHODS, 2, LIMITS)
    found = cells(whole, "÷ SGD", "repeats", "target", "outcome")
    assert found["mlp", "two-pass"] == ["1.70", "differ by 2 bytes", "≤ 1.6", "not met"]
    assert found["mlp", "fused"] == ["1.50", "agree", "", ""]
    assert found["mlp", "autojac ÷ torchjd autojac"] == ["2.00", "", "≤ 1", "not met"]
    assert found["geometric mean", "fused"] == ["1.50", "", "≤ 1.6", "met"]
    assert found["geometric mean", "two-pass"] == ["1.70", "", "≤ 1.3", "not met"]
    other = [Case("mlp", batch_size=8), Case("mlp", aggregator="UPGrad"), Case("digits_cnn")]
    assert not any(row[-1] for row in measure_step_memory(other, METHODS, 1, LIMITS).rows)


def test_the_peak_is_said_with_its_layer_and_what_it_is_made_of(peaks):
    report = measure_step_memory([Case("mlp")], ["sgd"], 1, LIMITS)
    assert dict(zip(report.columns, report.rows[0], strict=True)) == {
        "problem": "mlp",
        "method": "sgd",
        "÷ SGD": "1.00",
        "peak MiB": "100",
        "repeats": "agree",
        "in": "forward",
        "layer": "0",
        "at": "aten::mm",
        "activations MiB": "100",
        "Jacobian MiB": "0",
        "Gramian MiB": "0",
        "gradients MiB": "0",
        "workspace MiB": "0",
        "parameters MiB": "1.00",
        "target": "",
        "outcome": "",
    }


def test_a_method_that_fails_leaves_the_others_and_has_no_mean(peaks):
    peaks["fused"] = MeasurementError("autogram, fused: out of memory.", "memory")
    report = measure_step_memory([Case("mlp"), Case("alexnet")], METHODS[:3], 2, LIMITS)
    found = cells(report, "÷ SGD", "outcome")
    assert found["mlp", "fused"] == ["failed", "autogram, fused: out of memory."]
    assert found["mlp", "two-pass"][0] == "1.70"
    assert [method for name, method in found if name == "geometric mean"] == ["two-pass"]
    compared = Comparison.from_dict(report.comparisons["mlp"])
    assert [one.spec.method for one in compared.measurements] == ["sgd", "two-pass"]
    assert [(one.spec.method, one.kind) for one in compared.failures] == [("fused", "memory")]


def test_without_a_plain_step_there_is_nothing_to_divide_by(peaks):
    peaks["sgd"] = MeasurementError("plain SGD: no.")
    report = measure_step_memory([Case("mlp")], METHODS[:2], 1, LIMITS)
    assert cells(report, "÷ SGD", "peak MiB")["mlp", "fused"] == ["–", "150"]


def test_a_problem_that_does_not_load_leaves_the_others(peaks, monkeypatch):
    monkeypatch.setattr("benchmarks.cases.inspect", fails("a:b could not be loaded."))
    report = measure_step_memory([Case("a:b"), Case("mlp")], METHODS[:2], 1, LIMITS)
    found = cells(report, "÷ SGD", "outcome")
    assert found["a:b", "every method"] == ["failed", "a:b could not be loaded."]
    assert found["mlp", "fused"] == ["1.50", ""]
    with pytest.raises(MeasurementError, match=r"^a:b could not be loaded\.$"):
        measure_step_memory([Case("a:b")], METHODS[:2], 1, LIMITS)


def test_a_page_draws_both_engines_and_needs_no_network(peaks, tmp_path):
    file = tmp_path / "page.html"
    assert main(["memory", "--problem", "mlp", "--html", str(file)]) == 0
    shown = file.read_text()
    assert shown.count('class="plotly-graph-div"') == 3
    for part in ("memory during the step", "memory of every method", "what the peak is made of"):
        assert f"mlp: {part}" in shown
    assert "https://" not in shown.split("</script>")[-1]
