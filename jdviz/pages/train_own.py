"""Problems of whoever started the server, as the Train page knows them without building them."""

import streamlit as st

from jdviz.pages.controls import escaped
from jdviz.problems import OwnProblem, own_paths, own_problem, remember
from jdviz.profiling import MeasurementError, inspect


@st.cache_resource(show_spinner="Building the model once in a process of its own, to know it…")
def known(path: str) -> OwnProblem | str:
    """What a path names, found out once for all visitors.

    Args:
        path: One of `own_paths`.

    Returns:
        The problem; where there is none, one sentence that says why.
    """
    try:
        found = inspect(path)
        problem = own_problem(
            path,
            batch_dim=found.batch_dim,
            batch_size=found.batch_size,
            objectives=found.objectives,
            resizable=found.resizable,
        )
        problem.check_batch(problem.default_batch)
    except (MeasurementError, ValueError) as error:
        return str(error)
    remember(problem)
    return problem


def draw_invitation() -> None:
    """Say how a model of one's own gets here, where none was chosen at the start."""
    if not own_paths():
        st.caption(
            "A model of your own: run the app on your machine, "
            "`streamlit run app.py -- --problem package.module:factory`."
        )


def draw_failure(path: str, sentence: str) -> None:
    """Say why a problem cannot be trained, and let the visitor try again once it is corrected.

    Args:
        path: Its path.
        sentence: What `known` said.
    """
    st.error(escaped(sentence))
    if st.button("Load it again", width="stretch", key="train:load-again"):
        known.clear(path)
        st.rerun()
