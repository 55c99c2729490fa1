"""Every setting stands in the address: given by a link it is taken, and it survives a reload."""

from types import SimpleNamespace

import pytest

from jdviz import server
from jdviz.training import RunConfig, train
from tests.support.addresses import names_of
from tests.support.pages import open_page

pytestmark = pytest.mark.usefixtures("app_data")

TRAIN = {
    "t_problem": "digits_two_tasks",
    "t_aggregator": "PCGrad",
    "t_beside": ["MGDA", "Mean"],
    "t_engine": "both",
    "t_size": "small",
    "t_optimizer": "adam",
    "t_pace": "full",
    "t_batch": "24",
    "t_rate": "0.0125",
    "t_steps": "77",
    "t_seed": "5",
    "t_through": "true",
    "t_part": "Weights",
    "t_at": "1",
    "t_look": "Mean",
}
DIAL = {"t_problem": "conflict_regression", "t_conflict": "0.25"}
RUNS = {
    "r_q": "regression",
    "r_series": "smallest cosine",
    "r_diff": "true",
    "r_x": "time",
    "r_smooth": "0.25",
}
SEEDS = {"r_view": "Seeds", "r_all": "true", "r_series": "conflict rate"}
LENS = {"l_run": "example", "l_step": "40", "l_pair": "3-9", "l_view": "gramian"}
LENS |= {"l_order": "cluster"}
WHAT_IF = {"l_ahead": ["MGDA", "Mean"], "l_k": "4", "l_at": "length", "l_axis": "log"}
STEP = {
    "e_problem": "mlp",
    "e_size": "512",
    "e_batch": "48",
    "e_aggregator": "MGDA",
    "e_upper": "sgd",
    "e_lower": "two-pass",
    "e_limit": "2048",
    "e_timeout": "60",
    "e_peer": "true",
}
FITS = {"e_view": "What fits", "e_budget": "96"}


def group():
    """Two short runs from the same seed, as the Train page starts them."""
    ids = []
    for method in ("UPGrad", "Mean"):
        config = RunConfig(
            *("conflict_regression", "small", 16, "sgd", 0.01, "autogram", method),
            seed=0,
            steps=3,
            conflict=0.5,
        )
        ids.append(server.store().create_run(config.to_dict(), group="both"))
        server.store().append(ids[-1], list(train(config)))
        server.store().set_status(ids[-1], "finished")
    return ids


def values(app):
    """What the controls say, in the words of an address."""
    found = {}
    for one in (*app.selectbox, *app.multiselect, *app.number_input, *app.toggle, *app.text_input):
        found[one.key] = one.value
    return found | {one.key: one.value for one in app.get("button_group")}


def same(value, text):
    """Whether a control has the value that an address gave."""
    if isinstance(value, bool):
        return str(value).lower() == text
    return float(text) == value if isinstance(value, int | float) else value == text


def assert_taken_and_kept(page, given, shown):
    """A page takes an address, keeps it, and takes it again from what it kept."""
    app = open_page(page, **given)
    for _ in range(2):
        assert not app.exception
        assert not app.error
        assert not app.warning
        known = values(app)
        assert [name for name in shown if not same(known[name], given[name])] == []
        assert app.query_params == given
        app = open_page(page, **app.query_params)


def test_train():
    run_id, _ = group()
    elsewhere = {"t_run", "t_at"}
    assert_taken_and_kept("train", TRAIN | {"t_run": run_id}, set(TRAIN) - elsewhere)
    assert_taken_and_kept("train", DIAL, set(DIAL))


def test_runs():
    ids = group()
    given = RUNS | {"r_runs": ",".join(ids), "r_base": ids[1]}
    assert_taken_and_kept("runs", given, set(given) - {"r_runs"})
    assert_taken_and_kept("runs", SEEDS | {"r_runs": ids[0]}, set(SEEDS))
    one = {"r_view": "One run", "r_one": ids[1], "r_runs": ",".join(ids)}
    assert_taken_and_kept("runs", one, {"r_view", "r_one"})


def test_lens():
    group()
    app = open_page("lens", **LENS)
    assert app.select_slider[0].value == 40
    assert [one.value for one in app.selectbox if one.label.startswith("Objective")] == [3, 9]
    assert_taken_and_kept("lens", LENS | WHAT_IF, {"l_view", "l_order"})


def test_what_if():
    app = open_page("lens", **LENS, **WHAT_IF)
    app.session_state["lens:whatif"] = True
    app.run()
    known = values(app)
    assert [name for name in ("l_ahead", "l_at") if known[name] != WHAT_IF[name]] == []
    assert known["l_k"] == 4
    assert {name: app.query_params[name] for name in WHAT_IF} == WHAT_IF


def test_engines():
    assert_taken_and_kept("engines", STEP, set(STEP) - {"e_peer"})
    assert_taken_and_kept("engines", FITS, {"e_budget"})


@pytest.mark.parametrize(
    ("page", "tried"),
    [
        ("train", {*TRAIN, *DIAL, "t_run"}),
        ("runs", {*RUNS, *SEEDS, "r_runs", "r_base", "r_one"}),
        ("lens", {*LENS, *WHAT_IF}),
        ("engines", {*STEP, *FITS}),
    ],
)
def test_no_setting_is_left_out(page, tried, monkeypatch):
    assert set(names_of(page, monkeypatch)) == tried


def test_a_link_from_another_page_wins_over_what_was_chosen_before():
    app = open_page("train", t_aggregator="MGDA", t_pace="slow")
    app.query_params.clear()
    app.switch_page("jdviz/pages/lens.py").run()
    app.query_params.clear()
    app.query_params["t_aggregator"] = "PCGrad"
    app.switch_page("jdviz/pages/train.py").run()
    assert app.selectbox(key="t_aggregator").value == "PCGrad"
    # What the link does not name is as it was left.
    assert app.selectbox(key="t_pace").value == "slow"
    app.selectbox(key="t_aggregator").select("Mean").run()
    assert app.selectbox(key="t_aggregator").value == "Mean"
    assert app.query_params["t_aggregator"] == "Mean"


def test_on_the_way_back_the_address_is_the_whole_state(monkeypatch):
    app = open_page("train", t_aggregator="MGDA", t_seed="7", t_beside=["Mean"], t_through="true")
    context = SimpleNamespace(is_history_navigation=True)
    monkeypatch.setattr("jdviz.pages.address.get_script_run_ctx", lambda: context)
    app.query_params.clear()
    app.query_params["t_seed"] = "3"
    app.run()
    assert app.selectbox(key="t_aggregator").value == "UPGrad"
    assert app.number_input(key="t_seed").value == 3
    assert app.multiselect(key="t_beside").value == []
    assert app.toggle(key="t_through").value is False
    assert app.query_params == {"t_seed": "3"}


def test_another_page_s_names_are_taken_out():
    app = open_page("lens", t_seed="4", l_view="gramian")
    assert "t_seed" not in app.query_params
    assert app.query_params["l_view"] == "gramian"
