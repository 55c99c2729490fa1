"""A recorded step, or an uploaded Gramian, on the Directions page."""

import json

import numpy as np
import pytest

from engines.aggregation import METHODS
from jdviz import server
from jdviz.compare import GRAMIAN_METHODS, compare
from jdviz.training import StepRecord
from tests.support.pages import open_page, texts

# g1 = (2, 0, 0), g2 = (-1, 1, 0), g3 = (0, 0, 1), each times the step.
JACOBIAN = np.array([[2.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
NAMES = ("depth", "normals", "mask")
BACK = "directions:back"

pytestmark = pytest.mark.usefixtures("app_data")


def step_record(step, jacobian, *, gramian=True):
    m = len(jacobian)
    return StepRecord(
        step=step,
        time_s=float(step),
        losses=np.ones(m),
        gramian=jacobian @ jacobian.T if gramian else None,
        weights=None,
        inner=None,
        direction_norm=None,
        sample_ids=None,
        elapsed_s=0.01,
        peak_bytes=None,
    )


def made_run(records, *, objectives=NAMES, **named):
    store = server.store()
    run_id = store.create_run(
        {}, status="finished", source="recorder", objectives=objectives, **named
    )
    store.append(run_id, records)
    return run_id


def tasks_run(**named):
    records = [
        step_record(1, JACOBIAN),
        step_record(2, 2 * JACOBIAN),
        step_record(3, JACOBIAN, gramian=False),
    ]
    return made_run(records, name="my tasks", **named)


def test_gradients_of_an_address_win_over_a_step_that_was_open():
    run_id = tasks_run()
    app = open_page("directions", d_run=run_id)
    assert not is_own(app)
    # A link to gradients, as the Trajectories page has them.
    del app.query_params["d_run"]
    app.query_params["d_a1"] = "45"
    app.run()
    assert is_own(app)


def test_a_recorded_step_is_taken_along_to_be_dragged():
    run_id = tasks_run()
    app = open_page("directions", d_run=run_id, d_step="1")
    app.button(key="directions:drag-these").click().run()
    assert is_own(app)
    assert not app.exception
    # G has the eigenvalues 3 ± √5 and 1. The plane of the two greatest holds of g1 and g2 what
    # lies along the first eigenvector, (0.851, −0.526, 0), and the whole of g3.
    first = np.array([0.85065, -0.52573]) * np.sqrt(3 + np.sqrt(5))
    lengths = [app.number_input(key=f"d_l{i}").value for i in (1, 2, 3)]
    np.testing.assert_allclose(lengths, 2 * np.array([*abs(first), 1]) / first[0], atol=0.006)
    angles = [app.number_input(key=f"d_a{i}").value for i in (1, 2, 3)]
    assert abs(angles[0] - angles[1]) == 180.0
    assert abs(angles[2]) == 90.0
    assert "d_run" not in app.query_params


def is_own(app):
    """Whether the page shows gradients set by hand."""
    return any(box.key == "d_a1" for box in app.number_input)


def test_a_recorded_step_takes_the_place_of_the_number_boxes():
    run_id = tasks_run()
    app = open_page("directions", d_run=run_id, d_step="2", d_methods=["UPGrad", "Mean"])
    assert not app.exception
    assert not app.error
    assert not app.warning
    assert not is_own(app)
    assert texts(app.info) == ("**my tasks**, step 2. 3 gradients, known by their inner products.")
    # What the table says is what the methods make of the gradients themselves.
    table = app.table[0].value
    for outcome in compare(2 * JACOBIAN, ["UPGrad", "Mean"], 0).outcomes:
        shown = [float(text.replace("−", "-")) for text in table[outcome.method][1:7]]
        wanted = [*outcome.inner, *outcome.weights]
        np.testing.assert_allclose(shown, wanted, rtol=5e-3, atol=1e-9)
    assert list(table.index[:2]) == ["hurts", "depth·A"]


def test_what_the_plane_does_not_show_is_said():
    # G = [[4, -2, 0], [-2, 2, 0], [0, 0, 1/4]] has the eigenvalues 3 ± √5 and 1/4: the third
    # gradient is across the plane, a 25th of the squared lengths. Mean is (1, 1, 1/2) / 3, a ninth
    # of it outside.
    run_id = made_run([step_record(1, JACOBIAN * [1.0, 1.0, 0.5])])
    app = open_page("directions", d_run=run_id, d_step="1", d_methods="Mean")
    assert (
        "Not in this plane: 4.00 % of the gradients' squared length and, of the directions', "
        "11.1 % (Mean). Its directions that make none of 3 objectives worse are a wedge."
    ) in texts(app.markdown)
    spec = json.loads(json.loads(app.get("bidi_component")[0].proto.json)["figure"])
    assert spec["layout"]["xaxis"]["title"]["text"] == "along the first eigenvector of G"


def test_back_leads_to_gradients_of_your_own():
    app = open_page("directions", d_run=tasks_run(), d_step="1")
    app.button(key=BACK).click().run()
    assert is_own(app)
    assert "d_run" not in app.query_params
    assert "d_step" not in app.query_params
    app.run()
    assert is_own(app)


def test_methods_that_need_more_than_a_gramian_are_named():
    app = open_page("directions", d_run=tasks_run(), d_step="1", d_methods=list(METHODS))
    assert not app.exception
    assert "Not shown: GradDrop, ExcessMTL, TrimmedMean." in texts(app.info)
    assert list(app.table[0].value.index) == list(GRAMIAN_METHODS)


def test_parameters_follow_the_address_and_fit_the_objectives():
    app = open_page(
        "directions",
        d_run=tasks_run(),
        d_step="1",
        d_methods="Constant",
        d_Constant_weights="own",
        d_Constant_weights_1="1",
        d_Constant_weights_2="0",
        d_Constant_weights_3="0.25",
    )
    assert not app.warning
    rows = app.table[0].value["Constant"]
    assert [rows[f"weight of {name}"] for name in NAMES] == ["1.00", "0", "0.250"]
    # g1 + g3/4 against each: 4, -2 and 1/4.
    assert [rows[f"{name}·A"] for name in NAMES] == ["+4.00", "−2.00", "+0.250"]


def test_many_objectives_have_no_boxes_for_vectors_and_a_table_that_scrolls():
    jacobian = np.random.default_rng(0).standard_normal((80, 20))
    run_id = made_run([step_record(0, jacobian)], objectives=())
    app = open_page("directions", d_run=run_id, d_methods=["Constant", "Mean", "PCGrad"])
    assert not app.exception
    assert not app.error
    assert not [box.key for box in app.number_input]
    # One that does not scroll would be 163 lines long.
    assert not app.table
    assert app.dataframe[0].value.shape == (2 * 80 + 3, 3)
    assert "PCGrad for 12 seeds" in texts(app.caption)


def test_a_step_that_is_not_kept_is_the_closest_one():
    app = open_page("directions", d_run=tasks_run(), d_step="3")
    assert "step 2. 3 gradients" in texts(app.info)
    assert "The Gramian of step 3 is not kept; this is the closest one." in texts(app.caption)


def test_without_a_step_it_is_the_newest():
    app = open_page("directions", d_run=tasks_run())
    assert "step 2. 3 gradients" in texts(app.info)
    assert "is not kept" not in texts(app.caption)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"d_run": "*moon*"}, r"there is no run “\*moon\*” that you may see"),
        ({"d_step": "first"}, "step “first” is not a whole number"),
        ({"d_step": "-1"}, "step “-1” is not a whole number"),
    ],
)
def test_an_address_that_cannot_be_followed_is_said(query, words):
    app = open_page("directions", **{"d_run": tasks_run(), **query})
    assert words in texts(app.warning)
    assert is_own(app)
    assert not app.exception


def test_a_run_without_gramians_is_said():
    run_id = made_run([step_record(0, JACOBIAN, gramian=False)], name="plain")
    app = open_page("directions", d_run=run_id)
    assert "of the run “plain” no Gramian is kept" in texts(app.warning)
    assert is_own(app)


def test_a_run_of_another_visitor_is_not_shown(monkeypatch):
    monkeypatch.setattr(server, "is_shared", lambda: True)
    hidden, published = tasks_run(owner="someone"), tasks_run(owner="someone", published=True)
    app = open_page("directions", d_run=hidden)
    assert "that you may see" in texts(app.warning)
    assert is_own(app)
    assert not is_own(open_page("directions", d_run=published))


def test_the_example_is_marked_as_one():
    app = open_page("directions", d_run="example", d_step="7")
    assert texts(app.info).startswith("Example: a recorded run of ")


def uploaded(matrix):
    app = open_page("directions")
    app.session_state["directions:uploaded"] = ("my *file*.npz", np.asarray(matrix))
    return app.run()


def test_an_uploaded_gramian_is_shown():
    app = uploaded(JACOBIAN @ JACOBIAN.T)
    assert "Your file **my \\*file\\*.npz**. 3 gradients" in texts(app.info)
    assert app.table[0].value.index[1] == "objective 1·A"
    app.button(key=BACK).click().run()
    assert is_own(app)


def test_an_address_wins_over_an_upload():
    run_id = tasks_run()
    app = uploaded(np.eye(2))
    app.query_params["d_run"] = run_id
    app.run()
    assert "my tasks" in texts(app.info)
    app.button(key=BACK).click().run()
    assert is_own(app)


def test_a_matrix_that_is_no_gramian_is_said():
    app = uploaded([[1.0, 2.0], [2.0, 1.0]])
    assert "No gradients have these inner products" in texts(app.error)
    assert not app.exception
