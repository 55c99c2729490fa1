import json

import pytest

from benchmarks.__main__ import main
from benchmarks.recorder import COLUMNS, measure_recorder
from benchmarks.report import Report
from jdviz.problems.workloads import WORKLOADS
from jdviz.profiling import MeasurementError
from jdviz.profiling.turns import Taken
from tests.benchmarks.tiny import TINY

WAYS = ["fused", "log", "watch", "sgd", "watch_gradients"]


@pytest.fixture
def tiny(monkeypatch):
    """A workload that trains in milliseconds, under the name of another."""
    monkeypatch.setattr("benchmarks.recorder.WORKLOADS", {**WORKLOADS, "cifar_cnn": TINY})


def test_every_way_of_recording_is_measured_beside_its_loop(tiny, tmp_path):
    file = tmp_path / "recorder.json"
    assert main(["recorder", "--rounds", "1", "--steps", "3", "--json", str(file)]) == 0
    report = Report.from_dict(json.loads(file.read_text()))
    figures = report.figures["cifar_cnn"]
    assert [row[:2] for row in report.rows] == [
        ["fused", "nothing"],
        ["fused", "log"],
        ["fused", "watch"],
        ["sgd", "nothing"],
        ["sgd", "watch_gradients"],
    ]
    assert figures.pop("steps") == 3
    assert list(figures) == WAYS
    assert all(len(found["durations_ms"]) == 1 for found in figures.values())
    sizes = {way: found["kib_a_step"] for way, found in figures.items()}
    assert sizes["fused"] is sizes["sgd"] is None
    # Of three steps the first is split over two layers where layers are recorded.
    assert sizes["watch"] > sizes["log"] > 0
    assert sizes["watch_gradients"] > 0


@pytest.mark.parametrize(("with_log_ms", "outcome"), [(104.0, "met"), (106.0, "not met")])
def test_a_twentieth_is_the_target(tiny, monkeypatch, with_log_ms, outcome):
    durations_ms = {way: [100.0, 100.0] for way in WAYS} | {"log": [with_log_ms] * 2}

    def take(turns, rounds):
        for turn in turns.values():
            turn.run()  # so that there are runs in the store
        return Taken(durations_ms, 0.5)

    monkeypatch.setattr("benchmarks.recorder.take_turns", take)
    report = measure_recorder("cifar_cnn", 2, steps=10)
    rows = {row[1]: dict(zip(COLUMNS, row, strict=True)) for row in report.rows}
    assert (rows["log"]["target"], rows["log"]["outcome"]) == ("≤ 1.05", outcome)
    assert (rows["log"]["÷ without"], rows["log"]["ms a step"]) == (
        f"{with_log_ms / 100:.2f}",
        f"{with_log_ms / 10:.1f}",
    )
    assert rows["log"]["extra ms"] == f"{with_log_ms / 10 - 10:.3f}"
    assert (rows["watch"]["target"], rows["watch"]["outcome"]) == ("≤ 1.05", "met")
    assert (rows["watch_gradients"]["target"], rows["watch_gradients"]["outcome"]) == ("", "")
    assert report.notes == [
        "Other processes kept the cores busy: threads waited for one 50% of the time; measure "
        "again on a quiet machine."
    ]


def test_what_cannot_be_measured():
    with pytest.raises(MeasurementError, match=r"^got 0 steps, expected at least 1; give more"):
        measure_recorder("mlp", 1, steps=0)
