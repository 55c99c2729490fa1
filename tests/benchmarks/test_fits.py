import json

import pytest

from benchmarks.__main__ import main
from benchmarks.report import Report
from jdviz.profiling import MeasurementError
from jdviz.profiling.fits import Fit, Probe
from tests.benchmarks.made import MIB, inspected


@pytest.fixture
def asked(monkeypatch):
    """What was to be verified, instead of the processes that do it."""
    found = []

    def verify_fit(problem, size, method, budget_bytes, predicted, **given):
        found.append((problem, size, method, budget_bytes, predicted, given["timeout_s"]))
        if method == "two-pass":
            raise MeasurementError("autogram, two passes: failed at batch 42 with E: no.", "step")
        fits = method != "autojac"
        return Fit(
            method=method,
            budget_bytes=budget_bytes,
            predicted_batch=predicted,
            verified_batch=40 if fits else 0,
            fails_at=41 if fits else 1,
            probes=[Probe(40, MIB, fits, "")],
            note="" if fits else "Stopped.",
        )

    monkeypatch.setattr("benchmarks.fits.verify_fit", verify_fit)
    monkeypatch.setattr("benchmarks.fits.structure_of", lambda *_: None)
    monkeypatch.setattr("benchmarks.fits.largest_batch", lambda *_: 42)
    return found


def test_fits_prints_predictions_beside_what_was_seen_to_fit(asked, capsys, tmp_path):
    files = {kind: tmp_path / f"fits.{kind}" for kind in ("json", "html")}
    written = [part for kind, file in files.items() for part in (f"--{kind}", str(file))]
    command = ["fits", "--problem", "mlp", "--size", "64", "--budget", "8"]
    assert main([*command, "--timeout", "9", *written]) == 0
    methods = ["sgd", "fused", "two-pass", "autojac"]
    assert asked == [("mlp", "64", method, 8 * MIB, 42, 9.0) for method in methods]
    report = Report.from_dict(json.loads(files["json"].read_text()))
    assert "Largest batch within 8.00 MiB" in capsys.readouterr().out
    assert [row[1:] for row in report.rows] == [
        ["sgd", "42", "40", "41", "+5 %", "1", ""],
        ["fused", "42", "40", "41", "+5 %", "1", ""],
        [
            "two-pass",
            "failed",
            *[""] * 4,
            "autogram, two passes: failed at batch 42 with E: no.",
        ],
        ["autojac", "42", "0", "1", "–", "1", "Stopped."],
    ]
    found = report.figures["mlp size=64"]
    assert found["fused"]["error"] == pytest.approx(0.05)
    assert found["autojac"]["error"] is None
    assert found["autojac"]["note"] == "Stopped."
    shown = files["html"].read_text()
    assert "mlp size=64: largest batch" in shown
    assert shown.count('class="plotly-graph-div"') == 1


def test_a_problem_that_takes_no_other_batch_has_no_largest_one(asked, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.cases.inspect", inspected(default_batch=7, resizable=False))
    assert main(["fits", "--problem", "a:b"]) == 1
    assert capsys.readouterr().err == (
        "a:b comes with a batch of 7 and takes no other, so there is no largest one; give its "
        "factory an argument batch_size.\n"
    )
    assert main(["fits", "--problem", "a:b", "mlp", "--methods", "fused"]) == 0
    printed = capsys.readouterr().out
    assert "every method" in printed
    assert [one[0] for one in asked] == ["mlp", "mlp"]
