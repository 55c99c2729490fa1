import sys

import pytest
import torch

from benchmarks.__main__ import main

PLACE = "tests.benchmarks.tiny:TINY"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["time", "--problem", "resnet"], "There is no problem 'resnet'; choose one of"),
        (["fits", "--problem", "resnet"], "There is no problem 'resnet'; choose one of"),
        (["growth", "--problem", "resnet"], "There is no problem 'resnet'; choose one of"),
        (["growth", "--problem", "mlp", "--batches", "0", "--sizes"], "Batch 0 is out of range"),
        (
            ["growth", "--problem", "mlp", "--batches", "8", "--sizes", "x"],
            "got --sizes x, expected a model",
        ),
        (["time", "--problem", "mlp", "--threads", "0"], "got 0 threads"),
        (["time", "--problem", "mlp", "--batch", "0"], "Batch 0 is out of range"),
        (["time", "--problem", "mlp", "--timeout", "0"], "got --timeout 0, expected more than 0"),
        (["memory", "--problem", "mlp", "--repeats", "0"], "got 0 repeats"),
        (["memory", "--problem", "mlp", "--memory-limit", "-1"], "got --memory-limit -1"),
        (["memory", "--problem", "digits_cnn", "--size", "x"], "has no model size 'x'"),
        (["memory", "--problem", "mlp", "--json", "/nowhere/a.json"], "whose folder is not there"),
        (["fits", "--problem", "mlp", "--budget", "0"], "got a budget of 0 bytes"),
        (["explain", "--problem", "tests.benchmarks.tiny:MIXING"], "refuses the model"),
        (["explain", "--problem", "tests.benchmarks.tiny:NONE"], "could not be loaded"),
        (["explain", "--problem", PLACE, "--rounds", "0"], "got 0 rounds"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(capsys, arguments, message):
    assert main(arguments) == 1
    caught = capsys.readouterr().err
    assert message in caught
    assert caught.count("\n") == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no_such_package:here", "there is no module no_such_package"),
        ("tests.benchmarks.tiny:wrong", "the factory returned a Linear, expected (model, inputs"),
        ("tests.benchmarks.tiny:raising", "the model raised RuntimeError: no such step"),
    ],
)
def test_a_path_without_a_problem_is_one_sentence(capsys, place, message):
    assert main(["memory", "--problem", place]) == 1
    caught = capsys.readouterr().err
    assert caught.startswith(f"{place} could not be loaded: ")
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
    [
        [],
        ["speed"],
        ["time", "--methods", "sgd"],
        ["time", "--device", "tpu"],
        ["memory", "--aggregator", "GradDrop"],
        ["compare", "a"],
    ],
)
def test_what_cannot_be_parsed_is_refused(arguments):
    with pytest.raises(SystemExit):
        main(arguments)
