"""Trajectories: where the steps of each method lead on a problem small enough to be drawn."""

import streamlit as st

from jdviz.pages.controls import check_address, escaped
from jdviz.pages.frame import open_page, plain_errors, prose, split
from jdviz.pages.trajectories_controls import (
    Asked,
    all_settings,
    current_problem,
    draw_controls,
)
from jdviz.pages.trajectories_play import (
    STEP_KEY,
    TICK_S,
    advance,
    draw_player,
    playing,
    take_step,
)
from jdviz.pages.trajectories_view import (
    Paths,
    draw_figures,
    draw_way_to_directions,
    follow_click,
    sentence,
)
from jdviz.trajectories import simulate_all

_WHOLE = "trajectories:whole"


def _stage(asked: Asked, paths: Paths, drawn: bool) -> None:
    """The part that moves: it draws itself again, and the whole page when its clock starts or ends.

    Args:
        asked: What the page is asked to show.
        paths: Of every method, one for each start.
        drawn: Whether it was playing when the whole page was drawn.
    """
    with plain_errors():
        if not st.session_state.pop(_WHOLE, False):
            advance(asked.steps)
        if drawn != playing():
            st.rerun()
        follow_click()
        step = draw_player(asked.steps)
        draw_figures(asked, paths, step)
        draw_way_to_directions(asked, paths, step)


def _simulated(asked: Asked) -> tuple[Paths, dict[str, str]]:
    """The paths of the methods that can be followed; of the others, why not."""
    paths = simulate_all(
        asked.problem.key,
        asked.rates,
        asked.starts,
        steps=asked.steps,
        seed=asked.seed,
        parameters=asked.parameters,
    )
    refused = {
        name: path.reason for name, own in paths.items() for path in own if path.ending == "refused"
    }
    return {name: own for name, own in paths.items() if name not in refused}, refused


def _draw(asked: Asked) -> None:
    if not asked.rates:
        st.info("Choose one or more aggregators to see where their steps lead.")
        return
    place = st.empty()
    with place, st.spinner("Following the paths …"):
        paths, refused = _simulated(asked)
    if paths:
        place.markdown(sentence(paths, asked.steps))
    for name, reason in refused.items():
        st.info(f"Not shown: {name} could not go on. {escaped(reason)}")
    if not paths:
        return
    moving = playing()
    st.session_state[_WHOLE] = True
    st.fragment(_stage, run_every=TICK_S if moving else None)(asked, paths, moving)


def _draw_words(asked: Asked) -> None:
    problem = asked.problem
    prose(
        f"**The problem.** {problem.formula}. {problem.front} Source: {problem.source}.\n\n"
        "Every path is x ← x − η A(J(x)) with plain steps: no momentum, no noise but that of the "
        "method itself. Lines across the map join points of one cosine; below zero the gradients "
        "conflict. A point is Pareto optimal if no other is better for one objective and no worse "
        "for the other. **Which point of the front is best is not for the figure to say**: how "
        "close a method comes depends on the rate, and where it arrives on the method.\n\n"
        "**Try this.**\n"
        "- Click on the map to add a start, then press Play.\n"
        "- Before you choose *Fonseca and Fleming*, whose front bulges outward: where on it will "
        "Mean end? Mean descends the sum of the objectives, and on such a front the sum is least "
        "next to an end; MGDA goes towards the middle.\n"
        "- Choose *Element-wise quadratic* and watch MGDA. Next to an axis one gradient is almost "
        "zero, the shortest combination is that one, and the other objective waits.\n"
        "- On the same problem, where no gradients disagree, raise η until a path leaves the map: "
        "steps that are too long are no matter of conflict.\n"
        "- With two objectives PCGrad takes UPGrad's direction twice as long. Give each method a "
        "rate of its own, and the two paths are one.\n"
        "- Back to *Fonseca and Fleming*, add a start in the lower right corner. Where the "
        "gradients fade, few ways of combining them get far."
    )


open_page("trajectories")
with plain_errors():
    own = current_problem()
    check_address("trajectories", all_settings(own), (STEP_KEY,))
    wrong = take_step(int(st.session_state.get(own.steps.key, own.steps.default)))
    rail, stage = split()
    with rail:
        asked = draw_controls()
    with stage, plain_errors():
        if wrong is not None:
            st.warning(f"The address was not followed: {escaped(wrong)}")
        _draw(asked)
    _draw_words(asked)
