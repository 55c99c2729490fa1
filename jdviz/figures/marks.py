"""A mark on a figure over the steps of a run: where the step is that the page shows."""

from jdviz.figures.theme import PALETTES, Figure, Theme


def mark_step(figure: Figure, step: int, theme: Theme) -> Figure:
    """Draw a vertical line at a step, with its number.

    Args:
        figure: A figure with steps along its horizontal axis.
        step: The step.
        theme: "light" or "dark".

    Returns:
        The same figure, changed.
    """
    palette = PALETTES[theme]
    ends = [float(end) for trace in figure.data if trace.x is not None for end in trace.x]
    # Towards the middle of the figure, so that the words are not cut at its edge.
    left = bool(ends) and step > (min(ends) + max(ends)) / 2
    figure.add_vline(
        x=step,
        line={"color": palette.text, "width": 1, "dash": "dot"},
        annotation={
            "text": f"step {step:,}",
            "font": {"color": palette.muted, "size": 12},
            "showarrow": False,
            # Above the figure is its legend.
            "y": 0,
            "yanchor": "bottom",
            "xanchor": "right" if left else "left",
        },
    )
    return figure
