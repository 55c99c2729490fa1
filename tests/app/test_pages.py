"""Every page opened without a browser: its title, no exception, and bad input said plainly."""

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.forward_msg_cache import populate_hash_if_needed

from jdviz import server
from jdviz.pages import PAGES
from jdviz.problems import PROBLEMS
from jdviz.runs import StoreError
from jdviz.training import RunConfig, train
from tests.support.pages import open_page, texts

pytestmark = pytest.mark.usefixtures("app_data")


@pytest.mark.parametrize("key", PAGES)
def test_page_opens_with_its_question(key):
    app = open_page(key)
    assert [title.value for title in app.title] == [PAGES[key].question]
    assert not app.exception
    assert not app.error
    assert app.get("bidi_component")


def test_nothing_is_sent_as_a_reference():
    # Streamlit keeps references where it drops what they belong to; the browser cannot place them.
    message = ForwardMsg()
    message.delta.new_element.markdown.body = "x" * 2**22
    populate_hash_if_needed(message)
    assert message.hash
    assert not message.metadata.cacheable


def test_what_a_page_imports_is_settled_once(monkeypatch):
    server.settle_imports.clear()
    frozen = []
    monkeypatch.setattr(server.gc, "freeze", lambda: frozen.append(True))
    open_page("overview").run()
    assert len(frozen) == 1
    open_page("directions")
    assert len(frozen) == 2


@pytest.mark.parametrize(
    ("key", "query", "sentence"),
    [
        ("train", {"t_batch": "5000"}, "Batch size 5000 is outside 2 to 256; using 64"),
        ("train", {"t_batch": "many"}, "Batch size “many” is not a number"),
        ("train", {"t_rate": "nan"}, "Learning rate nan is outside"),
        ("train", {"t_problem": "moon"}, "Problem “moon” is not one of"),
        ("train", {"t_seed": "1.5"}, "Seed 1.5 is not a whole number"),
        ("directions", {"d_m": "9"}, "Gradients “9” is not one of 2, 3, 4, 5, 6, 7, 8"),
        ("directions", {"d_methods": "Magic"}, "Aggregators “Magic” is not one of"),
        ("directions", {"d_a1": "inf"}, "g₁ angle, ° inf is outside"),
        ("directions", {"d_MGDA_epsilon": "5"}, "MGDA epsilon 5 is outside 1e-09 to 0.1"),
        ("directions", {"d_Krum_n_byzantine": "0.5"}, "Krum n byzantine 0.5 is not a whole"),
        ("directions", {"d_UPGrad_solver": "guess"}, "UPGrad solver “guess” is not one of auto"),
        ("directions", {"d_UPGrad_pref_vector_1": "x"}, "UPGrad pref vector, g₁ “x” is not"),
        ("train", {"t_aggregator": "MoDo"}, "Aggregator “MoDo” is not one of UPGrad"),
        ("engines", {"e_aggregator": "GradDrop"}, "Aggregator “GradDrop” is not one of UPGrad"),
        ("engines", {"e_size": "vast"}, "Model size “vast” is not one of"),
    ],
)
def test_an_address_that_cannot_be_followed_is_said(key, query, sentence):
    app = open_page(key, **query)
    assert sentence in texts(app.warning)
    assert not app.exception
    assert not app.error


@pytest.mark.parametrize(
    ("key", "query", "text"),
    [
        ("train", {"t_aggregator": "![x](http://a/b.png)"}, r"\!\[x\]\(http\://a/b.png\)"),
        ("train", {"t_aggregator": "<b>x</b>"}, r"\<b\>x\</b\>"),
        ("train", {"t_run": "*" * 500}, r"\*" * 59 + "…"),
    ],
)
def test_text_from_the_address_is_short_and_without_effect(key, query, text):
    app = open_page(key, **query)
    assert f"“{text}”" in texts(app.warning)


CHOICES = {
    "t_problem": "conflict_regression",
    "t_aggregator": "PCGrad",
    "t_engine": "autojac",
    "t_size": "large",
    "t_optimizer": "adam",
    "t_pace": "slow",
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_follows_the_address_and_stays_in_it(name):
    app = open_page("train", **{name: CHOICES[name]})
    for _ in range(3):
        assert app.selectbox(key=name).value == CHOICES[name]
        assert app.query_params[name] in (CHOICES[name], [CHOICES[name]])
        assert not app.warning
        app.run()


def test_a_choice_made_on_the_page_goes_to_the_address():
    app = open_page("train")
    assert "t_problem" not in app.query_params
    app.selectbox(key="t_problem").select("digits_cnn").run()
    assert app.query_params["t_problem"] in ("digits_cnn", ["digits_cnn"])
    app.selectbox(key="t_problem").select("digits_mlp").run()
    assert "t_problem" not in app.query_params


def test_another_problem_brings_its_own_batch_and_rate():
    app = open_page("train")
    app.selectbox(key="t_problem").select("conflict_regression").run()
    problem = PROBLEMS["conflict_regression"]
    assert app.number_input(key="t_batch").value == problem.default_batch
    assert app.number_input(key="t_rate").value == problem.default_learning_rate
    assert app.number_input(key="t_conflict").value == 0.5
    app.selectbox(key="t_problem").select("digits_mlp").run()
    app.selectbox(key="t_aggregator").select("Sum").run()
    # The sum of 64 gradients is 64 times as long as their mean.
    expected = round(PROBLEMS["digits_mlp"].default_learning_rate / 64, 4)
    assert app.number_input(key="t_rate").value == pytest.approx(expected)


def test_a_started_run_has_the_settings_of_the_page():
    app = open_page("train", t_problem="conflict_regression", t_engine="autojac", t_seed="5")
    app.button(key="step").click().run()
    (run,) = server.store().runs()
    wanted = {"problem": "conflict_regression", "engine": "autojac", "seed": 5, "batch_size": 128}
    assert {name: run.config[name] for name in wanted} == wanted


def test_a_run_of_another_program_is_shown_as_far_as_it_can_be():
    run_id = server.store().create_run({"name": "mine"}, status="finished")
    app = open_page("train", t_run=run_id)
    assert "ended before its first step" in texts(app.info)
    assert not app.error
    assert not app.exception


def test_a_store_that_fails_for_a_moment_does_not_end_the_live_part(monkeypatch):
    run_id = server.store().create_run({"problem": "digits_mlp", "steps": 3}, status="running")
    app = open_page("train", t_run=run_id)
    find, looked_up = server.find_run, []

    def fail_at_the_live_part(name):
        looked_up.append(name)
        if len(looked_up) == 2:
            raise StoreError("The run store is busy.")
        return find(name)

    monkeypatch.setattr(server, "find_run", fail_at_the_live_part)
    app.session_state["t_run"] = run_id
    app.run()
    # Drawn once: for the whole page, and for its live part.
    assert looked_up == [run_id, run_id]
    assert not app.exception


def test_a_run_whose_server_is_gone_becomes_interrupted(monkeypatch):
    monkeypatch.setattr(server, "SILENT_S", -1.0)
    run_id = server.store().create_run({"problem": "digits_mlp", "steps": 3}, status="running")
    app = open_page("train", t_run=run_id)
    assert "went silent" in texts(app.error)
    assert server.store().run(run_id).status == "interrupted"


def test_an_unreadable_store_is_said_and_the_app_lives(app_data):
    data = app_data
    data.mkdir()
    (data / "runs.sqlite").write_bytes(b"not a database at all" * 100)
    app = open_page("train")
    assert "is not a readable run store" in texts(app.error)
    assert not app.exception
    (data / "runs.sqlite").unlink()
    app.run()
    assert not app.error


def test_a_wrong_number_of_workers_is_said(monkeypatch):
    monkeypatch.setenv("JDVIZ_WORKERS", "lots")
    app = open_page("train")
    assert "must be a whole number of at least 1" in texts(app.error)
    assert not app.exception
    monkeypatch.setenv("JDVIZ_WORKERS", "1")


def test_an_unknown_run_in_the_address_is_said():
    app = open_page("train", t_run="nobody")
    assert "has no run “nobody”" in texts(app.warning)


def test_a_step_larger_than_the_machine_is_refused(monkeypatch):
    monkeypatch.setattr("jdviz.profiling.estimate.available_bytes", lambda: 1000)
    app = open_page("train")
    app.button(key="start").click().run()
    assert "this machine has 0 MiB free" in texts(app.error)
    assert not app.exception


def test_a_method_of_the_jacobian_is_offered_one_engine_and_trains():
    app = open_page("train", t_problem="conflict_regression", t_aggregator="GradDrop")
    assert "works on the Jacobian itself, which only autojac builds" in texts(app.caption)
    assert not [one for one in app.selectbox if one.key == "t_engine"]
    app.button(key="step").click().run()
    (run,) = server.store().runs()
    assert (run.config["aggregator"], run.config["engine"]) == ("GradDrop", "autojac")
    app.selectbox(key="t_aggregator").select("UPGrad").run()
    assert app.selectbox(key="t_engine").value == "autogram"
    assert "works on the Jacobian itself" not in texts(app.caption)


def test_a_run_without_weights_is_shown():
    problem = "conflict_regression"
    config = RunConfig(
        problem, "small", 16, "sgd", 0.01, "autojac", "GradDrop", seed=0, steps=2, conflict=0.5
    )
    run_id = server.store().create_run(config.to_dict())
    server.store().append(run_id, list(train(config)))
    server.store().set_status(run_id, "finished")
    app = open_page("train", t_run=run_id)
    assert "GradDrop has no weights" in texts(app.caption)
    assert "The update turns" in texts(app.caption)
    assert not app.error
    assert not app.exception


def test_too_few_objectives_are_said():
    app = open_page("train", t_problem="digits_two_tasks", t_aggregator="Krum")
    app.button(key="start").click().run()
    assert "Krum needs at least 3 objectives, and this run has 2" in texts(app.error)
    assert not app.exception
