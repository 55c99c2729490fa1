"""The Directions page without a browser: gradients by numbers, by handles, and in three views."""

import json

import pytest
from streamlit.testing.v1 import AppTest

from engines.aggregation import METHODS, PROPERTIES
from jdviz.pages.directions_presets import PRESETS
from jdviz.pages.directions_settings import SETTINGS, VIEW_TITLES
from tests.support.pages import drawn, open_page, texts

pytestmark = pytest.mark.usefixtures("app_data")


def test_directions_follow_the_address():
    app = open_page("directions", d_m="2", d_a1="0", d_l1="2", d_a2="180", d_l2="1")
    assert not app.error
    table = app.table[0].value
    assert list(table.loc[["hurts", "g₁·A", "g₂·A"], "Mean"]) == ["g₂", "+1.00", "−0.500"]
    assert table.loc["hurts", "UPGrad"] == table.loc["hurts", "MGDA"] == "none"


def test_a_preset_sets_the_numbers():
    app = open_page("directions")
    app.selectbox(key="directions:preset").select("Exactly antiparallel").run()
    assert app.number_input(key="d_a2").value == 180.0
    assert app.table[0].value.loc["length of A", "UPGrad"] == "0"
    assert app.table[0].value.loc["angle to the mean gradient", "UPGrad"] == "–"


def test_no_aggregator_chosen_still_shows_the_gradients():
    app = open_page("directions")
    app.multiselect(key="d_methods").set_value([]).run()
    assert "Choose one or more aggregators" in texts(app.info)
    assert not app.exception


def shown_methods(app: AppTest) -> list[str]:
    """The methods in the table, which are rows of it where they are many."""
    table = app.table[0].value
    return list(table.columns if "hurts" in table.index else table.index)


@pytest.mark.parametrize("m", [2, 5])
def test_every_method_is_shown_on_directions(m):
    app = open_page("directions", d_m=str(m), d_methods=list(METHODS))
    assert not app.exception
    assert not app.error
    few = [name for name in METHODS if METHODS[name].least_objectives > m]
    assert shown_methods(app) == [name for name in METHODS if name not in few]
    said = [info.value for info in app.info]
    assert len(said) == len(few)
    for name, sentence in zip(few, said, strict=True):
        least = METHODS[name].least_objectives
        assert f"{name} needs at least {least} gradients and has {m}" in sentence
    captions = texts(app.caption)
    assert "Random for 48 seeds" in captions
    assert ("PCGrad for 48 seeds" in captions) == (m > 2)
    assert "have memory: shown is their first step after reset" in captions
    assert "two independent batches" in captions


def test_a_card_tells_what_is_known_of_each_chosen_method():
    chosen = ["PCD", "GradDrop"]
    app = open_page("directions", d_methods=chosen)
    # Folded away, a card is not sent at all.
    assert not app.code
    for name in chosen:
        app.session_state[f"card-{name}"] = True
    app.run()
    cards = {one.label: one for one in app.expander if one.label in METHODS}
    assert list(cards) == [name for name in METHODS if name in chosen]
    for name, card in cards.items():
        record = METHODS[name]
        assert [code.value for code in card.code] == [record.formula]
        answers = card.table[0].value
        assert list(answers[""]) == ["yes" if yes else "no" for yes in record.properties.values()]
        assert len(answers) == len(PROPERTIES)
        assert record.paper.split()[0] in texts(card.caption)


def test_parameters_follow_the_address_and_change_the_outcome():
    methods = ["UPGrad", "TrimmedMean"]
    app = open_page("directions", d_methods=methods, d_TrimmedMean_trim_number="0")
    assert app.number_input(key="d_TrimmedMean_trim_number").value == 0
    trimmed = dict(app.table[0].value["TrimmedMean"])
    app.multiselect(key="d_methods").set_value([*methods, "Mean"]).run()
    mean = dict(app.table[0].value["Mean"])
    assert {key: trimmed[key] for key in ("g₁·A", "g₂·A", "g₃·A")} == {
        key: mean[key] for key in ("g₁·A", "g₂·A", "g₃·A")
    }
    # Only the methods with parameters have controls.
    labels = [one.label for one in app.number_input]
    assert not any(label.startswith("Mean") for label in labels)
    before = dict(app.table[0].value["UPGrad"])
    app.selectbox(key="d_UPGrad_pref_vector").select("own").run()
    assert app.query_params["d_UPGrad_pref_vector"] in ("own", ["own"])
    assert [app.number_input(key=f"d_UPGrad_pref_vector_{i}").value for i in (1, 2, 3)] == [
        0.33
    ] * 3
    app.number_input(key="d_UPGrad_pref_vector_1").set_value(1.0).run()
    assert dict(app.table[0].value["UPGrad"])["g₁·A"] != before["g₁·A"]
    assert not app.exception
    assert not app.error


def test_a_parameter_that_does_not_fit_is_said_and_the_others_are_shown():
    app = open_page("directions", d_methods=["Mean", "TrimmedMean"], d_TrimmedMean_trim_number="2")
    assert shown_methods(app) == ["Mean"]
    assert "Not shown: got 3 objective" in texts(app.info)
    assert "for TrimmedMean" in texts(app.info)
    assert not app.error
    assert not app.exception


def test_another_number_of_gradients_brings_its_own_defaults():
    app = open_page("directions", d_m="5", d_methods=["TrimmedMean", "Constant"])
    assert app.number_input(key="d_TrimmedMean_trim_number").value == 1
    app.selectbox(key="d_Constant_weights").select("own").run()
    assert app.number_input(key="d_Constant_weights_5").value == 0.33
    app.selectbox(key="d_m").select("2").run()
    assert app.number_input(key="d_TrimmedMean_trim_number").value == 0
    assert app.selectbox(key="d_Constant_weights").value == "default"
    assert shown_methods(app) == ["Constant", "TrimmedMean"]
    assert not app.info


def handles(app: AppTest) -> dict:
    """What the figure's handles are told."""
    return drawn(app, "directions")["handles"]


def test_handles_are_the_numbers():
    app = open_page("directions", d_m="2", d_a1="30", d_l1="2", d_a2="-90", d_l2="0")
    assert handles(app) == {
        "polar": [[30.0, 2.0], [-90.0, 0.0]],
        "names": ["g₁", "g₂"],
        "unit": 0.05,
        "seq": 0,
    }


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_shows_its_point(name):
    app = open_page("directions")
    app.selectbox(key="directions:preset").select(name).run()
    assert not app.exception
    assert not app.error
    assert not app.warning
    assert PRESETS[name].point in texts(app.caption)
    preset = PRESETS[name]
    assert app.selectbox(key="d_m").value == str(len(preset.polar))
    for index, (angle, length) in enumerate(preset.polar, start=1):
        assert app.number_input(key=f"d_a{index}").value == angle
        assert app.number_input(key=f"d_l{index}").value == length
    for key, value in preset.other.items():
        assert app.session_state[key] == value


def test_a_preset_leaves_nothing_of_the_one_before():
    app = open_page("directions")
    presets = app.selectbox(key="directions:preset")
    presets.select("The regularisation trap").run()
    assert app.number_input(key="d_reg").value == 1e-4
    app.selectbox(key="directions:preset").select("One is zero").run()
    assert app.selectbox(key="d_view").value == "methods"
    app.selectbox(key="d_view").select("upgrad").run()
    assert app.number_input(key="d_reg").value == 0.0


def test_the_regularisation_trap_hurts_the_short_gradient_and_exactness_does_not():
    app = open_page("directions")
    app.selectbox(key="directions:preset").select("The regularisation trap").run()
    assert drawn(app, "hurt")["alt"].endswith("UPGrad makes g₂ worse.")
    app.number_input(key="d_reg").set_value(0.0).run()
    assert drawn(app, "hurt")["alt"].endswith("UPGrad makes none of 2 objectives worse.")


def test_the_steps_of_the_construction_follow_each_other():
    app = open_page("directions", d_view="upgrad", d_build="gradients")
    seen = [drawn(app, "directions")["alt"]]
    while not app.button(key="directions:next-step").disabled:
        app.button(key="directions:next-step").click().run()
        seen.append(drawn(app, "directions")["alt"])
    assert len(set(seen)) == len(seen) == 4
    assert "d_build" not in app.query_params
    app.button(key="directions:back-step").click().run()
    assert app.query_params["d_build"] in ("projections", ["projections"])


@pytest.mark.parametrize("view", VIEW_TITLES)
def test_every_setting_of_the_address_is_restored(view):
    given = {
        "d_view": view,
        "d_build": "cone",
        "d_m": "8",
        "d_seed": "7",
        "d_reg": "0.25",
        "d_methods": ["UPGrad", "PCGrad"],
        **{f"d_a{i}": str(10.5 * i) for i in range(1, 9)},
        **{f"d_e{i}": str(-10.5 * i) for i in range(1, 9)},
        **{f"d_l{i}": str(0.25 * i) for i in range(1, 9)},
    }
    assert set(given) == {setting.key for setting in SETTINGS}
    app = open_page("directions", **given)
    assert not app.warning
    assert not app.exception
    boxes = [*app.number_input, *app.selectbox]
    found = {box.key: box.value for box in boxes if box.key in given}
    assert {f"d_a{i}": 10.5 * i for i in range(1, 9)}.items() <= found.items()
    assert {f"d_l{i}": 0.25 * i for i in range(1, 9)}.items() <= found.items()
    if view == "space":
        assert {f"d_e{i}": -10.5 * i for i in range(1, 9)}.items() <= found.items()
    if view == "upgrad":
        assert (found["d_build"], found["d_reg"]) == ("cone", 0.25)
    else:
        assert found["d_seed"] == 7
        assert app.multiselect(key="d_methods").value == ["UPGrad", "PCGrad"]


@pytest.mark.parametrize("view", VIEW_TITLES)
def test_the_code_of_every_figure_makes_the_figure(view):
    app = open_page(
        "directions", d_view=view, d_seed="3", d_methods=["UPGrad", "PCGrad"], d_reg="0.01"
    )
    keys = ["space" if view == "space" else "directions", "hurt", "cosines", "gramian"]
    for key in keys:
        app.session_state[f"numbers-{key}"] = True
    app.run()
    scripts = [one.value for one in app.code if "figure = " in one.value]
    made = []
    for script in scripts:
        names: dict = {}
        exec(script, names)
        made.append(json.loads(names["figure"].to_json()))
    shown = [json.loads(drawn(app, key)["figure"]) for key in keys]
    assert made == shown


def test_the_code_of_the_directions_runs(capsys):
    app = open_page("directions", d_methods=["Mean"])
    app.session_state["code-directions"] = True
    app.run()
    (script,) = [one.value for one in app.code if "engines.aggregation" in one.value]
    exec(script, {})
    assert capsys.readouterr().out.startswith("Mean tensor([")


@pytest.mark.parametrize("lock", ["all", "d_a2", "d_l1"])
def test_gradients_that_are_locked_have_no_handles(lock):
    app = open_page("directions", lock=lock)
    assert drawn(app, "directions")["handles"] is None
    assert not app.warning
    assert app.selectbox(key="directions:preset").disabled == (lock == "all")


def test_gradients_that_are_not_there_lock_nothing():
    assert handles(open_page("directions", lock="d_a8"))["names"] == ["g₁", "g₂", "g₃"]


def test_a_lecture_shows_the_figure_alone():
    app = open_page("directions", hide="title,prose,numbers,cards", d_m="2")
    assert not app.title
    assert not [one for one in app.expander if one.label in METHODS]
    assert "Try this" not in texts(app.markdown)
    assert handles(app)["names"] == ["g₁", "g₂"]


def test_gradients_that_a_preset_adds_get_into_the_address():
    app = open_page("directions")
    app.selectbox(key="directions:preset").select("More gradients than dimensions").run()
    assert app.query_params["d_m"] in ("5", ["5"])
    again = open_page("directions", **{key: app.query_params[key] for key in app.query_params})
    assert handles(again)["polar"] == handles(app)["polar"]
