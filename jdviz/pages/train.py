"""Train: a network learns by Jacobian descent while its Gramian is on the screen."""

from collections.abc import Sequence

import streamlit as st

from jdviz.pages.controls import check_address, forget_address, quoted
from jdviz.pages.frame import open_page, plain_errors, prose, split
from jdviz.pages.run_view import RunView, example_view
from jdviz.pages.train_code import draw_code
from jdviz.pages.train_controls import current_settings, draw_settings
from jdviz.pages.train_group import CLOSER_KEY, chosen_of, draw_group, views_of
from jdviz.pages.train_step import AT_KEY, STEP_SETTINGS, draw_step_through, forget_step
from jdviz.pages.train_view import draw_run
from jdviz.problems import PROBLEMS
from jdviz.profiling import StepMethod, check_fits
from jdviz.runs import StoreError
from jdviz.server import find_run, may_return, pool, visitor
from jdviz.training import RunConfig

REDRAW_S = 0.5
# In the queue only the place changes, and a class waits there on the same server.
WAITING_S = 2.0
RUN_KEY = "t_run"
OTHER_NAMES = {
    RUN_KEY: "the run on the page, by its identifier",
    CLOSER_KEY: "of several runs, the name of the one looked at closer",
    AT_KEY: "the step that is gone through; without it the newest",
}

Activity = tuple[bool, bool, bool, bool]


def _start(
    configs: Sequence[RunConfig], pace: float, views: Sequence[RunView], *, paused: bool = False
) -> None:
    for config in configs:
        if config.problem in PROBLEMS:
            # What a model of a visitor's own needs shows only where it is built.
            method: StepMethod = "fused" if config.engine == "autogram" else "autojac"
            check_fits(config.problem, config.size, config.batch_size, method)
    owner = visitor().name
    if len(configs) == 1:
        run_ids = [pool().start(configs[0], owner=owner, pace=pace, paused=paused)]
    else:
        run_ids = pool().start_group(configs, owner=owner, pace=pace, paused=paused)
    # Those shown may be of another tab of the same person.
    _command(views, "stop")
    if paused:
        for run_id in run_ids:
            pool().command(run_id, "step")
    _show(run_ids[0])
    forget_address("train")
    forget_step()
    st.rerun()


def _show(run_id: str) -> None:
    """Make a run that of this page, also after a reload and on the way back from another page."""
    st.session_state[RUN_KEY] = run_id
    st.query_params[RUN_KEY] = run_id


def _views() -> list[RunView]:
    """The runs on this page: those that the address names, else those last shown."""
    run_id = st.query_params.get(RUN_KEY) or st.session_state.get(RUN_KEY)
    found = find_run(run_id) if run_id is not None else None
    if run_id is None or found is None:
        st.session_state.pop(RUN_KEY, None)
        return []
    _show(run_id)
    return views_of(found)


def _returning() -> bool:
    """Whether the run that the address names may be this visitor's, who has just reloaded."""
    named = st.query_params.get(RUN_KEY)
    return named is not None and may_return(named)


def _say_missing() -> None:
    """Say that the address names a run that the store does not have, or not for this visitor."""
    named = st.query_params.get(RUN_KEY)
    if named is None:
        return
    if may_return(named):
        st.info("Looking whether this run is yours; after a reload that takes some seconds.")
    else:
        st.warning(f"The run store has no run “{quoted(named)}”. Press Start to make one.")


def _commanded(views: Sequence[RunView]) -> list[RunView]:
    """Those of the runs that go on and take this visitor's commands."""
    return [view for view in views if view.going and view.mine and view.state is not None]


def _activity(views: Sequence[RunView]) -> Activity:
    """Whether a run goes on, whether one takes commands, whether those rest, whether all wait."""
    commanded = _commanded(views)
    resting = bool(commanded) and all(view.status == "paused" for view in commanded)
    going = [view for view in views if view.going]
    waiting = bool(going) and all(view.state is not None and view.state.place for view in going)
    return bool(going), bool(commanded), resting, waiting


def _buttons(views: Sequence[RunView], configs: Sequence[RunConfig], pace: float) -> None:
    _, active, resting, _ = _activity(views)
    first, second = st.columns(2)
    third, fourth = st.columns(2)
    name = "Restart" if active else "Start"
    if first.button(name, type="primary", disabled=not configs, width="stretch", key="start"):
        _start(configs, pace, views)
    if second.button(
        "Resume" if resting else "Pause", disabled=not active, width="stretch", key="pause"
    ):
        _command(views, "resume" if resting else "pause")
    waits = not resting if active else not configs
    if third.button("Step", disabled=waits, width="stretch", key="step"):
        if active:
            _command(views, "step")
        else:
            _start(configs, pace, views, paused=True)
    if fourth.button("Stop", disabled=not active, width="stretch", key="stop"):
        _command(views, "stop")


def _command(views: Sequence[RunView], name: str) -> None:
    for view in _commanded(views):
        pool().command(view.run.run_id, name)


def _draw_views(views: Sequence[RunView]) -> None:
    """Draw a run, or several side by side, and below them one update of the one looked at."""
    if len(views) > 1:
        draw_group(views)
    else:
        draw_run(views[0])
    with plain_errors():
        draw_step_through(chosen_of(views))


def _stage(drawn: Activity | None) -> None:
    """The live part: redraws itself, and the whole page when its buttons no longer fit the run.

    Args:
        drawn: The activity that the buttons were drawn for; None if they could not be.
    """
    with plain_errors():
        # Drawn with the whole page, it leaves errors to the part above; ticking, it says them.
        said_above = st.session_state.pop("train:whole", False)
        views: list[RunView] = []
        try:
            views = _views()
        except StoreError as error:
            # A store that is busy for a moment is not a run that has ended.
            drawn = None
            if not said_above:
                st.error(str(error))
        _draw_views(views or [example_view()])
        if drawn is not None and drawn != _activity(views):
            st.rerun()
        gone = drawn is not None and not views and RUN_KEY in st.query_params
        if gone and not said_above and not _returning():
            # Nobody came back: the page says so, and stops to tick.
            st.rerun()


open_page("train")
views: list[RunView] = []
drawn: Activity | None = None
with plain_errors():
    settings = current_settings()
    check_address("train", (*settings.all(), *STEP_SETTINGS), OTHER_NAMES)
    rail, stage = split()
    notices = stage.container()
    configs: list[RunConfig] = []
    with rail, plain_errors(notices):
        configs, pace = draw_settings(settings)
        with plain_errors(notices):
            visitor()
            views = _views()
            if not views:
                with notices:
                    _say_missing()
            for view in _commanded(views):
                pool().set_pace(view.run.run_id, pace)
        drawn = _activity(views)
        # Also where the store cannot be read: Start is how the visitor tries again.
        _buttons(views, configs, pace)
    with stage:
        going, _, _, waiting = _activity(views)
        tick_s = WAITING_S if waiting else REDRAW_S
        st.session_state["train:whole"] = True
        with st.container(key="train-live"):
            st.fragment(
                _stage, run_every=tick_s if going or (not views and _returning()) else None
            )(drawn)
        prose(
            "In the map of cosines a cell compares the gradients of two objectives at this step: "
            "orange is **conflict**, a step along one of them makes the other worse.\n\n"
            "**Try this.** Put Mean beside UPGrad, from the same seed, press Start and look closer "
            "at each: how many objectives does its update hurt? Or choose the regression, and turn "
            "its conflict from 0 to 1 between two runs."
        )
        with plain_errors():
            draw_code(chosen_of(views) if views else None, configs[0] if configs else None)
