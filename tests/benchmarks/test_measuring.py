import csv
import json
import sys

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.bounds import Bound
from benchmarks.cases import Case
from benchmarks.growth import grown, limit_ms, workspace_limit_bytes
from benchmarks.peaks import Peaks, measure_peaks
from benchmarks.report import Report
from benchmarks.step_memory import measure_step_memory
from benchmarks.step_time import measure_step_time
from benchmarks.timing import Timed
from benchmarks.turns import Taken
from jdviz.problems.workloads import WORKLOADS
from jdviz.profiling import MeasurementError

PLACE = "tests.benchmarks.tiny:TINY"
TOKENS = "tests.benchmarks.tiny:TOKENS"
TWO = ("fused", "two-pass")
MIB = 2**20


def timed(workload, durations_ms, failures=None, errors=None):
    errors = errors or dict.fromkeys(durations_ms, 0.0)
    bound = Bound(100, 20, 0.5)
    return Timed(Case(workload), Taken(durations_ms, None), errors, failures or {}, bound)


def run(tmp_path, *arguments):
    """The saved report of a command that has to succeed."""
    file = tmp_path / "report.json"
    assert main([*arguments, "--json", str(file)]) == 0
    return Report.from_dict(json.loads(file.read_text()))


def test_time_prints_and_writes_the_same_measurement(capsys, tmp_path):
    table, shown = tmp_path / "table.csv", tmp_path / "page.html"
    asked = ["time", "--workload", PLACE, "mlp", "--rounds", "2", "--methods", *TWO]
    found = run(
        tmp_path,
        *asked,
        "--batch",
        "4",
        "--csv",
        str(table),
        "--html",
        str(shown),
        "--threads",
        "1",
    )
    printed = capsys.readouterr().out
    assert found.command == "time"
    assert found.machine["threads"] == "1"
    assert set(found.figures) == {f"{PLACE} m=4", "mlp m=4"}
    measured = found.figures["mlp m=4"]
    assert set(measured["methods"]) == {"sgd", *TWO}
    for entry in measured["methods"].values():
        assert len(entry["durations_ms"]) == len(entry["ratios"]) == 2
        assert entry["gradient_error"] <= 1e-5
    assert measured["methods"]["sgd"]["ratios"] == [1, 1]
    assert measured["bound_ratio"] > 1
    assert [row[:2] for row in found.rows[-2:]] == [["geometric mean", name] for name in TWO]
    assert list(csv.reader(table.read_text().splitlines())) == [found.columns, *found.rows]
    for row in found.rows:
        assert " ".join(cell for cell in row if cell) in " ".join(printed.split())
        assert row[0] in shown.read_text()


def test_threads_are_given_back(tmp_path):
    before = torch.get_num_threads()
    run(tmp_path, "explain", "--problem", PLACE, "--rounds", "1", "--threads", "1")
    assert torch.get_num_threads() == before


def test_targets_of_time_are_judged(monkeypatch):
    durations = {
        "sgd": [1.0, 1.0],
        "fused": [1.5, 1.5],
        "two-pass": [2.0, 2.0],
        "autojac": [1.0, 1.0],
        "torchjd autojac": [2.0, 2.0],
    }
    monkeypatch.setattr(
        "benchmarks.step_time.time_case",
        lambda case, methods, rounds: timed(case.workload, durations),
    )
    found = measure_step_time([Case(name) for name in WORKLOADS], list(durations), None)
    judged = {(row[0], row[1]): row[-2:] for row in found.rows}
    assert judged["mlp", "fused"] == ["≤ 1.8", "met"]
    assert judged["mlp", "two-pass"] == ["", ""]
    assert judged["mlp", "autojac ÷ torchjd autojac"] == ["≤ 1", "met"]
    assert judged["cifar_cnn", "autojac ÷ torchjd autojac"] == ["≤ 0.3", "not met"]
    assert judged["geometric mean", "fused"] == ["≤ 1.4", "not met"]
    assert judged["geometric mean", "two-pass"] == ["≤ 1.9", "not met"]
    fewer = measure_step_time([Case("mlp"), Case("alexnet")], list(durations), None)
    # Two of five say nothing about the mean over all.
    assert next(row for row in fewer.rows if row[0] == "geometric mean")[-2:] == ["", ""]


def test_a_method_that_failed_has_no_mean_and_a_note(monkeypatch):
    durations = {"sgd": [1.0, 1.0], "two-pass": [2.0, 2.0]}
    one = timed("mlp", durations, {"fused": "RuntimeError: no"}, {"sgd": 0.0, "two-pass": 0.1})
    monkeypatch.setattr("benchmarks.step_time.time_case", lambda *_: one)
    found = measure_step_time([Case("mlp"), Case("mlp")], ["sgd", "fused", "two-pass"], None)
    assert ["mlp", "fused", "failed"] in [row[:3] for row in found.rows]
    assert [row[1] for row in found.rows if row[0] == "geometric mean"] == ["two-pass"]
    assert "fused on mlp failed with RuntimeError: no." in found.notes
    assert "two-pass on mlp left gradients that differ from SGD's by 1e-01." in found.notes


@pytest.mark.timeout(300)
def test_memory_of_a_workload_agrees_to_the_byte(capsys, tmp_path):
    found = run(tmp_path, "memory", "--workload", PLACE, "--methods", "two-pass")
    assert found.figures[PLACE]["two-pass"]["failure"] == ""
    for method in ("sgd", "two-pass"):
        one, other = found.figures[PLACE][method]["peak_bytes"]
        assert one == other > 0
    assert [row[4] for row in found.rows] == ["agree", "agree"]


@pytest.mark.timeout(300)
def test_memory_takes_a_workload_as_the_problem_too(tmp_path):
    asked = ["--problem", TOKENS, "--methods", "two-pass", "--repeats", "1"]
    assert set(run(tmp_path, "memory", *asked).figures) == {TOKENS}


@pytest.mark.timeout(300)
def test_a_child_that_fails_says_why():
    found = measure_peaks(Case(PLACE), "unknown", 2, 1)
    assert found.peak_bytes == ()
    assert found.failure == "KeyError: 'unknown'"


def test_targets_of_memory_are_judged(monkeypatch):
    peaks = {
        "sgd": Peaks("sgd", (100, 100), "aten::mm"),
        "fused": Peaks("fused", (150, 150)),
        "two-pass": Peaks("two-pass", (170, 168)),
        "autojac": Peaks("autojac", (400,)),
        "torchjd autojac": Peaks("torchjd autojac", (200,)),
    }
    monkeypatch.setattr("benchmarks.step_memory.measure_all", lambda *_: peaks)
    found = measure_step_memory([Case(name, samples=1) for name in ("mlp",)], list(peaks), 2)
    by_method = {row[1]: row for row in found.rows}
    assert by_method["two-pass"][4:] == ["differ by 2 bytes", "", "≤ 1.6", "not met"]
    assert by_method["autojac ÷ torchjd autojac"][-2:] == ["≤ 1", "not met"]
    monkeypatch.setattr(Case, "build", lambda self: None)
    whole = measure_step_memory([Case(name) for name in WORKLOADS], list(peaks), 2)
    means = {row[1]: row[-2:] for row in whole.rows if row[0] == "geometric mean"}
    assert means["fused"] == ["≤ 1.6", "met"]
    assert means["two-pass"] == ["≤ 1.3", "not met"]


def test_a_failed_profile_is_a_note_and_a_failed_plain_step_ends_it(monkeypatch):
    peaks = {"sgd": Peaks("sgd", (100,)), "fused": Peaks("fused", (), failure="no")}
    monkeypatch.setattr("benchmarks.step_memory.measure_all", lambda *_: peaks)
    found = measure_step_memory([Case(PLACE)], list(peaks), 1)
    assert found.rows[1][:3] == [PLACE, "fused", "failed"]
    assert found.notes == [f"fused on {PLACE} failed with no."]
    peaks["sgd"] = Peaks("sgd", (), failure="no")
    with pytest.raises(MeasurementError, match="The plain step on"):
        measure_step_memory([Case(PLACE)], list(peaks), 1)


def test_growth_measures_every_size_and_width():
    cases = grown(["cifar_cnn", "mlp"], [8, 32], [64], "cpu")
    assert [case.name for case in cases] == [
        "cifar_cnn m=8",
        "cifar_cnn m=32",
        "mlp m=8",
        "mlp m=32",
        "mlp width=64",
    ]
    assert [case.name for case in grown(["cifar_cnn"], [8], [64], "cpu")] == ["cifar_cnn m=8"]


def test_limits_of_growth_are_those_of_the_targets():
    durations = {"sgd": [2.0, 2.0]}
    assert limit_ms(timed("cifar_cnn", durations)) == pytest.approx(3)
    # 1.25 times the bound of 1.2, and 0.15 ms.
    assert limit_ms(timed("mlp", durations)) == pytest.approx(3.15)
    assert limit_ms(timed(PLACE, durations)) is None
    assert workspace_limit_bytes(MIB) == 16 * MIB
    assert workspace_limit_bytes(100 * MIB) == 25 * MIB


def test_growth_judges_time_and_workspace(monkeypatch):
    from benchmarks.growth import measure_growth

    durations = {"sgd": [2.0, 2.0], "fused": [4.0, 4.0]}
    peaks = {"sgd": Peaks("sgd", (MIB,)), "fused": Peaks("fused", (3 * MIB,))}
    monkeypatch.setattr("benchmarks.growth.time_case", lambda *_: timed("mlp", durations))
    monkeypatch.setattr("benchmarks.growth.measure_all", lambda *_: peaks)
    found = measure_growth([Case("mlp")], list(durations), None, memory=True)
    row = dict(zip(found.columns, found.rows[1], strict=True))
    assert (row["limit ms"], row["time outcome"]) == ("3.15", "not met")
    assert (row["workspace MiB"], row["limit MiB"], row["memory outcome"]) == (
        "2.00",
        "16.0",
        "met",
    )
    peaks["fused"] = Peaks("fused", (), failure="no")
    again = measure_growth([Case("mlp")], list(durations), None, memory=True)
    assert again.notes == ["The profile of fused on mlp failed with no."]


def test_growth_runs(tmp_path):
    asked = ["--sizes", "2", "3", "--widths", "8", "--rounds", "2", "--methods", "two-pass"]
    found = run(tmp_path, "growth", "--workload", "mlp", *asked, "--no-memory")
    assert set(found.figures) == {"mlp m=2", "mlp m=3", "mlp width=8"}
    assert all(len(row) == len(found.columns) for row in found.rows)


def test_explain_prints_every_use_and_what_all_of_them_take(capsys, tmp_path):
    found = run(tmp_path, "explain", "--workload", PLACE, TOKENS, "--rounds", "2")
    assert [use["parameter"] for use in found.figures[PLACE]["uses"]] == [
        row[1] for row in found.rows if row[0] == PLACE and row[1] != "all contractions"
    ]
    assert {use["parameter"] for use in found.figures[TOKENS]["uses"]} == {
        "embedding.weight",
        "head.weight",
        "head.bias",
    }
    assert len(found.figures[TOKENS]["gramian_ms"]) == 2
    assert len(found.figures[TOKENS]["input_pass_ms"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["time", "--workload", "resnet"], "expected one of mlp"),
        (["time", "--workload", PLACE, "--rounds", "0"], "got 0 rounds"),
        (["time", "--workload", PLACE, "--threads", "0"], "got 0 threads"),
        (["time", "--workload", PLACE, "--batch", "0"], "got 0 as samples"),
        (["explain", "--workload", "tests.benchmarks.tiny:MIXING"], "refuses the model"),
        (["memory", "--workload", PLACE, "--repeats", "0"], "got 0 repeats"),
        (["memory", "--size", "small"], "name it with --problem"),
        (["memory", "--aggregator", "Mean"], "name it with --problem"),
        (["memory", "--problem", "digits_cnn", "--peer"], "expected a workload"),
        (["memory", "--problem", "digits"], "expected one of mlp"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(capsys, arguments, message):
    assert main(arguments) == 1
    caught = capsys.readouterr().err
    assert message in caught
    assert caught.count("\n") == 1


@pytest.mark.parametrize("command", ["time", "memory", "growth"])
def test_a_peer_that_is_not_installed_is_one_sentence(monkeypatch, capsys, command):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    assert main([command, "--peer"]) == 1
    assert "`pip install torchjd==0.18.0`" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["time", "memory", "growth", "explain"])
def test_a_device_that_is_not_there_is_one_sentence(monkeypatch, capsys, command):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([command, "--device", "cuda"]) == 1
    assert "leave --device out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["speed"], ["time", "--methods", "sgd"], ["time", "--device", "tpu"], ["compare", "a"]],
)
def test_what_cannot_be_parsed_is_refused(arguments):
    with pytest.raises(SystemExit):
        main(arguments)
