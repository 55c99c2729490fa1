"""The Runs page without a browser: choosing, comparing, describing, importing and deleting runs."""

import json
from dataclasses import replace

import numpy as np
import pytest

from jdviz import server
from jdviz.pages import runs_details, runs_manage, runs_table
from jdviz.runs.outputs import series_columns
from jdviz.runs.rows import RANKS, SENT_BYTES
from jdviz.runs.transfer import export_bytes
from jdviz.training.record import StepRecord
from tests.support.pages import numbers, open_page, texts

pytestmark = pytest.mark.usefixtures("app_data")
DELTA = "Δ%"


def record(
    name="", *, method="UPGrad", seed=0, losses=(1.0, 2.0), steps=3, status="finished", **given
):
    """A run of two tasks whose losses stay as they are."""
    names = given.pop("objectives", ("seg", "depth"))
    config = {"problem": "own", "aggregator": method, "seed": seed, "conflict": 0.5}
    kept = server.store()
    run_id = kept.create_run(config | given, name=name, source="recorder", objectives=names)
    kept.append(run_id, [step(number, losses) for number in range(steps)])
    kept.set_status(run_id, status)
    return run_id


def step(number, losses):
    return StepRecord(
        step=number,
        time_s=0.1 * number,
        losses=np.array(losses),
        gramian=np.array([[1.0, -0.5], [-0.5, 1.0]]),
        weights=np.array([0.5, 0.5]),
        inner=None,
        direction_norm=None,
        sample_ids=None,
        elapsed_s=0.1,
        peak_bytes=None,
    )


def drawn(app):
    """The figures on the page: name of every visible line or bar to its values."""
    found = {}
    for element in app.get("bidi_component"):
        figure = json.loads(json.loads(element.proto.json)["figure"])
        found |= {
            trace["name"]: numbers(trace["y"])
            for trace in figure["data"]
            if "name" in trace and trace.get("showlegend", True)
        }
    return found


def captions(app) -> str:
    return texts(app.caption) + texts(app.markdown) + texts(app.info)


def test_before_anything_was_recorded_there_is_an_example_and_a_way_to_begin():
    app = open_page("runs")
    assert "Example: a recorded run" in texts(app.caption)
    assert "from jdviz import Recorder" in texts(app.code)
    assert list(drawn(app)) == ["example"]
    assert not app.exception
    assert not app.error


def test_the_table_says_what_is_known_of_every_run():
    record("mine", steps=2)
    record(method="Mean", seed=3)
    app = open_page("runs")
    table = app.dataframe[0].value
    assert table["what"].tolist() == ["own · Mean", "own · UPGrad"]
    assert table["name"].tolist()[1] == "mine"
    assert table["seed"].tolist() == ["3", "0"]
    assert table["steps"].tolist() == [3, 2]
    assert table["mean loss"].tolist() == [1.5, 1.5]
    assert table["conflict rate"].tolist() == [1.0, 1.0]
    assert table["smallest cosine"].tolist() == [-0.5, -0.5]
    # Chosen until the visitor chooses: the newest that train the same.
    assert "2 runs; 2 chosen" in texts(app.caption)
    assert not app.exception


def test_runs_of_several_ranks_say_so_and_what_was_exchanged():
    one = record("alone")
    kept = server.store()
    two = record("together", **{RANKS: 2})
    sent = [{SENT_BYTES: size * 2.0**20} for size in (1, 4, 2)]
    kept.append(two, [replace(step(n, (1.0, 2.0)), scalars=sent[n]) for n in range(3)])
    unknown = record("by hand", **{RANKS: 4})
    app = open_page("runs", r_runs=",".join((two, one, unknown)), r_view="One run")
    table = app.dataframe[0].value
    assert table["name"].tolist() == ["by hand", "together", "alone"]
    assert table["ranks"].tolist()[:2] == [4, 2]
    assert np.isnan(table["ranks"].tolist()[2])
    assert table["exchanged"].tolist()[1] == "2.00 MiB"
    assert table["exchanged"].isna().tolist() == [True, False, True]
    sentence = "Trained by 2 ranks of torch.distributed, which together sent 2.00 MiB in a step"
    assert sentence in texts(app.caption)
    assert "the median of 3 steps" in texts(app.caption)
    app.selectbox(key="r_one").select(unknown).run()
    assert "Trained by 4 ranks of torch.distributed; what they exch" in texts(app.caption)
    app.selectbox(key="r_one").select(one).run()
    assert "torch.distributed" not in texts(app.caption)
    assert not app.exception


def test_runs_of_one_process_have_no_column_for_ranks_and_bytes_can_be_drawn():
    one = record("alone")
    assert {"ranks", "exchanged"}.isdisjoint(open_page("runs").dataframe[0].value.columns)
    two = record("together", **{RANKS: 2})
    sent = {SENT_BYTES: 2.0**20}
    server.store().append(two, [replace(step(n, (1.0, 2.0)), scalars=sent) for n in range(3)])
    app = open_page("runs", r_runs=f"{one},{two}", r_series="exchanged between ranks")
    assert drawn(app)["together"] == [1.0] * 3
    assert not app.exception


def test_a_filter_in_the_address_leaves_its_runs_and_hides_chosen_ones():
    record("first", seed=1)
    record("second", seed=2)
    app = open_page("runs", r_q="own SEED=2")
    assert app.dataframe[0].value["name"].tolist() == ["second"]
    assert "1 of them in the table; 2 chosen, 1 of them hidden by the filter" in texts(app.caption)


def test_chosen_runs_are_in_the_address_and_unknown_ones_are_said():
    one, two = record("one"), record("two")
    app = open_page("runs", r_runs=f"{two},nothing*,{one}")
    assert list(drawn(app)) == ["two", "one"]
    assert r"has no run “nothing\*” that you may see" in texts(app.warning)
    assert app.query_params["r_runs"] == f"{two},{one}"
    app.button(key="runs:none").click().run()
    assert "Choose one or more runs" in texts(app.info)
    assert not app.warning
    assert not app.exception


def test_every_series_of_the_runs_can_be_drawn():
    record("one")
    app = open_page("runs")
    options = app.selectbox(key="r_series").options
    assert options == [
        "Mean loss",
        "Loss of seg",
        "Loss of depth",
        "Conflict rate",
        "Smallest cosine",
        "Time of a step",
        "Weight of seg",
        "Weight of depth",
    ]
    app.selectbox(key="r_series").select("loss of depth").run()
    assert drawn(app)["one"] == [2.0, 2.0, 2.0]
    assert app.query_params["r_series"] == "loss of depth"
    assert not app.exception


def test_a_series_that_no_run_has_is_said_and_the_mean_loss_drawn():
    record("one")
    app = open_page("runs", r_series="loss of *x*", r_smooth="7")
    assert r"have no series “loss of \*x\*”; using Mean loss instead" in texts(app.warning)
    assert "Smoothing 7 is outside 0 to 0.99" in texts(app.warning)
    assert drawn(app)["one"] == [1.5] * 3


def test_at_most_eight_runs_are_drawn_and_it_is_said():
    ids = [record(f"run {number}", seed=number) for number in range(9)]
    app = open_page("runs", r_runs=",".join(ids))
    assert len(drawn(app)) == 8
    assert "The first 8 of 9 runs are drawn" in texts(app.caption)


def test_the_difference_to_the_baseline_of_the_same_seed():
    ids = [
        record(method="Mean", losses=(2.0, 2.0)),
        record(losses=(1.0, 2.0)),
        record(seed=1),
    ]
    app = open_page("runs", r_runs=",".join(ids), r_diff="true")
    assert drawn(app) == {"Mean · seed 0": [0.0] * 3, "UPGrad · seed 0": [-0.5] * 3}
    assert "without a baseline among the chosen runs: UPGrad · seed 1" in texts(app.info)
    app = open_page("runs", r_runs=",".join(ids), r_diff="true", r_base=ids[1])
    assert drawn(app)["UPGrad · seed 1"] == [0.0] * 3


def test_delta_is_shown_per_task_and_what_cannot_be_compared_is_said():
    ids = [
        record(method="Mean", losses=(2.0, 2.0)),
        record(losses=(1.0, 4.0)),
        record("other", losses=(1.0, 1.0), objectives=("seg", "normals")),
    ]
    app = open_page("runs", r_runs=",".join(ids), r_view=DELTA, r_base=ids[0])
    assert drawn(app) == {"UPGrad": [50.0, -100.0, -25.0]}
    assert "other is not compared\\: its objectives are seg, normals" in captions(app)
    alone = open_page("runs", r_runs=ids[1], r_view=DELTA)
    assert "There is no run to compare with" in texts(alone.info)
    assert not app.exception


def test_seeds_are_grouped_and_ranked_only_from_three_on():
    ids = [record(method=name, seed=seed) for name in ("Mean", "UPGrad") for seed in range(3)]
    app = open_page("runs", r_runs=",".join(ids), r_view="Seeds")
    table = app.dataframe[1].value
    assert table["configuration"].tolist() == ["Mean", "UPGrad"]
    assert table["seeds"].tolist() == ["0, 1 and 2"] * 2
    assert "from lowest to highest" in texts(app.caption)
    assert "**UPGrad** less **Mean**, mean loss over 3 seeds, at step 2: median 0" in captions(app)
    fewer = open_page("runs", r_runs=",".join(ids[:5]), r_view="Seeds")
    assert "no ranking, because that takes 3 seeds of each" in texts(fewer.caption)
    assert "Too few seeds to conclude anything" in captions(fewer)


def test_losses_of_different_problems_are_never_ranked_together():
    one, other = record("one"), record("other", problem="else")
    app = open_page("runs", r_runs=f"{one},{other}", r_view="Seeds")
    assert "Not compared with one: other." in texts(app.info)
    assert list(drawn(app)) == ["one (1 seed)"]


def test_a_run_is_named_tagged_and_described():
    run_id = record(status="running")
    app = open_page("runs", r_view="One run")
    key = f"runs:edit:{run_id}"
    app.text_input(key=f"{key}:name").input("  *mine*  ")
    app.text_input(key=f"{key}:tags").input("thesis, , fast")
    app.text_area(key=f"{key}:notes").input("why")
    app.button(key=f"{key}:save").click().run()
    found = server.store().run(run_id)
    assert found is not None
    assert (found.name, found.tags, found.notes) == ("*mine*", ("thesis", "fast"), "why")
    assert r"**\*mine\***" in texts(app.markdown)
    assert not app.checkbox
    assert not app.exception


def test_runs_are_deleted_only_after_a_question_and_never_while_they_go_on():
    ended, going = record("ended"), record("going", status="running")
    app = open_page("runs", r_runs=f"{ended},{going}")
    assert "1 chosen run still going" in texts(app.caption)
    app.button(key="runs:delete").click().run()
    assert "Together 3 steps" in texts(app.markdown)
    assert server.store().run(ended) is not None
    app.button(key="runs:really").click().run()
    assert [run.run_id for run in server.store().runs()] == [going]
    assert app.query_params["r_runs"] == going
    assert "1 run deleted" in texts(app.toast)
    assert not app.exception


def test_a_store_beyond_its_limit_offers_old_runs(monkeypatch):
    old, new = record("old"), record("new")
    limit = server.store().size_bytes() - 1
    monkeypatch.setattr(runs_manage, "store_limit_bytes", lambda: limit)
    app = open_page("runs")
    assert "1 old run without a tag could go" in texts(app.warning)
    app.button(key="runs:tidy").click().run()
    app.button(key="runs:really").click().run()
    assert [run.run_id for run in server.store().runs()] == [new]
    assert server.store().run(old) is None


@pytest.fixture
def shared(monkeypatch):
    monkeypatch.setattr(server, "is_shared", lambda: True)
    monkeypatch.setattr(runs_details, "is_shared", lambda: True)


@pytest.mark.usefixtures("shared")
def test_on_a_shared_server_runs_of_others_are_seen_once_published_and_never_changed():
    hidden, open_to_all = record("hidden"), record("open")
    server.store().annotate(open_to_all, published=True)
    app = open_page("runs", r_runs=f"{hidden},{open_to_all}", r_view="One run")
    assert app.dataframe[0].value["name"].tolist() == ["open"]
    assert "that you may see" in texts(app.warning)
    assert "Published by another session" in texts(app.caption)
    assert app.button(key="runs:delete").disabled
    assert [one.key for one in app.button if one.key and one.key.endswith(":save")] == []


@pytest.mark.usefixtures("shared")
def test_a_visitor_publishes_a_run_of_their_own():
    run_id = record("mine")
    app = open_page("runs")
    with server.store().database.transaction() as connection:
        connection.execute("UPDATE runs SET owner=?", (app.session_state["visitor"],))
    app.query_params["r_view"] = "One run"
    app.run()
    app.checkbox(key=f"runs:edit:{run_id}:published").check()
    app.button(key=f"runs:edit:{run_id}:save").click().run()
    found = server.store().run(run_id)
    assert found is not None
    assert found.published


def test_a_file_comes_in_as_a_run_and_anything_else_is_refused():
    run_id = record("mine")
    content = export_bytes(server.store(), run_id)
    app = open_page("runs")
    app.file_uploader[0].upload("mine.jdviz", content, "application/octet-stream").run()
    imported, original = server.store().runs()
    assert (imported.source, original.run_id) == ("import", run_id)
    assert app.query_params["r_runs"] == f"{run_id},{imported.run_id}"
    assert "mine.jdviz was imported" in texts(app.toast)
    assert app.dataframe[0].value["status"].tolist() == ["finished, imported", "finished"]
    columns = series_columns(server.store(), imported.run_id)
    np.testing.assert_array_equal(columns["loss[seg]"], [1.0] * 3)
    app.file_uploader[0].upload("bad.jdviz", b"nothing", "application/octet-stream").run()
    assert "bad.jdviz was not imported" in texts(app.error)
    assert len(server.store().runs()) == 2
    assert not app.exception


def test_the_marks_of_the_table_change_what_is_chosen(monkeypatch):
    class Marks:
        selection = type("Selection", (), {"rows": [1, 0]})

    state = {"runs:chosen": ["hidden", "b", "c"], "table": Marks}
    monkeypatch.setattr(runs_table.st, "session_state", state)
    monkeypatch.setattr(runs_table.st, "query_params", {})
    runs_table._take("table", ["a", "b", "c"])
    assert runs_table.chosen_ids() == ["hidden", "b", "a"]
