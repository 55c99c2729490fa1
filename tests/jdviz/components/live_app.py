"""A page with two live figures, for the tests of the component; Streamlit runs it."""

import numpy as np
import streamlit as st

from jdviz.components.live_plot import live_plot
from jdviz.figures import cosine_caption, cosine_heatmap, loss_history

NAMES = ["a", "b", "c"]


@st.fragment(run_every=0.3)
def panel() -> None:
    """Both figures, with other data at every tick."""
    st.session_state.ticks = st.session_state.get("ticks", 0) + 1
    rng = np.random.default_rng(st.session_state.ticks)
    rows = rng.normal(size=(3, 4))
    k = 20 + st.session_state.ticks
    losses = np.exp(-np.arange(k)[:, None] / [5.0, 8.0, 13.0])
    st.markdown(f"tick {st.session_state.ticks}")
    if st.checkbox("One line more"):
        st.caption("This line moves what is below it to another place.")
    figure = loss_history(np.arange(k), losses, NAMES, theme="light")
    live_plot(figure, key="losses", height=440, alt=f"losses of {k} steps")
    G = rows @ rows.T
    live_plot(
        cosine_heatmap(G, NAMES, "light"),
        key="cosines",
        height=420,
        alt=cosine_caption(G, NAMES),
        cells=[7, 8, 9],
        on_cell=lambda pair: st.session_state.update(clicked=pair),
    )
    st.markdown(f"clicked: {st.session_state.get('clicked')}")


# Not where doctest only imports it.
if __name__ == "__main__":
    panel()
