"""The Train page without a browser: one run, several side by side, one update in numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from jdviz import server
from jdviz.arguments import Arguments
from jdviz.pages import train_controls
from jdviz.problems import PROBLEMS
from jdviz.runs import FINAL_STATUSES
from jdviz.training import RunConfig, StepRecord, train
from jdviz.training.limits import RunLimits
from jdviz.training.script import script
from tests.support.pages import open_page, texts
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("app_data")

TWO_TASKS = RunConfig("digits_two_tasks", "small", 8, "sgd", 0.1, "autogram", "UPGrad", 0, 3)


def assert_well(app):
    assert not app.exception
    assert not app.error


def trained(config=TWO_TASKS, **given):
    """A finished run of the store, and its steps."""
    records = list(train(config))
    run_id = server.store().create_run(config.to_dict(), status="running", **given)
    server.store().append(run_id, records)
    server.store().set_status(run_id, "finished")
    return run_id, records


def by_hand(step, losses=(1.0, 2.0), gramian=((4.0, -1.0), (-1.0, 9.0)), **given):
    """A step of two tasks with whole numbers: w = (1, 0.5), so G w = (3.5, 3.5)."""
    fields = {
        "weights": np.array([1.0, 0.5]),
        "inner": np.array([3.5, 3.5]),
        "direction_norm": 2.29,
        **given,
    }
    return StepRecord(
        step=step,
        time_s=0.1 * step,
        losses=np.array(losses),
        gramian=None if gramian is None else np.array(gramian),
        sample_ids=None,
        elapsed_s=0.1,
        peak_bytes=None,
        **fields,
    )


def recorded(*records, config=None, status="running", **given):
    """A run of somebody's own script."""
    store = server.store()
    settings = {"objectives": ("depth", "mask"), "name": "my net", "source": "recorder"}
    run_id = store.create_run(config or {}, status="running", **{**settings, **given})
    store.append(run_id, records)
    store.set_status(run_id, status)
    return run_id


def progress(app):
    return [one.proto.text for one in app.get("progress")]


def titles(app):
    return [one.value for one in app.markdown if one.value.startswith("**")]


def alternatives(app):
    """The text alternatives of the figures, by their titles."""
    found = {}
    for one in app.get("bidi_component"):
        data = json.loads(one.proto.json)
        title, _, words = data["alt"].partition(". ")
        found[title] = words
    return found


def select(app, key, value):
    app.session_state[key] = value
    return app.run()


# One run


def test_a_run_of_both_engines_shows_how_far_they_are_apart():
    run_id, _ = trained(replace(TWO_TASKS, engine="both"))
    app = open_page("train", t_run=run_id)
    assert_well(app)
    assert progress(app) == ["Step 3 of 3 · finished · Digits, two tasks · UPGrad · both engines"]
    assert alternatives(app)["Both engines on the same batches"].startswith("Over 3 steps")


def test_a_run_of_one_engine_has_no_comparison():
    run_id, _ = trained()
    app = open_page("train", t_run=run_id)
    assert_well(app)
    assert "Both engines on the same batches" not in alternatives(app)
    assert "Conflict over the steps" in alternatives(app)


def test_a_method_that_needs_the_jacobian_has_no_lockstep():
    app = open_page("train", t_aggregator="GradDrop", t_engine="both")
    engines = {one.label: one.options for one in app.selectbox}
    assert engines["Engine"] == ["autojac: full Jacobian"]
    app.selectbox(key="t_aggregator").select("UPGrad").run()
    assert app.selectbox(key="t_engine").value == "both"


def test_every_problem_has_its_dial():
    app = open_page("train")
    for key, problem in PROBLEMS.items():
        app.selectbox(key="t_problem").select(key).run()
        dial = app.number_input(key="t_conflict")
        assert (dial.value, dial.help) == (problem.default_conflict, problem.dial)


def test_another_problem_puts_the_dial_where_it_starts():
    app = open_page("train", t_problem="digits_two_tasks", t_conflict="0.8")
    assert app.number_input(key="t_conflict").value == 0.8
    app.selectbox(key="t_problem").select("conflict_regression").run()
    assert app.number_input(key="t_conflict").value == 0.5


def test_the_code_of_a_run_is_that_of_its_settings():
    app = open_page("train", t_seed="7")
    assert not app.code
    select(app, "train:code", True)
    (planned,) = app.code
    assert '"seed": 7' in planned.value
    run_id, _ = trained()
    app = select(open_page("train", t_run=run_id, t_seed="7"), "train:code", True)
    assert [one.value for one in app.code] == [script(TWO_TASKS).strip()]


def test_settings_that_cannot_run_have_no_code():
    app = open_page("train", t_problem="digits_two_tasks", t_aggregator="Krum")
    select(app, "train:code", True)
    assert not app.code
    assert "There is no script for these settings: Krum needs at least" in texts(app.caption)


# The limits of whoever started the server


def limit(monkeypatch, **limits):
    monkeypatch.setattr(server, "_chosen", Arguments(limits=RunLimits(**limits)))


def test_the_boxes_end_at_the_limits_and_say_whose_they_are(monkeypatch):
    limit(monkeypatch, max_steps=100, max_batch=16)
    app = open_page("train", t_steps="300")
    steps, batch = app.number_input(key="t_steps"), app.number_input(key="t_batch")
    assert (steps.max, steps.value, batch.max, batch.value) == (100, 100, 16, 16)
    assert steps.help == "1 to 100, a limit set by whoever started this server."
    assert "a limit set by whoever started this server" in batch.help
    assert "Steps 300 is outside 1 to 100; using 100 instead" in texts(app.warning)


def test_limits_beyond_the_page_s_own_are_not_spoken_of(monkeypatch):
    limit(monkeypatch, max_steps=10**6, max_batch=10**6)
    app = open_page("train")
    assert app.number_input(key="t_steps").help == "1 to 5,000."
    assert app.number_input(key="t_batch").help == "2 to 256 samples in a step."


def test_a_run_that_reached_its_time_says_so():
    run_id = server.store().create_run(TWO_TASKS.to_dict(), status="running")
    sentence = RunLimits(max_seconds=60).time_is_up
    server.store().set_status(run_id, "stopped", sentence)
    app = open_page("train", t_run=run_id)
    assert_well(app)
    assert sentence in texts(app.warning)


# Any run can be watched


def test_a_run_of_a_script_is_shown_as_far_as_it_is_recorded():
    run_id = recorded(by_hand(0), by_hand(1, losses=(0.5, 1.0)), status="running")
    app = open_page("train", t_run=run_id)
    assert_well(app)
    assert progress(app) == ["Step 2 · running · my net · recorded by a script"]
    shown = alternatives(app)
    assert shown["Losses"] == (
        "Between step 0 and step 1 the mean loss went from 1.50 to 0.750, and none of the losses "
        "rose."
    )
    assert {"Weights w", "Gramian G = J Jᵀ", "Where the update goes"} <= set(shown)
    assert "depth and mask" in texts(app.markdown)
    # It goes on somewhere else: only a run of one's own can be started from here.
    assert app.button(key="start").label == "Start"
    assert app.button(key="stop").disabled
    assert app.button(key="pause").disabled


def test_losses_alone_are_enough():
    bare = {"gramian": None, "weights": None, "inner": None, "direction_norm": None}
    run_id = recorded(by_hand(0, **bare), by_hand(1, **bare), status="finished")
    app = open_page("train", t_run=run_id)
    assert_well(app)
    assert list(alternatives(app)) == ["Losses"]


def test_weights_are_shown_where_there_is_no_gramian():
    run_id = recorded(by_hand(0, gramian=None), status="finished")
    app = open_page("train", t_run=run_id)
    assert_well(app)
    assert list(alternatives(app)) == ["Losses", "Weights w"]


def test_the_last_gramian_kept_is_shown_and_said():
    run_id = recorded(by_hand(0), by_hand(1, gramian=None), status="finished")
    app = open_page("train", t_run=run_id)
    assert_well(app)
    assert "Step 1 has no Gramian; the figures of its gradients are of step 0." in texts(
        app.caption
    )
    assert "Gramian G = J Jᵀ" in alternatives(app)


def test_what_a_script_calls_its_run_has_no_effect_as_markdown():
    run_id = recorded(by_hand(0), name="*x* ![y](http://a/b.png)")
    app = open_page("train", t_run=run_id)
    assert r"\*x\* \!\[y\]\(http\://a/b.png\)" in progress(app)[0]


def test_kept_apart_visitors_see_what_is_published_and_nothing_else(monkeypatch):
    monkeypatch.setattr(server, "_chosen", Arguments(shared=True))
    hidden, _ = trained(owner="another")
    published, _ = trained(owner="another", published=True)
    app = open_page("train", t_run=hidden)
    assert f"has no run “{hidden}”" in texts(app.warning)
    assert not progress(app)
    app = open_page("train", t_run=published)
    assert_well(app)
    assert progress(app)[0].endswith("published by another session")


# Several side by side


def test_several_methods_start_from_one_seed_each_with_an_engine_that_can_run_it():
    app = open_page("train", t_problem="conflict_regression", t_beside=["Sum", "GradDrop"])
    app.button(key="start").click().run()
    assert_well(app)
    runs = server.store().runs()[::-1]
    configs = {run.config["aggregator"]: run.config for run in runs}
    assert list(configs) == ["UPGrad", "GradDrop", "Sum"]
    assert [config["engine"] for config in configs.values()] == ["autogram", "autojac", "autogram"]
    assert {run.group for run in runs} == {runs[0].group} != {""}
    # The sum of four gradients is four times as long as their mean.
    rates = [configs[name]["learning_rate"] for name in ("UPGrad", "Sum")]
    assert rates[1] == pytest.approx(rates[0] / 4, abs=1e-4)
    changed = {"aggregator", "engine", "learning_rate"}
    assert {key: configs["GradDrop"][key] for key in configs["GradDrop"] if key not in changed} == {
        key: configs["UPGrad"][key] for key in configs["UPGrad"] if key not in changed
    }
    assert app.query_params["t_run"] in (runs[0].run_id, [runs[0].run_id])


def test_a_group_is_shown_on_one_axis_and_each_by_itself():
    ids = [trained(replace(TWO_TASKS, aggregator=name), group="g")[0] for name in ("UPGrad", "Sum")]
    app = open_page("train", t_run=ids[0])
    assert_well(app)
    assert progress(app) == [
        "**UPGrad** · Step 3 of 3 · finished",
        "**Sum** · Step 3 of 3 · finished",
    ]
    shown = alternatives(app)
    assert {"Mean loss", "Smallest cosine", "Share of the pairs in conflict"} <= set(shown)
    assert {"UPGrad: cosines at step 2", "Sum: cosines at step 2"} <= set(shown)
    assert "Losses" not in shown
    select(app, "t_look", "Sum")
    assert_well(app)
    assert "Where Sum goes" in alternatives(app)


def test_a_group_is_found_again_from_the_address_of_any_of_its_runs():
    ids = [trained(TWO_TASKS, group="g")[0] for _ in range(2)]
    trained(TWO_TASKS)
    app = open_page("train", t_run=ids[1])
    assert_well(app)
    assert len(progress(app)) == 2
    server.store().delete([ids[0]])
    app.run()
    assert_well(app)
    assert len(progress(app)) == 1


def test_waiting_runs_say_their_place_and_all_take_commands():
    app = open_page("train", t_problem="conflict_regression", t_beside=["Mean", "MGDA"])
    app.number_input(key="t_steps").set_value(5000).run()
    app.button(key="start").click().run()
    assert_well(app)
    store = server.store()
    waiting = "Waiting for a free worker, place"
    assert progress(app)[1:] == [
        f"**MGDA** · {waiting} 1 of 2 in the queue",
        f"**Mean** · {waiting} 2 of 2 in the queue",
    ]
    app.button(key="stop").click().run()
    wait_until(lambda: all(run.status in FINAL_STATUSES for run in store.runs()), "the end")
    assert {run.status for run in store.runs()} == {"stopped"}


def test_at_most_three_are_beside_it():
    chosen = ["Mean", "MGDA", "PCGrad", "Sum"]
    app = open_page("train", t_beside=chosen)
    assert f"At most {train_controls.MOST_BESIDE} fit beside it" in texts(app.caption)
    assert_well(app)


# One update in numbers


def through(run_id, part="Forward", **query):
    app = open_page("train", t_run=run_id, t_through="true", t_part=part, **query)
    assert_well(app)
    return app


def table(app):
    (found,) = [one.value for one in app.dataframe if "objective" in one.value.columns]
    return {name: list(found[name]) for name in found.columns}


def formulas(app):
    return [one.value.replace("$", "").strip() for one in app.latex]


HAND = {"config": {"learning_rate": 0.1, "optimizer": "sgd", "engine": "autogram"}}


def test_few_objectives_have_their_numbers_in_the_formulas():
    run_id = recorded(by_hand(0), by_hand(1, losses=(0.75, 2.5)), status="finished", **HAND)
    app = through(run_id, t_at="0")
    assert formulas(app) == [r"f(x) = (1.00,\; 2.00)"]
    assert table(app) == {"objective": ["depth", "mask"], "loss": ["1.00", "2.00"]}
    select(app, "t_part", "Gramian")
    assert formulas(app) == [
        r"G = J J^\top = \begin{pmatrix} 4.00 & −1.00 \\ −1.00 & 9.00 \end{pmatrix}"
    ]
    assert table(app)["with mask"] == ["−1.00", "9.00"]
    select(app, "t_part", "Weights")
    assert formulas(app) == [r"A(J) = J^\top w = 1.00\, g_1 +0.500\, g_2"]
    select(app, "t_part", "Update")
    product = r"\begin{pmatrix} 3.50 \\ 3.50 \end{pmatrix}"
    assert formulas(app)[0].endswith(
        rf"\begin{{pmatrix}} 1.00 \\ 0.500 \end{{pmatrix}} = {product}"
    )
    assert formulas(app)[1] == r"\lVert A(J) \rVert = 2.29, \quad \eta = 0.100"
    assert table(app) == {
        "objective": ["depth", "mask"],
        "gᵢ·A(J)": ["3.50", "3.50"],
        "predicted −η gᵢ·A(J)": ["−0.350", "−0.350"],
        "actual": ["−0.250", "0.500"],
    }


def test_many_objectives_have_their_largest_in_the_table():
    config = RunConfig("digits_mlp", "small", 12, "adam", 0.1, "autojac", "UPGrad", 0, 2)
    run_id, records = trained(config)
    app = through(run_id, t_at="0")
    assert formulas(app) == [r"f(x) = (f_1(x), \dots, f_m(x)), \quad m = 12"]
    largest = np.sort(records[0].losses)[::-1][:5]
    assert table(app)["loss"] == [f"{value:.2f}" for value in largest]
    assert "The 5 largest of 12" in texts(app.markdown)
    select(app, "t_part", "Jacobian")
    assert "The Jacobian" not in texts(app.error)
    assert "the Jacobian J has a gradient gᵢ in each of its 12 rows" in texts(app.markdown)
    select(app, "t_part", "Update")
    words = texts(app.markdown)
    assert "Adam makes another step of A(J)" in words
    assert "The next batch holds other samples" in words
    assert_well(app)


def test_the_steps_are_gone_through_one_by_one():
    losses = [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
    records = [by_hand(5 * place, losses=both) for place, both in enumerate(losses)]
    run_id = recorded(*records, status="finished", **HAND)
    app = through(run_id)
    assert table(app)["loss"] == ["3.00", "3.00"]
    assert app.button(key="train:next").disabled
    app.button(key="train:previous").click().run()
    assert table(app)["loss"] == ["2.00", "2.00"]
    assert app.query_params["t_at"] in ("5", ["5"])
    app.number_input(key="train:step").set_value(4).run()
    # Step 4 was not recorded; the one before it was.
    assert table(app)["loss"] == ["1.00", "1.00"]
    assert app.button(key="train:previous").disabled
    app.button(key="train:newest").click().run()
    assert table(app)["loss"] == ["3.00", "3.00"]
    assert "t_at" not in app.query_params


def test_while_a_run_goes_on_it_stays_the_step_it_was_opened_at():
    run_id = recorded(by_hand(0), **HAND)
    app = through(run_id)
    server.store().append(run_id, [by_hand(1, losses=(7.0, 7.0))])
    app.run()
    assert table(app)["loss"] == ["1.00", "2.00"]
    server.store().set_status(run_id, "paused")
    app.run()
    assert table(app)["loss"] == ["7.00", "7.00"]


@pytest.mark.parametrize("step", ["-1", "x", "9" * 5000])
def test_a_step_of_the_address_that_is_none_is_the_newest(step):
    run_id = recorded(by_hand(0), by_hand(1, losses=(7.0, 7.0)), status="finished", **HAND)
    assert table(through(run_id, t_at=step))["loss"] == ["7.00", "7.00"]


def test_what_was_not_recorded_is_said():
    bare = {"gramian": None, "weights": None, "inner": None}
    run_id = recorded(by_hand(0, **bare), status="finished")
    for part, what in (("Gramian", "Gramian"), ("Weights", "weights"), ("Update", "update")):
        assert f"The {what}" in texts(through(run_id, part).info)
    run_id = recorded(by_hand(0), status="finished")
    assert "does not say its learning rate" in texts(through(run_id, "Update").caption)


def test_the_example_can_be_gone_through():
    app = open_page("train", t_through="true")
    assert_well(app)
    assert "Shown is **step 79**; the newest is step 79." in texts(app.markdown)
