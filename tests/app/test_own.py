"""A visitor's own model in the app: who may choose it, how it is trained, what is said if not."""

import os
import sys
import time

import pytest
from streamlit.testing.v1 import AppTest

from jdviz import server
from jdviz.arguments import Arguments
from jdviz.pages import PAGES, train_own
from jdviz.problems import own_paths, registry
from jdviz.problems.own import VARIABLE
from jdviz.runs import FINAL_STATUSES
from tests.structure.sources import ROOT

APP = str(ROOT / "app.py")
MODULE = """
import os
import torch
from torch import nn

print("built in", os.getpid())
open(f"imported-{os.getpid()}", "w").close()

def samples(batch_size=8):
    return nn.Linear(4, 2), (torch.randn(batch_size, 4),), lambda o: o.square().sum(1)

def tasks():
    return nn.Linear(4, 3), (torch.randn(5, 4),), lambda o: o.square().mean(0), None

def many():
    return nn.Linear(4, 300), (torch.randn(5, 4),), lambda o: o.square().mean(0), None

def broken():
    raise ValueError("no data")
"""


@pytest.fixture(autouse=True)
def folder(app_data, tmp_path, monkeypatch):
    """The folder in which the server was started, with a module and a data folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(server, "_chosen", Arguments())
    monkeypatch.setattr(registry, "_LOOKED_AT", {})
    (tmp_path / "visitors.py").write_text(MODULE, "utf-8")
    train_own.known.clear()
    yield tmp_path
    train_own.known.clear()


def open_train(**query: str) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    return app.switch_page(str(PAGES["train"].path.relative_to(ROOT))).run()


def texts(elements) -> str:
    return "\n".join(element.value for element in elements).replace("\\", "")


def imports(folder) -> list[int]:
    """The processes that imported the module."""
    return sorted(int(path.name.partition("-")[2]) for path in folder.glob("imported-*"))


def start_with(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [APP, *arguments])


def finished():
    """The one run of the store, once it has ended."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        (run,) = server.store().runs()
        if run.status in FINAL_STATUSES:
            return run
        time.sleep(0.1)
    raise AssertionError(f"the run is still {run.status}")


def test_the_options_of_the_project_hold_in_another_folder():
    # Without them the server would take itself for one that others reach.
    assert not server.is_shared()


@pytest.mark.parametrize("key", ["t_problem", "e_problem"])
@pytest.mark.parametrize("path", ["os:system", "visitors:samples"])
def test_an_address_imports_nothing(folder, key, path):
    page = {"t_problem": "train", "e_problem": "engines"}[key]
    app = AppTest.from_file(APP, default_timeout=60)
    app.query_params[key] = path
    app.run()
    app.switch_page(str(PAGES[page].path.relative_to(ROOT))).run()
    assert f"Problem “{path}” is not one of digits_mlp, digits_cnn" in texts(app.warning)
    assert not app.exception
    assert imports(folder) == []


def test_a_stored_run_imports_nothing_and_shows_its_names(folder):
    from jdviz.training import RunConfig, train

    config = RunConfig("digits_mlp", "small", 2, "sgd", 0.1, "autogram", "UPGrad", 0, 2)
    run_id = server.store().create_run(
        {**config.to_dict(), "problem": "visitors:samples"}, status="finished"
    )
    server.store().append(run_id, list(train(config)))
    app = open_train(t_run=run_id)
    assert not app.exception
    assert not app.error
    assert not app.info
    (progress,) = app.get("progress")
    assert "visitors:samples · UPGrad" in progress.proto.text.replace("\\", "")
    assert "sample " in texts(app.markdown)
    assert imports(folder) == []


def test_arguments_name_problems_and_their_children_inherit_them(monkeypatch):
    start_with(monkeypatch, "--problem", "visitors:samples", "--problem=visitors:tasks")
    app = open_train()
    assert app.selectbox(key="t_problem").options[-2:] == ["visitors:samples", "visitors:tasks"]
    assert os.environ[VARIABLE] == "visitors:samples,visitors:tasks"
    assert not app.error


def test_the_page_says_how_to_bring_a_model_only_where_there_is_none(monkeypatch):
    command = "`streamlit run app.py -- --problem package.module:factory`"
    assert command in texts(open_train().caption)
    start_with(monkeypatch, "--problem", "visitors:samples")
    assert command not in texts(open_train().caption)


def test_arguments_of_another_program_are_not_read(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest", "--problem", "visitors:samples"])
    open_train()
    assert own_paths() == ()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--speed", "9"], "The app was started with --speed 9, expected --problem package.module"),
        (["--problem"], "could not be loaded: it is no import path, expected package.module:"),
        (["--problem", "visitors"], "visitors could not be loaded: it is no import path"),
    ],
)
def test_an_argument_that_cannot_be_taken_is_said(monkeypatch, arguments, sentence):
    start_with(monkeypatch, *arguments, "--problem=visitors:tasks")
    app = open_train()
    assert sentence in texts(app.error)
    assert not app.exception
    assert own_paths() == ("visitors:tasks",)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("visitors:broken", "visitors:broken could not be loaded: the factory raised ValueError"),
        ("absent:f", "absent:f could not be loaded: there is no module absent"),
        ("visitors:many", "visitors:many has 300 objectives at every step, expected at most 256"),
    ],
)
def test_a_problem_that_cannot_be_trained_is_said_and_the_others_stand(
    monkeypatch, folder, path, sentence
):
    start_with(monkeypatch, "--problem", path)
    app = open_train()
    assert not app.error
    app.selectbox(key="t_problem").select(path).run()
    assert sentence in texts(app.error)
    assert app.button(key="start").disabled
    assert app.button(key="step").disabled
    assert os.getpid() not in imports(folder)
    app.selectbox(key="t_problem").select("digits_mlp").run()
    assert not app.error
    assert not app.button(key="start").disabled


def test_a_problem_that_was_corrected_can_be_loaded_again(monkeypatch, folder):
    start_with(monkeypatch, "--problem", "visitors:broken")
    app = open_train(t_problem="visitors:broken")
    assert "raised ValueError: no data" in texts(app.error)
    corrected = MODULE.replace('raise ValueError("no data")', "return tasks()")
    (folder / "visitors.py").write_text(corrected, "utf-8")
    app.button(key="train:load-again").click().run()
    assert not app.error
    assert not app.button(key="start").disabled


@pytest.mark.parametrize(
    ("path", "batch_size", "m"), [("visitors:samples", 8, 8), ("visitors:tasks", 5, 3)]
)
def test_a_model_of_ones_own_is_trained_and_recorded(monkeypatch, folder, path, batch_size, m):
    start_with(monkeypatch, "--problem", path)
    app = open_train()
    app.selectbox(key="t_problem").select(path).run()
    assert app.query_params["t_problem"] in (path, [path])
    assert app.number_input(key="t_rate").value == 0.1
    app.number_input(key="t_steps").set_value(4).run()
    app.selectbox(key="t_pace").select("full").run()
    app.button(key="start").click().run()
    assert not app.error
    run = finished()
    assert (run.status, run.message, run.steps) == ("finished", "", 4)
    assert (run.config["problem"], run.config["batch_size"]) == (path, batch_size)
    record = server.store().latest(run.run_id)
    assert record.gramian.shape == (m, m)
    assert (record.sample_ids is None) == (path == "visitors:tasks")
    assert os.getpid() not in imports(folder)
    app.run()
    assert not app.exception
    assert ("sample " if m == 8 else "objective ") in texts(app.markdown)


def test_a_batch_size_is_offered_where_the_factory_takes_one(monkeypatch):
    start_with(monkeypatch, "--problem=visitors:samples", "--problem=visitors:tasks")
    app = open_train(t_problem="visitors:samples")
    batch = app.number_input(key="t_batch")
    assert (batch.value, batch.min, batch.max) == (8, 2, 256)
    app.selectbox(key="t_problem").select("visitors:tasks").run()
    assert "t_batch" not in {one.key for one in app.number_input}
    assert "Batch size 5, as the factory makes it." in texts(app.caption)
