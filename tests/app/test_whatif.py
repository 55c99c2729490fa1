"""What if another method had taken a step: the form, the answer and what cannot be asked."""

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from jdviz import server
from jdviz.pages import lens_whatif
from jdviz.runs import RunStore
from jdviz.training import Future, Futures, FuturesError, Refused, RunConfig
from jdviz.training.checkpoints import pack
from jdviz.training.loop import Trainer
from tests.support.pages import texts

CONFIG = RunConfig("digits_two_tasks", "small", 8, "sgd", 0.05, "autogram", "UPGrad", 0, 20)
STEPS = 3

pytestmark = pytest.mark.usefixtures("app_data")


def recorded(*, checkpoint=True, **changed):
    store: RunStore = server.store()
    run = Trainer(CONFIG)
    config = {**CONFIG.to_dict(), **changed}
    run_id = store.create_run(config, status="finished", name="my run")
    if checkpoint:
        store.save_checkpoint(run_id, 0, pack(run))
    store.append(run_id, [run.advance() for _ in range(STEPS)])
    return run_id


def _page(run_id: str, step: int) -> None:
    from jdviz.pages.frame import plain_errors
    from jdviz.pages.lens_whatif import draw_what_if
    from jdviz.pages.run_view import view_of
    from jdviz.server import store

    run, record = store().run(run_id), store().record(run_id, step)
    assert run is not None
    assert record is not None
    with plain_errors():
        draw_what_if(view_of(run), record)


def open_step(run_id, step=2, **query):
    app = AppTest.from_function(_page, kwargs={"run_id": run_id, "step": step}, default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def press(app):
    return app.button[0].click().run()


def answer(step=2, k=2, names=2, **changed):
    losses = np.array([[1.0] * names, [0.9] * names, [0.5, *[1.5] * (names - 1)]])[: k + 1]
    means = losses.mean(axis=1)
    nothing = np.full(k + 1, np.nan)
    fields = {
        "step": step,
        "steps_ahead": k,
        "equal_length": False,
        "evaluated": 512,
        "sample_ids": None,
        "futures": (
            Future("UPGrad", losses, means, np.ones(k)),
            Future("Mean", losses * nothing[:, None], nothing, nothing[1:], "It diverged."),
        ),
        "refused": (Refused("Krum", "Krum needs at least 3 objectives."),),
    }
    return Futures(**{**fields, **changed})


@pytest.fixture
def asked(monkeypatch):
    """Questions that reach the child process, which answers at once."""
    questions = []

    def ask(config, checkpoint_step, checkpoint, step, methods, k, *, equal_length, watch):
        watch("Waiting, 1 question is before this")
        questions.append((config, checkpoint_step, step, methods, k, equal_length))
        return answer(step, equal_length=equal_length)

    monkeypatch.setattr(lens_whatif, "ask_futures", ask)
    return questions


def test_a_step_is_taken_in_a_child_process():
    app = press(open_step(recorded(), l_ahead=["UPGrad", "Mean"], l_k="2"))
    assert not app.exception
    assert not app.error
    said = texts(app.markdown)
    assert (
        "After 2 steps from this one step, 2.** Every method takes the same batches with sgd"
        in said
    )
    assert "Mean loss over 512 samples" in said
    assert "2 steps after step 2, the mean loss is" in texts(app.caption)
    assert len(app.get("bidi_component")) == 2


def test_what_is_asked_follows_form_and_address(asked):
    app = open_step(recorded(), l_ahead=["MGDA", "Mean"], l_k="2", l_at="length")
    assert not app.warning
    press(app)
    (question,) = asked
    assert question == (CONFIG, 0, 2, ["MGDA", "Mean"], 2, True)
    assert "as long as UPGrad's" in texts(app.markdown)
    assert "Mean ended early: It diverged." in texts(app.caption)
    assert "Not shown: Krum. Krum needs at least 3 objectives." in texts(app.info)


def test_an_answer_stays_in_the_session_and_only_the_latest_do(asked):
    run_id = recorded()
    app = press(open_step(run_id))
    assert "After 2 steps" in texts(app.run().markdown)
    assert len(asked) == 1
    kept = {(run_id, step): answer(step) for step in range(10, 14)}
    app.session_state["lens:futures"] = kept
    press(app.run())
    assert list(app.session_state["lens:futures"]) == [
        (run_id, 2),
        *list(kept)[: lens_whatif.MOST_KEPT - 1],
    ]


def test_before_anything_was_asked_it_is_said_what_happens(asked):
    app = open_step(recorded())
    assert "as it was before step 2" in texts(app.caption)
    assert asked == []


def test_a_refusal_is_one_sentence(monkeypatch):
    def refuse(*_, **__):
        raise FuturesError("The steps ahead were not found within 60 s; choose fewer methods.")

    monkeypatch.setattr(lens_whatif, "ask_futures", refuse)
    app = press(open_step(recorded()))
    assert texts(app.error) == ("The steps ahead were not found within 60 s; choose fewer methods.")
    assert not app.get("bidi_component")
    assert not app.exception


def test_an_address_that_cannot_be_followed_is_said():
    app = open_step(recorded(), l_k="51", l_ahead="Magic")
    assert "Steps ahead 51 is outside 1 to 50; using 10" in texts(app.warning)
    assert "Aggregators “Magic” is not one of" in texts(app.warning)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"checkpoint": False}, "This run keeps no checkpoint"),
        ({"problem": "mine:make"}, "Only a step of a problem that the app comes with"),
        ({"size": "vast"}, "This step cannot be taken again. There is no model size"),
        ({"seed": "one"}, "This step cannot be taken again. seed is 'one'"),
    ],
)
def test_why_a_step_cannot_be_taken_again(made, words):
    app = open_step(recorded(**made))
    assert words in texts(app.caption)
    assert not app.button
    assert not app.exception
    assert not app.error


def test_a_batch_beyond_the_limits_of_the_server_is_refused(monkeypatch):
    limits = server.RunLimits(max_steps=5, max_batch=4)
    monkeypatch.setattr(lens_whatif, "limits", lambda: limits)
    assert "set by whoever started this server" in texts(open_step(recorded()).caption)
