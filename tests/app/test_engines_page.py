"""The Engines page without a browser: what it shows before and after something was measured."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from jdviz import server
from jdviz.figures import comparison_sections
from jdviz.pages import PAGES, engines_controls, engines_step
from jdviz.profiling import Failure, Limits, MeasurementError, MeasureSpec
from jdviz.profiling.example import example_comparison
from jdviz.profiling.fits import Fit
from jdviz.profiling.lab import FitKey

APP = str(Path(__file__).resolve().parents[2] / "app.py")
LIMITS = Limits(4096 * 2**20, 120.0)


@pytest.fixture(autouse=True)
def own_server(app_data):
    """Every test has a server of its own."""


def open_engines(**query: str) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    return app.switch_page(str(PAGES["engines"].path.relative_to(Path(APP).parent))).run()


def texts(elements) -> str:
    return "\n".join(element.value for element in elements)


def keep(found) -> None:
    """Put a comparison where the page looks for it."""
    for measurement in found.measurements:
        server.lab()._measured.put(measurement.spec, measurement)
    if found.times is not None:
        key = replace(found.measurements[0].spec, method="sgd")
        server.lab()._times.put(key, found.times)


def test_before_anything_was_measured_the_example_is_shown_and_marked():
    app = open_engines()
    assert "Example, measured earlier on another machine" in texts(app.caption)
    assert "the memory of autojac" in texts(app.markdown)
    assert not app.error
    assert not app.exception


def test_the_numbers_of_every_method_say_what_they_are():
    app = open_engines()
    # Folded away, they are not sent at all.
    assert not app.dataframe
    app.session_state["numbers-step"] = True
    app.run()
    (table,) = app.dataframe
    assert {"peak", "peak in", "median time"} <= set(table.value.index)
    hidden = json.loads(table.proto.columns or "{}")
    assert not hidden.get("_index", {}).get("hidden")


@pytest.mark.parametrize("disturbed", ["", "Training runs used the cores meanwhile."])
def test_what_was_measured_takes_the_place_of_the_example(disturbed):
    found = example_comparison()
    assert found.times is not None
    keep(replace(found, times=replace(found.times, disturbed=disturbed)))
    app = open_engines()
    assert "Example" not in texts(app.caption)
    assert ("Training runs used the cores" in texts(app.caption)) == bool(disturbed)


def test_a_failure_is_said_and_the_rest_of_the_comparison_stands():
    found = example_comparison()
    keep(
        replace(
            found, measurements=[one for one in found.measurements if one.spec.method != "autojac"]
        )
    )
    spec = MeasureSpec("digits_cnn", "medium", 64, "autojac", "UPGrad")
    sentence = "autojac: out of memory at batch 64, limit 4 GiB; choose a smaller batch or model."
    server.lab()._failed.put((spec, LIMITS.memory_bytes), Failure(spec, "memory", sentence))
    app = open_engines()
    assert sentence in texts(app.error)
    assert "plain SGD" in texts(app.markdown) + texts(app.caption)
    assert not app.exception


@pytest.mark.parametrize("view", engines_controls.VIEWS)
@pytest.mark.parametrize("problem", ["digits_cnn", "conflict_regression", "transformer", "mlp"])
def test_every_view_opens_on_every_kind_of_problem(view, problem):
    app = open_engines(e_view=view, e_problem=problem)
    assert not app.exception
    assert not app.error


def test_verified_batches_are_shown_beside_the_predicted():
    key = FitKey("mlp", "256", "fused", 256 * 2**20)
    fit = Fit.unverified("fused", 256 * 2**20, 1000)
    server.lab().fits.put(key, replace(fit, verified_batch=1010, fails_at=1020))
    app = open_engines(e_view="What fits", e_problem="mlp")
    assert "1,010" in texts(app.caption) + str([frame.value for frame in app.dataframe])


def test_an_import_path_from_the_address_is_refused_and_nothing_is_imported():
    sys.modules.pop("this", None)
    app = open_engines(e_problem="this:s")
    assert "Problem “this\\:s” is not one of" in texts(app.warning)
    assert "this" not in sys.modules
    assert not app.exception


def test_another_problem_brings_its_own_sizes():
    app = open_engines()
    app.selectbox(key="e_problem").select("mlp").run()
    assert app.selectbox(key="e_size").value == "256"
    assert app.number_input(key="e_batch").value == 64
    app.selectbox(key="e_problem").select("resnet18_in").run()
    assert app.number_input(key="e_batch").value == 8
    assert not [one for one in app.selectbox if one.key == "e_size"]
    assert not app.exception


def test_measure_asks_for_every_method_and_says_what_failed(monkeypatch):
    asked = []

    def measure(spec, limits, watch):
        watch("measuring")
        asked.append(spec.method)
        if spec.method == "autojac":
            raise MeasurementError("autojac: out of memory at batch 64, limit 4 GiB.", "memory")
        return example_comparison().of(spec.method)

    monkeypatch.setattr("jdviz.profiling.lab.measure", measure)
    monkeypatch.setattr("jdviz.profiling.lab.measure_times", lambda *_: example_comparison().times)
    app = open_engines()
    app.button(key="measure").click().run()
    assert asked == ["fused", "two-pass", "autojac", "sgd"]
    assert "out of memory at batch 64" in texts(app.error)
    assert not app.exception


def test_memory_is_shown_though_the_times_failed(monkeypatch):
    def too_slow(*_):
        raise MeasurementError("Timing: stopped at batch 64 after 120 s, the time limit.", "time")

    found = example_comparison()
    monkeypatch.setattr("jdviz.profiling.lab.measure", lambda spec, *_: found.of(spec.method))
    monkeypatch.setattr("jdviz.profiling.lab.measure_times", too_slow)
    app = open_engines()
    app.button(key="measure").click().run()
    assert "stopped at batch 64 after 120 s" in texts(app.error)
    assert "Measured on this machine since the server started" in texts(app.caption)
    assert not app.exception


def test_a_problem_that_is_forgotten_is_read_and_measured_again(monkeypatch):
    read = []
    monkeypatch.setattr("jdviz.profiling.lab.forget_structures", lambda: read.append("forgotten"))
    found = example_comparison()
    keep(found)
    spec = found.measurements[0].spec
    server.lab().forget("another")
    assert server.lab().measured(spec) is not None
    server.lab().forget("digits_cnn")
    assert server.lab().measured(spec) is None
    assert server.lab().comparison([spec], LIMITS).times is None
    assert read == ["forgotten"] * 2


def test_the_report_holds_every_figure_and_needs_no_network():
    text = engines_step.report(example_comparison())
    titles = [section.title for section in comparison_sections(example_comparison())]
    assert len(titles) == 5
    assert all(f"<h2>{title}</h2>" in text for title in titles)
    assert text.count("<figure ") == 4
    assert "<script src" not in text
    assert "<link" not in text


def test_own_command_names_what_to_start():
    assert engines_controls.own_command() == (
        "streamlit run app.py -- --problem package.module:factory"
    )
