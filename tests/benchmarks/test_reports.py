import json
import re

import pytest

from benchmarks.__main__ import main
from benchmarks.compare import compare_reports, read_report
from benchmarks.page import page
from benchmarks.report import Report, circumstances
from jdviz.profiling import MeasurementError

MACHINE = {"commit": "abc", "threads": "2"}


def report(figures, command="time", machine=MACHINE):
    return Report("What", ["name", "ms"], [["a", "1.5"]], figures, machine, [], command)


def test_columns_line_up():
    found = Report("What", ["name", "ms"], [["a", "1.5"], ["longer", "10.25"]], {}, {"torch": "2"})
    assert found.text().splitlines() == [
        "What",
        "torch 2",
        "",
        "name       ms",
        "a         1.5",
        "longer  10.25",
    ]


def test_words_are_flush_left_and_numbers_right():
    rows = [["a", "11.bias", "1.5e-07"], ["b", "sum", "failed"], ["c", "–", "≤ 2"]]
    found = Report("What", ["name", "where", "error"], rows, {}, {})
    assert [found.is_words(place) for place in range(3)] == [True, True, False]


def test_notes_stand_where_a_terminal_ends():
    found = Report("What", ["name"], [["a"]], {}, {"torch": "2"}, ["A sentence."])
    assert found.text().splitlines()[-3:] == ["a", "", "A sentence."]


def test_every_report_says_under_which_circumstances():
    assert {"commit", "torch", "python", "device", "cores", "threads"} <= set(circumstances())


def test_a_report_survives_json():
    found = report({"a": {"durations_ms": [1.0, 2.0]}})
    assert Report.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize("values", [[], None, {"title": "What"}])
def test_what_is_no_report_is_refused(values):
    with pytest.raises(MeasurementError, match="expected a report with title, columns"):
        Report.from_dict(values)


def test_a_report_from_before_there_were_comparisons_is_read():
    values = report({"a": 1}).to_dict()
    del values["comparisons"]
    assert Report.from_dict(values) == report({"a": 1})


def test_columns_that_are_empty_throughout_are_on_no_page():
    rows = [["a", "", ""], ["b", "", "2"]]
    text = page(Report("What", ["name", "target", "ms"], rows, {}, {}))
    assert ">ms</th>" in text
    assert "target" not in text


def test_a_page_needs_nothing_else():
    found = Report("<What>", ["name & more"], [["a < b"]], {}, {"torch": "2"}, ["So & so."], "time")
    text = page(found)
    assert not re.search(r"https?:|src=|href=|@import|url\(|<script|<link", text)
    for part in ("&lt;What&gt;", "name &amp; more", "a &lt; b", "So &amp; so.", "torch", "time"):
        assert part in text


def test_what_changed_is_beyond_the_spread_of_both():
    before = report(
        {
            "mlp": {
                "faster": [10.0, 11.0, 12.0],
                "same": [1.0, 2.0, 3.0],
                "bytes": 100,
                "kept": 7,
                "rule": "per-sample",
                "predicted_ms": None,
            }
        }
    )
    after = report(
        {
            "mlp": {
                "faster": [5.0, 5.5, 6.0],
                "same": [2.0, 3.0, 4.0],
                "bytes": 150,
                "kept": 7,
                "rule": "input-output",
                "predicted_ms": None,
            }
        }
    )
    found = compare_reports(before, after)
    assert found.title == "time: 3 of 5 figures changed beyond the spread of both"
    assert found.notes == []
    assert found.rows == [
        ["mlp · rule", "–", "per-sample", "", "input-output", ""],
        ["mlp · faster", "0.500", "11.0", "10.5–11.5", "5.50", "5.25–5.75"],
        ["mlp · bytes", "1.50", "100", "", "150", ""],
    ]


def test_lists_of_records_are_compared_and_zero_divides_nothing():
    found = compare_reports(report({"uses": [{"n": 0}]}), report({"uses": [{"n": 3}]}))
    assert found.rows == [["uses · 0 · n", "–", "0", "", "3.00", ""]]


def test_other_circumstances_and_other_figures_are_said():
    other = report({"b": 1}, machine={"commit": "abd", "threads": "2", "torch": "3"})
    notes = compare_reports(report({"a": 1}), other).notes
    assert notes == [
        "commit differs: abc in A, abd in B.",
        "torch differs: not stated in A, 3 in B.",
        "1 figures are in A only, a for one.",
        "1 figures are in B only, b for one.",
    ]


def test_reports_of_different_commands_are_refused():
    with pytest.raises(MeasurementError, match="got reports of time and memory"):
        compare_reports(report({}), report({}, command="memory"))
    with pytest.raises(MeasurementError, match="an unknown command"):
        compare_reports(report({}, command=""), report({}, command=""))


def test_compare_reads_saved_reports(capsys, tmp_path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, value in zip(files, (1.0, 2.0), strict=True):
        file.write_text(json.dumps(report({"mlp": value}).to_dict()))
    saved = tmp_path / "compared.json"
    assert main(["compare", *map(str, files), "--json", str(saved)]) == 0
    assert "1 of 1 figures changed" in capsys.readouterr().out
    assert read_report(saved).command == "compare"
    assert main(["compare", str(files[0]), str(tmp_path / "none.json")]) == 1
    assert "got none.json, which cannot be read" in capsys.readouterr().err
    files[1].write_text("{")
    assert main(["compare", *map(str, files)]) == 1
    assert "expected a saved report" in capsys.readouterr().err
