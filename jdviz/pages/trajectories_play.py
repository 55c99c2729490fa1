"""Playing a descent on the Trajectories page: which step is shown, and the buttons that move it."""

import streamlit as st

from jdviz.pages.controls import Choice
from jdviz.pages.lecture import ALL, locked

STEP_KEY = "p_step"
#: Four redraws a second, calm enough to follow.
TICK_S = 0.25
SPEED = Choice("p_speed", "Steps a second", ("4", "8", "20", "40"), "8")

#: In the session: the step shown, None for the last; whether it moves; the slider, and how often
#: something else than the slider has moved the step; what the address last said.
_SHOWN, _PLAYING, _SLIDER = "trajectories:shown", "trajectories:playing", "trajectories:slider"
_MOVES, _NAMED = "trajectories:moves", "trajectories:named"


def take_step(steps: int) -> str | None:
    """Take the step from an address that somebody came by.

    Args:
        steps: How many there are.

    Returns:
        What is wrong with the address, or None.
    """
    text = st.query_params.get(STEP_KEY)
    if text is None or text == st.session_state.get(_NAMED):
        return None
    st.session_state[_NAMED] = text
    if not text.isdecimal() or int(text) > steps:
        return f"there is no step “{text[:20]}”, only 0 to {steps}; using the last one."
    _go_to(int(text))
    return None


def forget_step() -> None:
    """Go back to the whole of every path, for the steps of another problem are others."""
    st.session_state[_PLAYING] = False
    _go_to(None)


def playing() -> bool:
    """Whether the step moves by itself."""
    return bool(st.session_state.get(_PLAYING, False))


def advance(steps: int) -> None:
    """One tick of the clock.

    Args:
        steps: How many steps there are; at the last the clock stops.
    """
    if not playing():
        return
    moved = shown_step(steps) + round(int(SPEED.current()) * TICK_S)
    if moved >= steps:
        st.session_state[_PLAYING] = False
    _go_to(moved if moved < steps else None)


def shown_step(steps: int) -> int:
    """The step on the screen.

    Args:
        steps: How many there are.
    """
    shown = st.session_state.get(_SHOWN)
    return steps if shown is None else min(int(shown), steps)


def draw_player(steps: int) -> int:
    """Draw the buttons, the slider and the speed.

    Args:
        steps: How many steps there are.

    Returns:
        The step to show.
    """
    step, moving = shown_step(steps), playing()
    # To watch is no setting: `lock=all` leaves the clock to the visitor.
    fixed = locked(STEP_KEY) and not locked(ALL)
    with st.container(key=STEP_KEY):
        buttons, middle, right = st.columns([1.7, 3, 1], vertical_alignment="bottom", gap="small")
        row = buttons.container(horizontal=True, gap="small", vertical_alignment="bottom")
        # Two buttons in one place: a press that comes twice means the same both times.
        row.button(
            "Pause" if moving else "Play",
            key="trajectories:pause" if moving else "trajectories:play",
            type="primary",
            on_click=_set_playing,
            args=(not moving, steps),
            shortcut="k",
            disabled=fixed,
        )
        for name, by, letter in (("Back", -1, "p"), ("Step", 1, "n")):
            row.button(
                name,
                key=f"trajectories:{name.lower()}",
                on_click=_move,
                args=(by, steps),
                shortcut=letter,
                disabled=fixed or moving or not 0 <= step + by <= steps,
            )
        # Another slider for each move by something else. Of one whose value the page changes, the
        # browser may still send the value before, and that would count as the visitor's.
        key = f"{_SLIDER}:{'moving' if moving else st.session_state.get(_MOVES, 0)}"
        st.session_state[key] = step
        middle.slider(
            f"Step (of {steps})",
            min_value=0,
            max_value=steps,
            key=key,
            on_change=_scrub,
            args=(key,),
            disabled=fixed or moving,
        )
        with right:
            SPEED.draw()
    _write(step if not moving and step < steps else None)
    return step


def _go_to(step: int | None) -> None:
    st.session_state[_SHOWN] = step
    st.session_state[_MOVES] = st.session_state.get(_MOVES, 0) + 1


def _set_playing(moving: bool, steps: int) -> None:
    st.session_state[_PLAYING] = moving
    if moving and shown_step(steps) >= steps:
        _go_to(0)


def _move(by: int, steps: int) -> None:
    step = max(0, shown_step(steps) + by)
    _go_to(step if step < steps else None)


def _scrub(key: str) -> None:
    if not playing():
        st.session_state[_SHOWN] = int(st.session_state[key])


def _write(step: int | None) -> None:
    """Put the step into the address; the last one, and one that moves, are not in it."""
    text = None if step is None else str(step)
    if playing() or st.query_params.get(STEP_KEY) == text:
        return
    st.session_state[_NAMED] = text
    if text is not None:
        st.query_params[STEP_KEY] = text
    else:
        del st.query_params[STEP_KEY]
