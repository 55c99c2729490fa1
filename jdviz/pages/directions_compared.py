"""What the Directions page shows below its picture: angles, weights, lengths and the methods."""

from collections.abc import Sequence

import streamlit as st

from engines.aggregation import METHODS
from jdviz.compare import Comparison
from jdviz.figures import (
    comparison_caption,
    cosine_caption,
    cosine_heatmap,
    directions_table,
    gramian_caption,
    gramian_heatmap,
    improvement_bars,
    improvement_caption,
)
from jdviz.gradients import gramian_from_rows
from jdviz.pages.controls import escaped
from jdviz.pages.directions_code import aggregator_code, matrix_code
from jdviz.pages.directions_settings import BUILD_VIEW, PREFIX, Asked
from jdviz.pages.frame import TABLE_HEIGHT, Panel, draw_panels, opened, theme
from jdviz.pages.lecture import hidden
from jdviz.pages.method_cards import draw_cards
from jdviz.pages.method_controls import refit_parameters

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


def draw_rest(asked: Asked) -> None:
    """Draw what there is to know beside the picture, for gradients set by hand.

    Args:
        asked: What the page shows.
    """
    _draw_matrices(asked)
    methods = ["UPGrad"] if asked.view == BUILD_VIEW else list(asked.methods)
    if asked.view != BUILD_VIEW:
        compared = asked.compared
        draw_outcomes(compared, asked.gradients.names, methods)
        if compared.outcomes:
            with opened("code-directions", "These directions in code") as is_open:
                if is_open:
                    st.code(aggregator_code(asked), language="python")
    draw_method_cards(methods)


def draw_comparison(
    plane: Panel, compared: Comparison, names: Sequence[str], methods: Sequence[str]
) -> None:
    """Draw a recorded step: the figures side by side, the numbers and the cards.

    Args:
        plane: Gradients and directions.
        compared: What the methods make of the gradients.
        names: Name of every objective, length m.
        methods: The methods chosen, whether they could be had or not.
    """
    inner = {outcome.method: outcome.inner for outcome in compared.outcomes}
    if inner:
        bars, sentence = improvement_bars(inner, names, theme()), improvement_caption(inner, names)
        draw_panels(plane, Panel("hurt", "Who gets hurt: gᵢ·A(J)", bars, sentence))
    else:
        draw_panels(plane)
    draw_outcomes(compared, names, methods)
    draw_method_cards(methods)


def draw_outcomes(compared: Comparison, names: Sequence[str], methods: Sequence[str]) -> None:
    """Draw the numbers of every method, and what has to be known about them.

    Args:
        compared: What the methods make of the gradients.
        names: Name of every objective, length m.
        methods: The methods chosen, whether they could be had or not.
    """
    for refusal in compared.refusals:
        st.info(f"Not shown: {escaped(refusal.sentence)}")
    if not methods:
        st.info("Choose one or more aggregators to see where they go.")
    if not compared.outcomes:
        return
    records = [METHODS[one.method] for one in compared.outcomes]
    remarks = comparison_caption(records, compared.drawn)
    if remarks:
        st.caption(remarks)
    table = directions_table(compared.outcomes, names)
    if len(names) <= TALL_TABLE:
        # This kind of table reads Markdown, and a run's objectives may be called anything.
        st.table(table.map(escaped).rename(index=escaped, columns=escaped))
    else:
        st.dataframe(table, height=TABLE_HEIGHT, alt="Weights, improvements and angles as numbers")


def draw_method_cards(methods: Sequence[str]) -> None:
    """Draw what is known about each method, folded.

    Args:
        methods: Keys of `engines.aggregation.METHODS`.
    """
    if methods and not hidden("cards"):
        st.markdown("**What the chosen aggregators are**")
        draw_cards(methods)


def _draw_matrices(asked: Asked) -> None:
    G = gramian_from_rows(asked.gradients.jacobian)
    names = asked.gradients.names
    draw_panels(
        Panel(
            "cosines",
            "Cosines between the gradients",
            cosine_heatmap(G, names, theme()),
            cosine_caption(G, names),
            code=matrix_code(asked, "cosine_heatmap"),
        ),
        Panel(
            "gramian",
            "Their Gramian, G = J Jᵀ",
            gramian_heatmap(G, names, theme()),
            gramian_caption(G, names),
            code=matrix_code(asked, "gramian_heatmap"),
        ),
    )
