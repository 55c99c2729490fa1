import json
import os
import socket

import pytest
import torch

from benchmarks import distributed
from benchmarks.__main__ import main
from benchmarks.cases import Case
from benchmarks.distributed import COLUMNS, measure_distributed
from benchmarks.distributed_rank import (
    FUSED,
    FUSED_ALONE,
    FUSED_DDP,
    SGD_ALONE,
    STEPS,
    Measured,
)
from benchmarks.distributed_ranks import run_ranks
from benchmarks.report import Report
from benchmarks.sockets import sent_bytes
from jdviz.profiling import SGD, Limits, MeasurementError
from jdviz.profiling.turns import FEWEST, MOST, SHORT_MS, Turn, take_turns

PLACE, MIXING = "tests.benchmarks.tiny:TINY", "tests.benchmarks.tiny:MIXING"


@pytest.mark.timeout(300)
def test_two_ranks_take_every_step_in_turn_and_count_what_they_send(tmp_path):
    files = {kind: tmp_path / f"distributed.{kind}" for kind in ("json", "csv", "html")}
    written = [part for kind, file in files.items() for part in (f"--{kind}", str(file))]
    asked = ["--problem", PLACE, "--world-size", "2", "2", "--rounds", "1"]
    assert main(["distributed", *asked, *written]) == 0
    report = Report.from_dict(json.loads(files["json"].read_text()))
    # A number of ranks counts once.
    name = f"{PLACE} ranks=2"
    assert list(report.figures) == [name]
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in report.rows]
    assert [row["step"] for row in rows if row["problem"] == name][: len(STEPS)] == list(STEPS)
    assert report.machine["threads"] == "1"
    figures = report.figures[name]
    assert figures["ranks"] == 2
    assert figures["latency_s"] > 0
    assert figures["link_bytes_per_s"] > 0
    # The model of cost knows the layers of the workloads only.
    assert figures["predicted_ms"] == {}
    steps = figures["steps"]
    assert list(steps) == list(STEPS)
    assert all(len(steps[step]["durations_ms"]) == 1 for step in STEPS)
    assert steps[SGD]["ratios"] == [1.0]
    for step in (FUSED, FUSED_DDP):
        assert steps[step]["gradient_error"] <= 1e-5
        assert steps[step]["closed_form_bytes"] > 0
        assert len(steps[step]["sent_bytes"]) == 2
        # At least the new gradients.
        assert all(peak > 4 * 200 for peak in steps[step]["peak_bytes"])
    assert steps[SGD]["closed_form_bytes"] is None
    assert list(figures["uses"]) == ["0", "1"]
    for uses in figures["uses"].values():
        assert [use["parameter"] for use in uses] == [
            use["parameter"] for use in figures["uses"]["0"]
        ]
        assert {use["travels"] for use in uses} <= {"gradients", "factors", "ring"}
    assert name in files["csv"].read_text()
    assert "ranks=2" in files["html"].read_text()


def test_a_model_that_fails_leaves_the_others_alone(monkeypatch, capsys):
    asked: list[str] = []

    def refused(request, ranks, timeout_s):
        asked.append(str(request))
        raise MeasurementError(f"Rank 0 of {ranks} failed with BatchMixedError.", "step")

    monkeypatch.setattr(distributed, "run_ranks", refused)
    arguments = ["--problem", PLACE, MIXING, "--world-size", "2", "--rounds", "1"]
    # There is nothing to show in the end, but both were asked.
    assert main(["distributed", *arguments]) == 1
    assert len(asked) == 2
    assert "failed with BatchMixedError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--world-size", "0"], "got --world-size 0, expected at least 1 rank"),
        (["--world-size", "2", "-1"], "got --world-size -1, expected at least 1 rank"),
        (["--rounds", "0"], "got 0 rounds, expected at least 1"),
        (["--timeout", "0"], "got --timeout 0, expected more than 0"),
        (["--threads", "0"], "got 0 threads, expected at least 1"),
        (["--problem", "resnet"], "There is no problem 'resnet'; choose one of"),
        (["--problem", "mlp", "--batch", "0"], "Batch 0 is out of range"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(capsys, arguments, message):
    assert main(["distributed", *arguments]) == 1
    caught = capsys.readouterr().err
    assert message in caught
    assert caught.count("\n") == 1


def test_more_ranks_than_gpus_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert main(["distributed", "--device", "cuda", "--world-size", "2"]) == 1
    assert "got --world-size 2 on a machine with 1 GPU," in capsys.readouterr().err


def request_of(way, folder):
    return {"device": "cpu", "threads": 1, "problem": str(folder), "size": way}


@pytest.mark.parametrize(
    ("way", "timeout_s", "message", "kind"),
    [
        ("killed", 60, r"^Rank 1 of 2 ended without a result \(signal 9\)", "ended"),
        ("raises", 60, r"^Rank 1 of 2 failed with ValueError: no\.$", "step"),
        ("ends", 60, r"^Rank 1 of 2 ended without a result \(exit status 0\)", "ended"),
        ("hangs", 2, r"^Rank 0 and 1 gave no result within 2 s, the time limit; give", "time"),
    ],
)
def test_a_rank_that_goes_wrong_ends_all_of_them(tmp_path, way, timeout_s, message, kind):
    with pytest.raises(MeasurementError, match=message) as caught:
        run_ranks(request_of(way, tmp_path), 2, timeout_s, module="tests.benchmarks.dying")
    assert caught.value.kind == kind
    # A rank may have been ended before it could say its number.
    for number in filter(None, (file.read_text() for file in tmp_path.iterdir())):
        with pytest.raises(ProcessLookupError):
            os.kill(int(number), 0)


def found(fused_ms, sent_bytes=(100.0, 100.0), closed_form_bytes=200, errors=1e-7):
    """What two ranks measured whose plain step took 10 ms in two rounds."""
    return [
        Measured(
            {
                SGD: [10.0, 10.0],
                FUSED: fused_ms[rank],
                FUSED_DDP: [10.0, 10.0],
                SGD_ALONE: [9.0, 9.0],
                FUSED_ALONE: [8.0, 8.0],
            },
            0.0,
            {FUSED: errors * (1 + rank), FUSED_DDP: 0.0},
            {SGD: 50.0, FUSED: sent_bytes[rank], FUSED_DDP: None},
            {FUSED: closed_form_bytes, FUSED_DDP: closed_form_bytes},
            dict.fromkeys(STEPS, (1 + rank) * 2**20),
            [
                {"parameter": "0.weight", "travels": "factors", "sent_bytes": 9},
                {"parameter": "0.bias", "travels": "gradients", "sent_bytes": 9},
                {"parameter": "2.weight", "travels": "factors", "sent_bytes": 9},
            ],
        )
        for rank in range(2)
    ]


def table(monkeypatch, ranks, case=None, world_size=2):
    monkeypatch.setattr("benchmarks.distributed.run_ranks", lambda *_: ranks)
    case = Case("cifar_cnn") if case is None else case
    report = measure_distributed([case], [world_size], 2, Limits())
    return {row[1]: dict(zip(COLUMNS, row, strict=True)) for row in report.rows}, report


def test_a_round_is_as_long_as_its_slowest_rank(monkeypatch):
    rows, report = table(monkeypatch, found([[12.0, 20.0], [16.0, 12.0]]))
    steps = report.figures["cifar_cnn ranks=2"]["steps"]
    assert steps[FUSED]["durations_ms"] == [16.0, 20.0]
    assert steps[FUSED]["ratios"] == [1.6, 2.0]
    assert rows[FUSED]["÷ DDP SGD"] == "1.80"
    # Without a link the model expects a step of DDP to take what a rank takes by itself.
    assert list(report.figures["cifar_cnn ranks=2"]["predicted_ms"]) == [SGD, FUSED, FUSED_DDP]
    assert rows[SGD]["predicted ms"] == "9.00"
    assert (rows[FUSED]["target"], rows[FUSED]["outcome"]) == ("≤ 1.6", "not met")
    assert (rows[FUSED_DDP]["target"], rows[FUSED_DDP]["outcome"]) == ("≤ 1.6", "met")
    assert rows[FUSED]["peak MiB"] == "2.00"
    assert rows[FUSED]["travels"] == "factors 2, gradients 1"
    # The rank whose gradient is farthest from the plain one.
    assert rows[FUSED]["gradient error"] == "2e-07"
    assert (rows[FUSED_ALONE]["÷ DDP SGD"], rows[FUSED_ALONE]["outcome"]) == ("0.800", "")


@pytest.mark.parametrize(
    ("sent_bytes", "ratio", "outcome"),
    [
        ((100.0, 110.0), "1.05", "met"),
        ((100.0, 130.0), "1.15", "not met"),
        ((60.0, 100.0), "0.800", "not met"),
    ],
)
def test_bytes_are_within_a_tenth_of_their_closed_form(monkeypatch, sent_bytes, ratio, outcome):
    rows, report = table(monkeypatch, found([[10.0] * 2] * 2, sent_bytes))
    row = rows["fused: bytes ÷ closed form"]
    assert (row["÷ DDP SGD"], row["target"], row["outcome"]) == (ratio, "within 1.1×", outcome)
    steps = report.figures["cifar_cnn ranks=2"]["steps"]
    assert steps[FUSED]["sent_bytes"] == list(sent_bytes)
    # Where the system does not tell there is nothing to compare.
    assert f"{FUSED_DDP}: bytes ÷ closed form" not in rows


@pytest.mark.parametrize(
    "case",
    [Case("mlp"), Case("cifar_cnn", batch_size=8), Case("cifar_cnn", threads=2)],
)
def test_the_target_on_time_is_about_two_ranks_of_one_thread(monkeypatch, case):
    rows, _ = table(monkeypatch, found([[10.0] * 2] * 2), case)
    assert rows[FUSED]["target"] == ""


def test_more_ranks_than_cores_are_said(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    _, report = table(monkeypatch, found([[10.0] * 2] * 2))
    assert report.notes == [
        "cifar_cnn ranks=2: ranks with 2 threads in all share 1 core, so they wait for each other, "
        "the plain step's too."
    ]


def test_processes_that_take_turns_together_agree_on_the_rounds():
    calls = []
    turns = {"a": Turn(lambda: calls.append("a"), lambda: None)}
    slow = take_turns(turns, None, agree=lambda _: 1e6)
    assert len(slow.durations_ms["a"]) == FEWEST
    # A warm-up, then once for each round.
    assert len(calls) == 1 + FEWEST
    calls.clear()
    fast = take_turns(turns, None, agree=lambda _: SHORT_MS / 1e3)
    assert len(fast.durations_ms["a"]) == MOST
    assert len(calls) == 1 + 2 * MOST


def test_bytes_sent_are_those_of_the_connections_of_this_process():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            before = sent_bytes()
            client.sendall(b"a" * 1000)
            accepted.sendall(b"b" * 234)
            assert accepted.recv(1000, socket.MSG_WAITALL) == b"a" * 1000
            assert client.recv(234, socket.MSG_WAITALL) == b"b" * 234
            after = sent_bytes()
    if before is None or after is None:
        pytest.skip("this system does not tell what a connection sent")
    assert after - before == 1234
