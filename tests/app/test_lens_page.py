"""The Lens page without a browser: runs, steps, pairs, layers, and a matrix of a visitor's own."""

import io
import json

import numpy as np
import pytest

from jdviz import server
from jdviz.training import StepRecord
from tests.support.pages import drawn, open_page, texts

EXAMPLE = "of a recorded run, Digits MLP, per image."
NAMES = ("depth", "normals", "mask")
FIRST = np.array([[1.0, 0.2, 0.0], [0.2, 1.0, -0.3], [0.0, -0.3, 1.0]])
SECOND = np.array([[3.0, -2.0, -1.0], [-2.0, 5.0, 1.0], [-1.0, 1.0, 2.0]])

pytestmark = pytest.mark.usefixtures("app_data")


def step_record(step, gramian, *, shares=None, **changed):
    m = len(gramian) if gramian is not None else 3
    fields = {
        "time_s": float(step),
        "losses": np.arange(1.0, m + 1),
        "gramian": gramian,
        "weights": np.full(m, 1 / m),
        "inner": None if gramian is None else gramian.mean(axis=1),
        "direction_norm": 1.0,
        "sample_ids": None,
        "elapsed_s": 0.01,
        "peak_bytes": None,
    }
    return StepRecord(step=step, shares=shares, **{**fields, **changed})


def split(gramian):
    """Two layers, of which the first alone has the conflict."""
    head = np.diag(np.diagonal(gramian)) / 2
    return {"trunk": gramian - head, "head": head}


def made_run(records, *, status="finished", objectives=NAMES, **named):
    store = server.store()
    run_id = store.create_run({}, status=status, source="recorder", objectives=objectives, **named)
    store.append(run_id, records)
    return run_id


def tasks_run(**named):
    records = [
        step_record(0, FIRST, shares=split(FIRST)),
        step_record(1, FIRST),
        step_record(4, SECOND),
    ]
    return made_run(records, name="my tasks", **named)


def address(app, key):
    value = app.query_params[key]
    return value if isinstance(value, str) else value[0]


def shown_step(app):
    return address(app, "l_step")


def menu(app, letter):
    (found,) = [one for one in app.selectbox if one.label == f"Objective {letter}"]
    return found


def pair_of(app):
    return menu(app, "i").value, menu(app, "j").value


def facts(app):
    """What the page says of the pair: the cells of its table by the title of their line."""
    table = next(one.value for one in app.markdown if one.value.startswith("| |"))
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.split("\n")]
    return {title: values for title, *values in cells}


def assert_well(app):
    assert not app.exception
    assert not app.error


def test_before_anything_ran_an_example_is_shown_as_one():
    app = open_page("lens")
    assert_well(app)
    assert app.selectbox(key="lens:choice").value == "example"
    assert EXAMPLE in texts(app.markdown)
    assert drawn(app, "lens-matrix")


def test_the_newest_run_and_its_last_step_come_first():
    run_id = tasks_run()
    app = open_page("lens")
    assert_well(app)
    assert address(app, "l_run") == run_id
    assert shown_step(app) == "4"
    sentence = "Step 4 of my tasks. 2 of 3 pairs are in conflict, the most depth and normals"
    assert sentence in texts(app.markdown)


def test_the_address_names_run_step_pair_view_and_order():
    run_id = tasks_run()
    tasks_run()
    app = open_page("lens", l_run=run_id, l_step="1", l_pair="2-3", l_view="gramian")
    assert_well(app)
    assert app.selectbox(key="lens:choice").value == run_id
    assert app.select_slider[0].value == 1
    assert pair_of(app) == (
        2,
        3,
    )
    # ⟨normals, mask⟩ = -0.3 between gradients of length 1.
    assert "Cosine −0.300, angle 107°" in texts(app.markdown)
    assert drawn(app, "lens-matrix")["alt"].startswith("Gramian G = J Jᵀ.")
    assert not app.warning


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"l_order": "size"}, "Order of the objectives “size” is not one of recorded, group"),
        ({"l_view": "x"}, "Matrix “x” is not one of cosine, gramian"),
        ({"l_step": "last"}, "“last” is not a step"),
        ({"l_step": "-1"}, "is not a step"),
        ({"l_step": "9" * 40}, "is not a step"),
        ({"l_run": "nobody"}, "has no run “nobody” that you may see"),
    ],
)
def test_an_address_that_cannot_be_followed_is_said(query, sentence):
    tasks_run()
    app = open_page("lens", **query)
    assert sentence in texts(app.warning)
    assert_well(app)


@pytest.mark.parametrize("pair", ["1-1", "7-9", "x", "1-", "0-1"])
def test_a_pair_that_is_not_there_is_the_one_in_the_strongest_conflict(pair):
    tasks_run()
    app = open_page("lens", l_pair=pair)
    assert_well(app)
    assert pair_of(app) == (
        1,
        2,
    )


def test_a_step_that_is_not_kept_is_the_nearest():
    tasks_run()
    app = open_page("lens", l_step="3")
    assert "The Gramian of step 3 is not kept; shown is step 4, the nearest" in texts(app.info)
    assert shown_step(app) == "4"


def test_buttons_and_slider_go_through_the_steps():
    tasks_run()
    app = open_page("lens")
    assert app.button(key="lens:next").disabled
    assert app.button(key="lens:last").disabled
    app.button(key="lens:previous").click().run()
    assert shown_step(app) == "1"
    app.button(key="lens:first").click().run()
    assert shown_step(app) == "0"
    assert app.button(key="lens:previous").disabled
    app.button(key="lens:next").click().run()
    app.button(key="lens:last").click().run()
    assert shown_step(app) == "4"
    app.select_slider[0].set_value(0).run()
    assert shown_step(app) == "0"
    assert "Step 0 of my tasks" in texts(app.markdown)
    assert_well(app)


def test_a_pair_is_chosen_by_the_menus_and_forgotten_by_a_button():
    tasks_run()
    app = open_page("lens")
    menu(app, "i").select(3).run()
    assert address(app, "l_pair") == "3-2"
    # ⟨mask, normals⟩ = 1, lengths √2 and √5.
    assert "**No conflict**" in texts(app.markdown)
    assert "Cosine +0.316" in texts(app.markdown)
    app.button(key="lens:worst").click().run()
    assert "l_pair" not in app.query_params
    assert menu(app, "j").value == 2
    # The same objective twice is no pair.
    assert menu(app, "i").options == ["depth", "mask"]
    assert menu(app, "j").options == ["normals", "mask"]
    assert_well(app)


def test_what_is_known_of_the_pair_is_in_a_table():
    tasks_run()
    app = open_page("lens", l_step="4", l_pair="1-2")
    table = facts(app)
    assert table[""] == ["depth", "normals"]
    assert table["Loss"] == ["1.00", "2.00"]
    assert table["Length of the gradient"] == ["1.73", "2.24"]
    assert table["Weight in the update"] == ["0.333", "0.333"]
    # Means of the rows of the Gramian: 0 and 4/3.
    assert table["Gets from the step, gᵢ·A(J)"] == ["0", "+1.33"]


def matrix_names(app):
    return json.loads(drawn(app, "lens-matrix")["figure"])["data"][0]["x"]


def test_the_order_can_be_that_of_agreement():
    run_id = tasks_run()
    app = open_page("lens", l_run=run_id, l_step="4")
    assert matrix_names(app) == list(NAMES)
    app.selectbox(key="l_order").select("cluster").run()
    # Normals and mask agree; depth conflicts with both.
    assert matrix_names(app) == ["normals", "mask", "depth"]
    # A click on a cell tells the places that its objectives have in the record.
    assert drawn(app, "lens-matrix")["cells"] == [2, 3, 1]
    assert address(app, "l_order") == "cluster"
    # The pair is named by places in the record, so it stays the same.
    assert "Cosine −0.516" in texts(app.markdown)
    assert pair_of(app) in (
        (1, 2),
        (2, 1),
    )


def test_layers_of_the_nearest_step_that_was_split_are_shown_and_named():
    tasks_run()
    app = open_page("lens", l_step="4")
    sentence = "Step 4 was not split over the layers; the layers shown are those of step 0"
    assert sentence in texts(app.caption)
    assert "**Conflict by layer, step 0**" in texts(app.markdown)
    assert "by layer: depth" not in texts(app.markdown)
    app.button(key="lens:split").click().run()
    assert shown_step(app) == "0"
    assert "**Conflict by layer**" in texts(app.markdown)
    assert "**gᵢ·gⱼ by layer\\: normals and mask**" in texts(app.markdown)
    assert_well(app)


def test_a_run_without_a_split_says_how_to_get_one():
    made_run([step_record(0, FIRST)])
    app = open_page("lens")
    assert "No step of this run was split over its layers" in texts(app.info)
    assert_well(app)


def test_a_run_without_a_gramian_says_how_to_get_one_above_the_example():
    run_id = made_run([step_record(0, None)])
    app = open_page("lens", l_run=run_id)
    assert "No step of this run has a Gramian" in texts(app.info)
    assert EXAMPLE in texts(app.markdown)
    assert_well(app)


def test_a_run_that_goes_on_is_followed_until_another_step_is_chosen():
    run_id = tasks_run(status="running")
    app = open_page("lens", l_run=run_id)
    assert app.toggle(key="lens:following").value is True
    assert not app.select_slider
    assert "Step 4 of my tasks" in texts(app.markdown)
    server.store().append(run_id, [step_record(5, FIRST)])
    app.run()
    assert "Step 5 of my tasks" in texts(app.markdown)
    app.toggle(key="lens:following").set_value(False).run()
    assert shown_step(app) == "5"
    server.store().append(run_id, [step_record(6, FIRST)])
    app.button(key="lens:previous").click().run()
    assert "Step 4 of my tasks" in texts(app.markdown)
    app.toggle(key="lens:following").set_value(True).run()
    assert "Step 6 of my tasks" in texts(app.markdown)
    server.store().set_status(run_id, "finished")
    app.run()
    assert not app.toggle
    assert shown_step(app) == "6"
    assert_well(app)


def test_a_run_before_its_first_step_waits_above_the_example():
    run_id = made_run([], status="running")
    app = open_page("lens", l_run=run_id)
    assert "has not recorded a step yet" in texts(app.info)
    assert EXAMPLE in texts(app.markdown)
    assert_well(app)


def test_images_are_shown_with_their_words():
    ids = np.array([17, 3, 250])
    store = server.store()
    run_id = store.create_run({"problem": "digits_mlp"}, status="finished")
    store.append(run_id, [step_record(0, FIRST, sample_ids=ids)])
    app = open_page("lens", l_run=run_id, l_pair="1-2")
    assert_well(app)
    assert len(app.image) == 2
    # Sorted by digit; what the other menu has chosen is left out.
    assert menu(app, "i").options == ["image 250 (a 4)", "image 17 (a 7)"]


def test_a_pair_of_places_stays_while_the_samples_there_change():
    store = server.store()
    run_id = store.create_run({"problem": "digits_mlp"}, status="finished")
    batches = [np.array([17, 3, 250]), np.array([4, 99, 1000])]
    store.append(
        run_id, [step_record(k, FIRST, sample_ids=batch) for k, batch in enumerate(batches)]
    )
    app = open_page("lens", l_run=run_id, l_step="0", l_pair="1-2")
    assert pair_of(app) == (1, 2)
    app.button(key="lens:next").click().run()
    assert address(app, "l_pair") == "1-2"
    assert facts(app)[""] == ["image 4 \\(a 4\\)", "image 99 \\(a 1\\)"]


def test_a_thinned_gramian_is_shown_as_a_part():
    kept = np.array([0, 2, 5])
    record = step_record(0, FIRST, losses=np.arange(6.0), weights=None, inner=None, kept_ids=kept)
    run_id = made_run([record], objectives=tuple("abcdef"))
    app = open_page("lens", l_run=run_id, l_pair="3-6")
    assert "3 of its 6 objectives" in texts(app.markdown)
    assert pair_of(app) == (
        3,
        6,
    )
    assert facts(app)["Loss"] == ["2.00", "5.00"]
    assert_well(app)


def test_another_visitors_run_is_not_shown(monkeypatch):
    monkeypatch.setattr(server, "is_shared", lambda: True)
    hidden = tasks_run(owner="someone else")
    published = tasks_run(owner="someone else", published=True)
    app = open_page("lens", l_run=hidden)
    assert f"no run “{hidden}” that you may see" in texts(app.warning)
    assert app.selectbox(key="lens:choice").value == published


def test_a_link_to_another_run_wins_over_what_was_shown():
    first, second = tasks_run(), tasks_run()
    app = open_page("lens", l_run=first, l_step="0", l_pair="1-3")
    app.query_params.clear()
    app.query_params["l_run"] = second
    app.run()
    assert app.selectbox(key="lens:choice").value == second
    assert shown_step(app) == "4"
    assert "l_pair" not in app.query_params


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def upload(app, name, data):
    app.session_state["lens:upload"] = True
    app.run()
    app.file_uploader[0].set_value((name, data, "application/octet-stream")).run()
    return app


def test_an_uploaded_gramian_is_shown_and_put_away():
    app = upload(open_page("lens"), "mine.npz", npz(G=SECOND))
    assert_well(app)
    assert "**mine.npz\\: G**, 3 × 3, taken as a Gramian." in texts(app.markdown)
    assert "2 of 3 pairs are in conflict" in texts(app.markdown)
    assert matrix_names(app) == ["objective 1", "objective 2", "objective 3"]
    # No run, so neither losses nor layers nor history.
    assert list(facts(app)) == ["", "---", "Length of the gradient"]
    assert "**Conflict over the run**" not in texts(app.markdown)
    app.button(key="lens:back").click().run()
    assert EXAMPLE in texts(app.markdown)
    assert "mine.npz" not in texts(app.markdown)


def test_an_uploaded_jacobian_gives_its_gramian():
    app = upload(open_page("lens"), "j.csv", b"a,1,0,2\nb,-1,1,0\n")
    assert_well(app)
    assert "taken as a Jacobian" in texts(app.markdown)
    # ⟨a, b⟩ = -1, lengths √5 and √2.
    assert "Cosine −0.316, angle 108°" in texts(app.markdown)
    assert matrix_names(app) == ["a", "b"]


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], "not positive semi-definite: the smallest eigenvalue is -0.33"),
        ([[1.0, 0.5], [0.0, 1.0]], "not symmetric: entries (1, 2) and (2, 1) differ by 0.5"),
    ],
)
def test_a_matrix_that_is_no_gramian_is_reported_and_shown_as_it_is(matrix, sentence):
    app = upload(open_page("lens"), "m.npz", npz(G=np.array(matrix)))
    assert_well(app)
    assert sentence in texts(app.warning).replace("\\", "")
    assert "Nothing was repaired" in texts(app.warning)
    assert "Its entries are shown as they are" in texts(app.markdown)
    assert drawn(app, "lens-entries")["cells"] is None
    assert drawn(app, "lens-matrix") is None


def test_a_matrix_without_a_figure_says_so():
    app = upload(open_page("lens"), "m.npz", npz(G=np.array([[1.0, np.nan], [0.0, 1.0]])))
    assert "1 of 4 numbers are not finite" in texts(app.warning)
    assert "There is no figure of it" in texts(app.markdown)
    assert_well(app)


def test_a_file_that_cannot_be_read_is_refused_and_the_run_stays():
    app = upload(open_page("lens"), "m.csv", b"1,2\n3\n")
    assert "Row 2 of the CSV file has 1 values" in texts(app.error)
    assert EXAMPLE in texts(app.markdown)
    assert not app.exception


def test_a_large_gramian_is_shown_in_part():
    m = 300
    app = upload(open_page("lens"), "m.npz", npz(G=np.eye(m)))
    assert "Figures show 256 of its 300 objectives" in texts(app.caption)
    assert len(matrix_names(app)) == 256
    assert matrix_names(app)[-1] == "objective 300"
    assert_well(app)


def test_an_uploaded_gramian_opens_on_directions():
    app = upload(open_page("lens"), "mine.npz", npz(G=SECOND))
    app.button(key="lens:directions").click().run()
    name, gramian = app.session_state["directions:uploaded"]
    assert name == "mine.npz: G"
    assert np.array_equal(gramian, SECOND)


def test_what_was_thinned_away_is_said(monkeypatch):
    monkeypatch.setattr(
        type(server.store()), "thinning_sentence", lambda *_: "Kept is every second step."
    )
    tasks_run()
    assert "Kept is every second step." in texts(open_page("lens").caption)
