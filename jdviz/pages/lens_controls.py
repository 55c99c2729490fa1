"""The rail of the Lens page: which run, which of its steps, and how its matrix is shown."""

import time
from dataclasses import dataclass
from typing import cast

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit.delta_generator import DeltaGenerator

from jdviz.pages.address import write
from jdviz.pages.controls import Choice, quoted
from jdviz.pages.lecture import locked
from jdviz.pages.run_view import RunView, example_view, view_of
from jdviz.problems import PROBLEMS
from jdviz.runs import Run
from jdviz.runs.layout import Order
from jdviz.server import find_run, visible_runs

RUN_KEY, STEP_KEY, PAIR_KEY = "l_run", "l_step", "l_pair"
EXAMPLE = "example"
VIEW = Choice("l_view", "Matrix", ("cosine", "gramian"), "cosine")
ORDER = Choice("l_order", "Order of the objectives", ("recorded", "group", "cluster"), "group")
SETTINGS = (VIEW, ORDER)
_VIEWS = {"cosine": "Cosines", "gramian": "Inner products G = J Jᵀ"}
_ORDERS = {
    "recorded": "As recorded",
    "group": "By group, where there are groups",
    "cluster": "By agreement of gradients",
}
#: In the session, the step on the screen, which moves on while the page follows a run.
SHOWN_KEY = "lens:shown"
_FOLLOW, _SLIDERS = "lens:follow", "lens:sliders"
# Every option of a slider travels to the browser at every run of the page.
_MOST_STOPS = 1000


@dataclass(frozen=True)
class Looking:
    """What the visitor looks at.

    Attributes:
        view: The run.
        step: The step; None for the newest that is kept, while the run goes on.
        matrix: "cosine" or "gramian".
        order: Order of the objectives.
    """

    view: RunView
    step: int | None
    matrix: str
    order: Order

    @property
    def live(self) -> bool:
        """Whether it changes while the run goes on."""
        return self.step is None and self.view.going


def draw_choice(notices: DeltaGenerator) -> Looking:
    """Draw the controls of a recorded run.

    Args:
        notices: Where to say what of the address cannot be followed.

    Returns:
        What they choose.

    Raises:
        StoreError: If the store cannot be read.
    """
    view = _choose_run(notices)
    with st.container(key=STEP_KEY):
        step = _choose_step(view, notices)
    matrix, order = draw_matrix_settings()
    return Looking(view, step, matrix, order)


def draw_matrix_settings() -> tuple[str, Order]:
    """Draw how the matrix is shown.

    Returns:
        "cosine" or "gramian", and the order of the objectives.
    """
    matrix = VIEW.draw(_VIEWS.__getitem__)
    order = ORDER.draw(
        _ORDERS.__getitem__,
        help_text="By agreement: gradients whose mean cosine is above zero stand together.",
    )
    return matrix, cast("Order", order)


def recall_pair() -> tuple[int, int] | None:
    """The pair of the address or the session, as places in the record from 1; None if none is."""
    named = _recall(PAIR_KEY) or ""
    first, _, second = named.partition("-")
    if not (_is_number(first) and _is_number(second)):
        return None
    # On the way back from another page the session alone knows it.
    write(PAIR_KEY, named)
    return int(first), int(second)


def remember_pair(places: tuple[int, int] | None) -> None:
    """Keep a pair in the address and the session.

    Args:
        places: Places in the record from 1; None to go back to the pair in the strongest conflict.
    """
    _remember(PAIR_KEY, None if places is None else f"{places[0]}-{places[1]}")


def go_to(step: int | None) -> None:
    """Look at another step.

    Args:
        step: One that is kept; None to follow the newest.
    """
    _remember(STEP_KEY, None if step is None else str(step))
    st.session_state[_FOLLOW] = step is None


def _recall(key: str) -> str | None:
    """A value of the address, which a link may just have set, else of the session."""
    return st.query_params.get(key) or st.session_state.get(f"lens:{key}")


def _remember(key: str, value: str | None) -> None:
    st.session_state[f"lens:{key}"] = value
    if value is not None:
        st.query_params[key] = value
    elif key in st.query_params:
        del st.query_params[key]


def _choose_run(notices: DeltaGenerator) -> RunView:
    runs = {run.run_id: run for run in visible_runs()}
    wanted = _wanted_run(runs, notices)
    if wanted != st.session_state.get(f"lens:{RUN_KEY}"):
        # A link from another page names another run; its step is in the address or not at all.
        st.session_state[f"lens:{RUN_KEY}"] = wanted
        for key in (STEP_KEY, PAIR_KEY):
            st.session_state[f"lens:{key}"] = None
        st.session_state[_FOLLOW] = STEP_KEY not in st.query_params
    if wanted != EXAMPLE:
        # A reload of the page, or a copy of the address, finds the run again.
        st.query_params[RUN_KEY] = wanted
    labels = {name: _label(run) for name, run in runs.items()}
    labels[EXAMPLE] = "Example: a recorded run"
    st.session_state["lens:choice"] = wanted
    with st.container(key=RUN_KEY):
        st.selectbox(
            "Run",
            list(labels),
            format_func=labels.__getitem__,
            key="lens:choice",
            on_change=_run_chosen,
            help="Runs of the app, of your own scripts with a Recorder, and imported ones.",
            disabled=locked(RUN_KEY),
        )
    return example_view() if wanted == EXAMPLE else view_of(runs[wanted])


def _wanted_run(runs: dict[str, Run], notices: DeltaGenerator) -> str:
    """The run of the address, which joins the others if it is older; else the newest with steps."""
    wanted = _recall(RUN_KEY)
    if wanted is not None and wanted != EXAMPLE and wanted not in runs:
        found = find_run(wanted)
        if found is None:
            notices.warning(
                f"The run store has no run “{quoted(wanted)}” that you may see; showing another."
            )
            _forget_run()
            wanted = None
        else:
            runs[wanted] = found
    if wanted is None:
        return next((name for name, run in runs.items() if run.steps), EXAMPLE)
    return wanted


def _run_chosen() -> None:
    _remember(RUN_KEY, st.session_state["lens:choice"])
    remember_pair(None)
    go_to(None)


def _forget_run() -> None:
    _remember(RUN_KEY, None)
    _remember(STEP_KEY, None)
    remember_pair(None)


def _label(run: Run) -> str:
    """A run in a menu; the end of its identifier tells two of the same name apart."""
    problem = str(run.config.get("problem", ""))
    title = run.name or (PROBLEMS[problem].title if problem in PROBLEMS else problem)
    method = run.config.get("aggregator")
    when = time.strftime("%d %b, %H:%M", time.localtime(run.created_s))
    parts = [title or "run of a script", method, run.status, when, run.run_id[-4:]]
    return " · ".join(str(part) for part in parts if part)


def _choose_step(view: RunView, notices: DeltaGenerator) -> int | None:
    steps = view.store.gramian_steps(view.run.run_id)
    if steps.size == 0:
        return None
    # While the page follows a run no step is in the address, unless a link has just put it there.
    follows = st.session_state.setdefault(_FOLLOW, True) and STEP_KEY not in st.query_params
    following = view.going and follows
    step = int(steps[-1]) if following else _wanted_step(view, steps, notices)
    if view.going:
        st.session_state["lens:following"] = following
        st.toggle(
            "Follow the newest step",
            key="lens:following",
            on_change=_follow,
            disabled=locked(STEP_KEY),
        )
    if following:
        return None
    st.query_params[STEP_KEY] = str(step)
    st.session_state[f"lens:{STEP_KEY}"] = str(step)
    _draw_stops(step, steps)
    thinned = view.store.thinning_sentence(view.run.run_id)
    if thinned:
        st.caption(thinned)
    return step


def _wanted_step(view: RunView, steps: NDArray[np.int64], notices: DeltaGenerator) -> int:
    """The step of the address; of those that are kept, the nearest to it."""
    text = _recall(STEP_KEY)
    if text is None:
        return int(steps[-1])
    if not _is_number(text):
        notices.warning(f"The address was not followed: “{quoted(text)}” is not a step.")
        return int(steps[-1])
    step = int(text)
    if step in steps:
        return step
    near = view.store.nearest(view.run.run_id, step)
    kept = int(steps[-1]) if near is None else near.step
    notices.info(f"The Gramian of step {step:,} is not kept; shown is step {kept:,}, the nearest.")
    return kept


def _follow() -> None:
    following = st.session_state["lens:following"]
    go_to(None if following else st.session_state.get(SHOWN_KEY))


def _draw_stops(step: int, steps: NDArray[np.int64]) -> None:
    """A slider over the steps, and buttons for the neighbours and the ends."""
    if steps.size < 2:
        st.caption(f"Step {step:,} is the only one whose Gramian is kept.")
        return
    key = _slider_key(step)
    st.select_slider(
        "Step",
        _stops(step, steps),
        format_func=lambda stop: f"{stop:,}",
        key=key,
        on_change=_slid,
        args=(key,),
        disabled=locked(STEP_KEY),
    )
    place = int(np.searchsorted(steps, step))
    last = steps.size - 1
    first_row, second_row = st.columns(2), st.columns(2)
    buttons = (
        (first_row[0], "Previous", -1, place == 0, "P"),
        (first_row[1], "Next", 1, place == last, "N"),
        (second_row[0], "First", -steps.size, place == 0, None),
        (second_row[1], "Last", steps.size, place == last, None),
    )
    for column, name, places, off, shortcut in buttons:
        column.button(
            name,
            key=f"lens:{name.lower()}",
            on_click=_move,
            args=(steps, places),
            disabled=off or locked(STEP_KEY),
            shortcut=shortcut,
            width="stretch",
        )


def _move(steps: NDArray[np.int64], places: int) -> None:
    """Go some places along the kept steps, from where the visitor is when the button is pressed.

    Pressed twice before the page was drawn again, a button goes two places.
    """
    place = int(np.searchsorted(steps, int(_recall(STEP_KEY) or 0))) + places
    go_to(int(steps[min(max(place, 0), steps.size - 1)]))


def _slider_key(step: int) -> str:
    """The slider's key, a new one whenever something else has moved it.

    Of a slider whose value the page sets, the browser may still send the value before when buttons
    are pressed fast, and that would undo them.
    """
    count = st.session_state.get(_SLIDERS, 0)
    if st.session_state.get(f"lens:slider-{count}", step) != step:
        count += 1
    st.session_state[_SLIDERS] = count
    key = f"lens:slider-{count}"
    st.session_state.setdefault(key, step)
    return key


def _slid(key: str) -> None:
    go_to(int(st.session_state[key]))


def _stops(step: int, steps: NDArray[np.int64]) -> list[int]:
    """The steps that the slider offers: of very many, some evenly spread; the buttons reach all."""
    if steps.size <= _MOST_STOPS:
        return [int(stop) for stop in steps]
    spread = np.linspace(0, steps.size - 1, _MOST_STOPS).round().astype(np.int64)
    return sorted({step, *(int(stop) for stop in steps[spread])})


def _is_number(text: str) -> bool:
    # No run has more steps than eighteen digits, and SQLite takes no more.
    return text.isascii() and text.isdigit() and len(text) <= 18
