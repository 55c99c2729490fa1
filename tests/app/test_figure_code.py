"""The code of every figure: run as a script, it makes the figure that the page sent."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from jdviz import server
from jdviz.pages import frame
from jdviz.profiling import MeasureSpec
from jdviz.profiling.example import example_comparison
from jdviz.training import RunConfig, train
from jdviz.training.checkpoints import pack
from jdviz.training.loop import Trainer
from tests.support.pages import open_page

pytestmark = pytest.mark.usefixtures("app_data")
TASKS = RunConfig("digits_two_tasks", "small", 8, "sgd", 0.05, "autogram", "UPGrad", 0, 3)
REGRESSION = RunConfig(
    *("conflict_regression", "small", 8, "sgd", 0.01, "autogram", "UPGrad"),
    seed=0,
    steps=3,
    conflict=0.5,
)


@pytest.fixture(autouse=True)
def panels(monkeypatch):
    """The figures that pages draw, by their name on the page."""
    found = {}
    draw = frame._draw_panel

    def watch(panel, *given, **named):
        found[panel.key] = panel
        draw(panel, *given, **named)

    monkeypatch.setattr(frame, "_draw_panel", watch)
    return found


def record(config, *, group="", **changed):
    config = RunConfig.from_dict({**config.to_dict(), **changed})
    run_id = server.store().create_run(config.to_dict(), group=group)
    server.store().append(run_id, list(train(config)))
    server.store().set_status(run_id, "finished")
    return run_id


def assert_made_by_their_code(panels, *expected):
    assert set(panels) == set(expected)
    for key, panel in panels.items():
        made: dict[str, object] = {}
        exec(compile(panel.code, key, "exec"), made)
        assert panel.code.rstrip().splitlines()[-1].startswith(("figure = ", ")"))
        found = json.loads(made["figure"].to_json())
        assert found == json.loads(panel.figure.to_json()), key


def open_well(page, **query):
    app = open_page(page, **query)
    assert not app.exception
    assert not app.error
    assert not app.warning


STEP_FIGURES = ("losses", "cosines", "conflict", "plane", "gramian", "angles")


def test_overview_and_the_examples(panels):
    open_well("overview")
    open_well("train")
    open_well("runs")
    assert_made_by_their_code(panels, "overview", *STEP_FIGURES, "weights", "overlay")


@pytest.mark.parametrize(
    ("changed", "last"),
    [
        ({"engine": "both"}, ("weights", "lockstep")),
        ({"engine": "autojac", "aggregator": "GradDrop"}, ("improvements",)),
    ],
)
def test_a_run_of_train(panels, changed, last):
    open_well("train", t_run=record(REGRESSION, **changed))
    assert_made_by_their_code(panels, *STEP_FIGURES, *last)


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("Forward", "step-losses"),
        ("Gramian", "step-gramian"),
        ("Weights", "step-weights"),
        ("Update", "step-update"),
    ],
)
@pytest.mark.parametrize("config", [TASKS, REGRESSION])
def test_one_update(panels, config, part, key):
    open_well("train", t_run=record(config), t_through="true", t_part=part, t_at="1")
    assert_made_by_their_code(panels, *STEP_FIGURES, "weights", key)


def test_a_step_whose_gramian_is_not_kept(panels):
    run_id = server.store().create_run(TASKS.to_dict(), status="finished")
    bare = [replace(one, gramian=None, kept_ids=None, shares=None) for one in train(TASKS)]
    server.store().append(run_id, bare)
    open_well("train", t_run=run_id, t_through="true", t_part="Update", t_at="2")
    assert_made_by_their_code(panels, "losses", "weights", "step-update")


def test_methods_side_by_side(panels):
    run_id = record(TASKS, group="both")
    record(TASKS, group="both", aggregator="Mean")
    open_well("train", t_run=run_id)
    overlays = ("mean-loss", "smallest-cosine", "share-of-the-pairs-in-conflict")
    expected = [f"group-{name}" for name in overlays] + ["group-cosines-0", "group-cosines-1"]
    assert_made_by_their_code(panels, *expected)


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ({}, "overlay"),
        ({"r_diff": "true", "r_series": "conflict rate", "r_x": "time"}, "overlay"),
        ({"r_view": "Δ%"}, "delta"),
        ({"r_view": "Seeds", "r_series": "smallest cosine"}, "seeds"),
    ],
)
def test_runs_compared(panels, query, key):
    ids = [record(TASKS, aggregator=name, seed=1) for name in ("Mean", "UPGrad", "PCGrad")]
    open_well("runs", r_runs=",".join(reversed(ids)), **query)
    assert_made_by_their_code(panels, key)


LENS = ("lens-matrix", "lens-layers", "lens-spectrum", "lens-plane", "lens-history", "lens-angles")


@pytest.mark.parametrize("order", ["recorded", "group", "cluster"])
def test_a_step_of_the_lens(panels, order):
    open_well("lens", l_step="41", l_order=order, l_view="gramian")
    assert set(LENS) <= set(panels)
    assert_made_by_their_code(panels, *panels)


def test_a_split_step_of_the_lens(panels):
    run_id = record(TASKS)
    open_well("lens", l_run=run_id, l_step="0")
    assert_made_by_their_code(panels, *LENS, "lens-pair-layers")


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[2.0, -1.0], [-1.0, 3.0]], ("lens-matrix", "lens-spectrum", "lens-plane", "lens-angles")),
        ([[1.0, 2.0], [3.0, 4.0]], ("lens-entries",)),
    ],
)
def test_a_matrix_of_ones_own(panels, matrix, expected, tmp_path, monkeypatch):
    app = open_page("lens")
    app.session_state["lens:upload"] = True
    app.run()
    buffer = io.BytesIO()
    np.savez(buffer, G=np.array(matrix))
    (tmp_path / "mine.npz").write_bytes(buffer.getvalue())
    monkeypatch.chdir(tmp_path)
    panels.clear()
    app.file_uploader[0].set_value(("mine.npz", buffer.getvalue(), "application/zip")).run()
    assert not app.exception
    assert_made_by_their_code(panels, *expected)


def test_what_if(panels):
    run_id = server.store().create_run(TASKS.to_dict(), status="finished")
    run = Trainer(TASKS)
    server.store().save_checkpoint(run_id, 0, pack(run))
    server.store().append(run_id, [run.advance() for _ in range(3)])
    app = open_page("lens", l_run=run_id, l_step="1", l_ahead=["Mean"], l_k="1")
    app.session_state["lens:whatif"] = True
    app.run()
    panels.clear()
    next(one for one in app.button if one.label.startswith("Take the step")).click().run()
    assert not app.exception
    assert not app.error
    assert {"futures", "futures-objectives"} <= set(panels)
    assert_made_by_their_code(panels, *panels)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ("timelines", "peaks", "times")),
        ({"e_view": "Growth", "e_problem": "mlp"}, ("growth-batch", "growth-width")),
        ({"e_view": "Map", "e_problem": "mlp"}, ("crossover",)),
        ({"e_view": "What fits", "e_problem": "mlp"}, ("fits",)),
    ],
)
def test_engines(panels, query, expected):
    open_well("engines", **query)
    assert_made_by_their_code(panels, *expected)


def test_a_measured_step_is_measured_again(panels, monkeypatch):
    found = example_comparison()
    for measurement in found.measurements:
        server.lab()._measured.put(measurement.spec, measurement)
    asked = []

    def compare(specs, rounds=None, limits=None):
        asked.append((specs, rounds, limits))
        return server.lab().comparison(specs, limits)

    monkeypatch.setattr("jdviz.profiling.compare", compare)
    open_well("engines")
    assert_made_by_their_code(panels, "timelines", "peaks")
    specs, rounds, limits = asked[0]
    assert specs[-1] == MeasureSpec("digits_cnn", "medium", 64, "sgd", "UPGrad")
    assert (rounds, limits.timeout_s) == (0, 120.0)
