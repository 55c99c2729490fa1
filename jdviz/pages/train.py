"""Train: a network learns by Jacobian descent while its Gramian is on the screen."""

import streamlit as st

from jdviz.pages.controls import check_address, forget_address, quoted
from jdviz.pages.frame import open_page, plain_errors
from jdviz.pages.train_controls import current_settings, draw_settings
from jdviz.pages.train_view import RunView, draw_run, example_view
from jdviz.problems import PROBLEMS
from jdviz.profiling import StepMethod, check_fits
from jdviz.runs import StoreError
from jdviz.server import find_run, pool, store, visitor
from jdviz.training import RunConfig

REDRAW_S = 0.5
RUN_KEY = "t_run"


def _start(config: RunConfig, pace: float, *, paused: bool = False) -> None:
    if config.problem in PROBLEMS:
        # What a model of a visitor's own needs shows only where it is built.
        method: StepMethod = "fused" if config.engine == "autogram" else "autojac"
        check_fits(config.problem, config.size, config.batch_size, method)
    run_id = pool().start(config, owner=visitor().name, pace=pace, paused=paused)
    if paused:
        pool().command(run_id, "step")
    st.session_state[RUN_KEY] = run_id
    forget_address("train")
    st.rerun()


def _view() -> RunView | None:
    """The run on this page: the visitor's own, or the recorded one that the address names."""
    run_id = st.session_state.get(RUN_KEY) or st.query_params.get(RUN_KEY)
    found = find_run(run_id) if run_id is not None else None
    if run_id is None or found is None:
        st.session_state.pop(RUN_KEY, None)
        return None
    # A reload is a new visitor to Streamlit; the run of the one who has just left goes on.
    pool().adopt(run_id, visitor().name)
    # A reload of the page, or a link, finds the recorded run again.
    st.query_params[RUN_KEY] = run_id
    return RunView(store(), found, pool().state(run_id), visitor().name)


def _say_missing() -> None:
    """Say that the address names a run that the store does not have."""
    named = st.query_params.get(RUN_KEY)
    if named is not None and RUN_KEY not in st.session_state and find_run(named) is None:
        st.warning(f"The run store has no run “{quoted(named)}”. Press Start to make one.")


def _activity(view: RunView | None) -> tuple[bool, bool, bool]:
    """Whether the run goes on, whether it takes this visitor's commands, whether it is paused."""
    if view is None or not view.going:
        return False, False, False
    return True, view.mine, view.mine and view.status == "paused"


def _buttons(view: RunView | None, config: RunConfig | None, pace: float) -> None:
    _, active, resting = _activity(view)
    lacking = config is None
    first, second = st.columns(2)
    third, fourth = st.columns(2)
    name = "Restart" if active else "Start"
    pressed = first.button(name, type="primary", disabled=lacking, width="stretch", key="start")
    if pressed and config is not None:
        _start(config, pace)
    if second.button(
        "Resume" if resting else "Pause", disabled=not active, width="stretch", key="pause"
    ):
        _command(view, "resume" if resting else "pause")
    waits = not resting if active else lacking
    if third.button("Step", disabled=waits, width="stretch", key="step"):
        if active:
            _command(view, "step")
        elif config is not None:
            _start(config, pace, paused=True)
    if fourth.button("Stop", disabled=not active, width="stretch", key="stop"):
        _command(view, "stop")


def _command(view: RunView | None, name: str) -> None:
    if view is not None:
        pool().command(view.run.run_id, name)


def _stage(drawn: tuple[bool, bool, bool] | None) -> None:
    """The live part: redraws itself, and the whole page when its buttons no longer fit the run.

    Args:
        drawn: The activity that the buttons were drawn for; None if they could not be.
    """
    with plain_errors():
        # Drawn with the whole page, it leaves errors to the part above; ticking, it says them.
        said_above = st.session_state.pop("train:whole", False)
        view = None
        try:
            view = _view()
        except StoreError as error:
            # A store that is busy for a moment is not a run that has ended.
            drawn = None
            if not said_above:
                st.error(str(error))
        draw_run(view or example_view())
        if drawn is not None and drawn != _activity(view):
            st.rerun()


open_page("train")
view: RunView | None = None
drawn: tuple[bool, bool, bool] | None = None
with plain_errors():
    settings = current_settings()
    check_address("train", settings.all())
    rail, stage = st.columns([1, 3.4], gap="medium")
    notices = stage.container()
    with rail, plain_errors(notices):
        config, pace = draw_settings(settings)
        with plain_errors(notices):
            visitor()
            with notices:
                _say_missing()
            view = _view()
            if view is not None and view.mine:
                pool().set_pace(view.run.run_id, pace)
        drawn = _activity(view)
        # Also where the store cannot be read: Start is how the visitor tries again.
        _buttons(view, config, pace)
    with stage:
        going = view is not None and view.going
        st.session_state["train:whole"] = True
        st.fragment(_stage, run_every=REDRAW_S if going else None)(drawn)
