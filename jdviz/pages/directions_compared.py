"""What the Directions page shows of a comparison, be the gradients set by hand or recorded."""

from collections.abc import Sequence

import streamlit as st

from engines.aggregation import METHODS
from jdviz.compare import Comparison
from jdviz.figures import (
    comparison_caption,
    directions_table,
    improvement_bars,
    improvement_caption,
)
from jdviz.pages.controls import Several, escaped
from jdviz.pages.frame import TABLE_HEIGHT, Panel, draw_panels, theme
from jdviz.pages.method_cards import draw_cards
from jdviz.pages.method_controls import refit_parameters

PREFIX = "d"
SEED = 0
METHOD_CHOICE = Several(
    "d_methods", "Aggregators", tuple(METHODS), ("UPGrad", "MGDA", "PCGrad", "Mean")
)
#: More objectives than this make the table a part of the page that scrolls by itself.
TALL_TABLE = 8


def fit_parameters(m: int) -> None:
    """Let parameters that depend on the number of gradients begin afresh once that has changed.

    Call it before any of their controls is drawn.

    Args:
        m: The number of gradients that the page is about to show.
    """
    if st.session_state.setdefault("directions:m", m) != m:
        st.session_state["directions:m"] = m
        refit_parameters(PREFIX, m)


def draw_comparison(
    plane: Panel, compared: Comparison, names: Sequence[str], methods: Sequence[str], draws: int
) -> None:
    """Draw the figures side by side, what there is to know about them, the numbers and the cards.

    Args:
        plane: Gradients and directions.
        compared: What the methods make of the gradients.
        names: Name of every objective, length m.
        methods: The methods chosen, whether they could be had or not.
        draws: How often a random one was drawn.
    """
    if compared.outcomes:
        _draw_outcomes(plane, compared, names, draws)
    else:
        draw_panels(plane)
    for refusal in compared.refusals:
        st.info(f"Not shown: {escaped(refusal.sentence)}")
    if not methods:
        st.info("Choose one or more aggregators to see where they go.")
        return
    st.markdown("**What the chosen aggregators are**")
    draw_cards(methods)


def _draw_outcomes(plane: Panel, compared: Comparison, names: Sequence[str], draws: int) -> None:
    inner = {outcome.method: outcome.inner for outcome in compared.outcomes}
    hurt = Panel(
        "hurt",
        "Who gets hurt: gᵢ·A(J)",
        improvement_bars(inner, names, theme()),
        improvement_caption(inner, names),
    )
    draw_panels(plane, hurt)
    remarks = comparison_caption([METHODS[name] for name in inner], draws)
    if remarks:
        st.caption(remarks)
    table = directions_table(compared.outcomes, names)
    if len(names) <= TALL_TABLE:
        st.table(table)
    else:
        st.dataframe(table, height=TABLE_HEIGHT, alt="Weights, improvements and angles as numbers")
