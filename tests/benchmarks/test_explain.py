import json

from benchmarks.__main__ import main
from benchmarks.report import Report

PLACE, TOKENS = "tests.benchmarks.tiny:TINY", "tests.benchmarks.tiny:TOKENS"
TASKS = "digits_two_tasks"


def test_explain_prints_every_use_and_what_all_of_them_take(tmp_path):
    files = {kind: tmp_path / f"explain.{kind}" for kind in ("json", "html")}
    written = [part for kind, file in files.items() for part in (f"--{kind}", str(file))]
    asked = ["--problem", PLACE, TOKENS, TASKS, "--rounds", "2"]
    assert main(["explain", *asked, *written]) == 0
    found = Report.from_dict(json.loads(files["json"].read_text()))
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
    # Each task has an input-gradient pass of its own, so there is no difference of two passes.
    assert found.figures[TASKS]["gramian_ms"] == []
    shown = files["html"].read_text()
    assert "embedding.weight" in shown
    assert "<script" not in shown
