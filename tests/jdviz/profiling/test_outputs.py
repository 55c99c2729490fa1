"""A comparison in the forms of other programs: CSV, JSON, a trace and a script."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jdviz.profiling import Comparison, Failure, MeasurementError, measure
from jdviz.profiling.outputs import as_csv, as_json, as_trace, from_json, timeline_csv
from jdviz.profiling.script import as_script
from jdviz.training.children import child_environment
from tests.support.measured import AUTOJAC, FAILURE, MEASUREMENT, PLAIN, SPEC, TIMES

SGD_MEASUREMENT = replace(MEASUREMENT, spec=PLAIN, peak_phase="forward")
COMPARISON = Comparison([MEASUREMENT, SGD_MEASUREMENT], TIMES, [FAILURE])


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_table_has_a_row_for_each_method_and_says_why_one_has_no_result() -> None:
    fused, sgd, autojac = rows(as_csv(COMPARISON))
    assert fused == {
        "problem": "digits_mlp",
        "size": "small",
        "batch": "8",
        "method": "fused",
        "aggregator": "UPGrad",
        "m": "8",
        "n": "150",
        "parameter_bytes": "600",
        "batch_bytes": "64",
        "peak_bytes": "1256",
        "peak_activations_bytes": "1000",
        "peak_jacobian_bytes": "0",
        "peak_gramian_bytes": "256",
        "peak_gradients_bytes": "0",
        "peak_workspace_bytes": "0",
        "peak_phase": "gramian",
        "peak_layer": "",
        "peak_operation": "aten::zeros",
        # The quartiles of 2, 4, 6, and the median of 4/1, 2/2, 6/2.
        "median_ms": "4.0",
        "low_ms": "3.0",
        "high_ms": "5.0",
        "ratio_to_sgd": "3.0",
        "failure": "",
    }
    assert (sgd["method"], sgd["median_ms"], sgd["ratio_to_sgd"]) == ("sgd", "2.0", "1.0")
    assert autojac["failure"] == FAILURE.sentence
    assert [name for name, value in autojac.items() if value] == [
        *("problem", "size", "batch", "method", "aggregator", "failure")
    ]


def test_a_method_whose_times_failed_keeps_its_bytes() -> None:
    times = replace(TIMES, durations_ms={"sgd": [1.0]}, failures={"fused": "failed with no luck"})
    fused, sgd = rows(as_csv(Comparison([MEASUREMENT, SGD_MEASUREMENT], times)))
    assert (fused["peak_bytes"], fused["median_ms"]) == ("1256", "")
    assert fused["failure"] == "Timing: failed with no luck"
    assert (sgd["median_ms"], sgd["low_ms"], sgd["high_ms"]) == ("1.0", "1.0", "1.0")


def test_where_all_times_failed_the_table_says_so() -> None:
    failure = Failure(SPEC, "time", "Timing: stopped at batch 8 after 120 s, the time limit.")
    (fused,) = rows(as_csv(Comparison([MEASUREMENT], None, [failure])))
    assert (fused["peak_bytes"], fused["failure"]) == ("1256", failure.sentence)


def test_without_the_plain_step_there_is_no_ratio() -> None:
    times = replace(TIMES, specs=[SPEC], durations_ms={"fused": [4.0]})
    (fused,) = rows(as_csv(Comparison([MEASUREMENT], times)))
    assert (fused["median_ms"], fused["ratio_to_sgd"]) == ("4.0", "")


def test_the_curves_are_one_row_for_each_point() -> None:
    found = rows(timeline_csv(COMPARISON))
    assert len(found) == 12
    assert [tuple(row.values()) for row in found[:4]] == [
        ("fused", "0.0", "0", "", "", ""),
        ("fused", "0.25", "400", "forward", "0", "aten::addmm"),
        ("fused", "0.5", "1000", "forward", "1", "aten::tanh"),
        ("fused", "1.5", "1256", "gramian", "", "aten::zeros"),
    ]
    assert found[-1]["method"] == "sgd"


def test_json_reads_back() -> None:
    assert from_json(as_json(COMPARISON)) == COMPARISON


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": 2}, "has version 2, expected 1; measure again"),
        ({"version": None}, "has version None, expected 1"),
        ({"format": "jdviz run"}, "no jdviz comparison; give one"),
        ({"comparison": None}, "The comparison has the entries NoneType"),
        ({"comparison": {"measurements": 3, "times": None, "failures": []}}, "is damaged"),
        ({"comparison": {"measurements": [{}], "times": None, "failures": []}}, "must have"),
    ],
)
def test_json_of_another_form_is_refused(change: dict[str, Any], sentence: str) -> None:
    text = json.dumps({**json.loads(as_json(COMPARISON)), **change})
    with pytest.raises(MeasurementError, match=sentence) as caught:
        from_json(text)
    assert caught.value.kind == "refused"


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "{}"])
def test_what_is_no_json_of_ours_is_refused(text: str) -> None:
    with pytest.raises(MeasurementError, match=r"^The text is no "):
        from_json(text)


def events(pid: int, kind: str) -> list[dict[str, Any]]:
    found = json.loads(as_trace(COMPARISON))["traceEvents"]
    return [event for event in found if event["pid"] == pid and event["ph"] == kind]


def test_a_trace_has_a_process_for_each_method() -> None:
    whole = json.loads(as_trace(COMPARISON))
    assert whole["displayTimeUnit"] == "ms"
    assert whole["otherData"]["fused"]["torch"] == "2.13.0"
    names = {
        event["pid"]: event["args"]["name"]
        for event in whole["traceEvents"]
        if event["name"] == "process_name"
    }
    assert names == {1: "autogram, fused", 2: "plain SGD"}
    needed = {
        "M": {"name", "pid", "tid", "args"},
        "X": {"name", "cat", "pid", "tid", "ts", "dur"},
        "C": {"name", "pid", "tid", "ts", "args"},
        "i": {"name", "cat", "pid", "tid", "ts", "s", "args"},
    }
    for event in whole["traceEvents"]:
        assert set(event) == needed[event["ph"]] | {"ph"}


def test_the_counter_of_a_trace_is_the_curve() -> None:
    counters = events(1, "C")
    assert [event["args"]["bytes"] for event in counters] == MEASUREMENT.live_bytes
    # Microseconds.
    assert [event["ts"] for event in counters] == [0.0, 250.0, 500.0, 1500.0, 1750.0, 3000.0]
    assert {event["name"] for event in counters} == {"live bytes"}


def test_the_parts_of_a_trace_are_where_they_were() -> None:
    parts = [(event["name"], event["ts"], event["dur"]) for event in events(1, "X")]
    assert parts == [("forward", 125.0, 875.0), ("gramian", 1125.0, 1750.0)]


def test_every_change_in_a_trace_names_who_made_it() -> None:
    *changes, peak = events(1, "i")
    said = [(event["name"], event["args"]) for event in changes]
    assert said == [
        ("aten::addmm", {"layer": "0", "operation": "aten::addmm", "bytes": 400}),
        ("aten::tanh", {"layer": "1", "operation": "aten::tanh", "bytes": 600}),
        ("aten::zeros", {"layer": "", "operation": "aten::zeros", "bytes": 256}),
        ("freed", {"layer": "", "operation": "", "bytes": -600}),
        ("freed", {"layer": "", "operation": "", "bytes": -56}),
    ]
    assert (peak["name"], peak["s"], peak["ts"]) == ("peak", "p", 1500.0)
    assert peak["args"]["bytes"] == 1256
    assert peak["args"]["gramian"] == 256
    assert peak["args"]["phase"] == "gramian"


def test_a_name_cannot_leave_the_string_it_is_in() -> None:
    evil = replace(SPEC, problem='a.b:c\'); raise SystemExit(3) #"""\n\\')
    machine = {"torch": "2\nraise SystemExit(4)", "line\rraise SystemExit(5)": "\u2028"}
    found = Comparison([replace(MEASUREMENT, spec=evil, machine=machine)], None)
    namespace: dict[str, Any] = {"__name__": "imported"}
    exec(compile(as_script(found), "script", "exec"), namespace)
    assert namespace["RECORDED"] == ((evil, 1256),)
    assert namespace["ROUNDS"] == 0


def test_a_script_knows_what_gave_no_result_and_what_it_needs() -> None:
    own = replace(AUTOJAC, problem="pack.module:factory", method="torchjd autojac")
    found = Comparison([MEASUREMENT], TIMES, [replace(FAILURE, spec=own)])
    text = as_script(found)
    namespace: dict[str, Any] = {"__name__": "imported"}
    exec(compile(text, "script", "exec"), namespace)
    assert namespace["RECORDED"] == ((SPEC, 1256), (own, None))
    assert namespace["ROUNDS"] == 3
    assert "#   torch: 2.13.0\n" in text
    assert "# The module of 'pack.module:factory' is looked for on PYTHONPATH" in text
    assert "pip install torchjd" in text
    assert namespace["verdict"](1256, 1256) == "agrees to the byte"
    assert namespace["verdict"](1200, 1256) == "differs by -56 bytes from 1,256"
    assert namespace["verdict"](1200, None) == "nothing to compare with"


def test_a_script_of_steps_that_were_not_measured_has_nothing_to_compare_with() -> None:
    text = as_script([SPEC, PLAIN])
    namespace: dict[str, Any] = {"__name__": "imported"}
    exec(compile(text, "script", "exec"), namespace)
    assert namespace["RECORDED"] == ((SPEC, None), (PLAIN, None))
    assert "Recorded with" not in text


OWN = """
import torch
def factory():
    return torch.nn.Linear(5, 1), (torch.ones(4, 5),), lambda outputs: outputs.square().sum(1)
"""


def test_a_script_measures_again_and_finds_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    own = replace(SPEC, problem="mine:factory", size="own", batch_size=4, method="sgd")
    found = measure(own)
    script = tmp_path / "again.py"
    script.write_text(as_script(Comparison([found], None)))
    done = subprocess.run(
        [sys.executable, script],
        env=child_environment(threads=1) | {"PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    head, sgd = done.stdout.splitlines()
    assert head.split("  ")[0] == "method"
    assert sgd.split() == f"plain SGD 4 {found.peak_bytes:,} agrees to the byte".split()
