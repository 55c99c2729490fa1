"""Runs: recorded runs side by side, over seeds too."""

import streamlit as st

from jdviz.pages.controls import Choice, Switch, Words, check_address
from jdviz.pages.frame import open_page, plain_errors, prose, split
from jdviz.pages.lecture import locked
from jdviz.pages.registry import PAGES
from jdviz.pages.run_view import example_view
from jdviz.pages.runs_compare import (
    DIFFERENCE,
    MOST_READ,
    SMOOTHING,
    Settings,
    X,
    choices,
    draw_comparison_export,
    draw_deltas,
    draw_overlay,
    draw_settings,
    load,
    result_of,
)
from jdviz.pages.runs_details import draw_details, draw_said
from jdviz.pages.runs_manage import draw_manage, draw_store_notices
from jdviz.pages.runs_seeds import draw_seeds
from jdviz.pages.runs_table import (
    CHOSEN_KEY,
    FILTER_KEY,
    chosen_runs,
    chosen_sentence,
    clear_chosen,
    draw_missing,
    draw_table,
    filtered,
)
from jdviz.runs import FINAL_STATUSES, Run
from jdviz.runs.comparison import MEAN_LOSS
from jdviz.runs.describing import labels
from jdviz.server import find_run, visible_runs

REDRAW_S = 1.0
_TRY = (
    "One run is one draw of the seed. A difference between two methods is worth a claim when it "
    "has the same sign for most seeds, not when two lines are apart.\n\n"
    "**Try this.** On the Train page train UPGrad with Mean beside it, for three seeds, and choose "
    "all six runs here. Look at the overlay, decide which method is better, then open Seeds and "
    "see whether every seed agrees."
)
LOOK_S = 3.0
_NEWEST = 50
OVERLAY, DELTA, SEEDS, ONE = "Overlay", "Δ%", "Seeds", "One run"
VIEW = Choice("r_view", "View", (OVERLAY, DELTA, SEEDS, ONE), OVERLAY)
FILTER = Words(FILTER_KEY, "Filter")
EVERY = Switch("r_all", "All runs of the table")
OTHER_NAMES = {
    CHOSEN_KEY: "the runs that are compared, their identifiers with commas between them",
    "r_series": "the series that is drawn, by its name in the menu",
    "r_base": "the run to compare with, by its identifier; auto for one of Mean",
    "r_one": "in the view One run, which, by its identifier",
}
_RECORDER = """from jdviz import Recorder
with Recorder("my run") as rec:
    rec.log(step=step, losses=losses)"""


def _draw_empty() -> None:
    """Draw what the page is for, before anything was recorded."""
    st.markdown(
        "Nothing is recorded yet. Train a network here, or put three lines into a training script "
        "of your own:"
    )
    code, way = st.columns([3, 1], vertical_alignment="center")
    code.code(_RECORDER, language="python")
    way.page_link(PAGES["train"].path, label="**Train a network**")
    st.caption("Example: a recorded run that comes with the app, not one of yours.")
    example = result_of(example_view())
    draw_overlay([example], ["example"], Settings(MEAN_LOSS, "step", 0.6, "auto", relative=False))


def _stage(view: str, run_ids: list[str], settings: Settings, going: list[str]) -> None:
    """The live part: draws itself again while one of the runs goes on.

    Args:
        view: Which comparison.
        run_ids: The runs that it takes.
        settings: What the rail sets.
        going: Those that went on when the whole page was drawn.
    """
    with plain_errors():
        runs = [run for run in map(find_run, run_ids) if run is not None]
        if len(runs) < len(run_ids) or _going(runs) != going:
            st.rerun()
        results, names = [load(run) for run in runs], labels(runs)
        if view == SEEDS:
            draw_seeds(results, settings)
        elif view == DELTA:
            draw_deltas(results, names, settings)
        else:
            draw_overlay(results, names, settings)
        if view != SEEDS:
            draw_comparison_export(results, names, settings)


def _going(runs: list[Run]) -> list[str]:
    return [run.run_id for run in runs if run.status not in FINAL_STATUSES]


def _look(known: list[tuple[str, str]]) -> None:
    """Draw the page anew once there is another run, or one has ended.

    Args:
        known: The newest runs and where they stood when the page was drawn.
    """
    with plain_errors():
        if _state(visible_runs()) != known:
            st.rerun()


def _state(runs: list[Run]) -> list[tuple[str, str]]:
    return [(run.run_id, run.status) for run in runs[:_NEWEST]]


def _draw(visible: list[Run]) -> None:
    rail, stage = split()
    with rail:
        query = FILTER.draw(
            placeholder="words, or seed=3",
            help_text="Words that all occur in the name, tags, notes, problem, method, status or "
            "settings of a run.",
        )
    shown = filtered(visible, query)
    chosen = chosen_runs(visible)
    with stage:
        draw_missing()
        draw_table(shown, chosen)
        switch, words = st.columns([1.1, 1], vertical_alignment="center")
        words.caption(chosen_sentence(shown, visible, chosen))
        with switch:
            view = VIEW.draw_buttons(bare=True)
    compared = chosen
    with rail:
        if view == SEEDS and EVERY.draw(
            help_text="Group every run that the filter leaves, instead of the chosen ones."
        ):
            compared = shown
        st.button(
            "Choose none",
            key="runs:none",
            on_click=clear_chosen,
            disabled=not chosen or locked(CHOSEN_KEY),
            width="stretch",
        )
    if not compared:
        stage.info("Choose one or more runs in the table to see them here.")
        return
    if view == ONE:
        with stage:
            draw_details(chosen, labels(chosen))
        return
    place = stage.container()
    if view != SEEDS and len(compared) > MOST_READ:
        place.caption(f"{len(compared)} runs are chosen; the first {MOST_READ} are compared.")
        compared = compared[:MOST_READ]
    with rail:
        series, baseline = choices([load(run) for run in compared])
        settings = draw_settings(
            None if view == DELTA else series, baseline, labels(compared), lines=view == OVERLAY
        )
    going = _going(compared)
    with place:
        st.fragment(_stage, run_every=REDRAW_S if going else None)(
            view, [run.run_id for run in compared], settings, going
        )


open_page("runs")
with plain_errors():
    draw_said()
    check_address("runs", (FILTER, VIEW, EVERY, X, SMOOTHING, DIFFERENCE), OTHER_NAMES)
    runs = visible_runs()
    if runs:
        draw_store_notices()
        _draw(runs)
    else:
        _draw_empty()
    prose(_TRY)
    st.divider()
    draw_manage(chosen_runs(runs) if runs else [])
    st.fragment(_look, run_every=LOOK_S)(_state(runs))
