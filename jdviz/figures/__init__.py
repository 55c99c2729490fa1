"""Pure functions from arrays to plotly figures, each with a caption computed from the same arrays.

A page shows a figure with `theme=None` and `config=CONFIG`: every colour is already in it.
"""

from jdviz.figures.angles import angle_caption, angle_histogram
from jdviz.figures.cone import DualCone2D, dual_cone_2d
from jdviz.figures.hurt import improvement_bars, improvement_caption
from jdviz.figures.matrices import (
    cosine_caption,
    cosine_heatmap,
    gramian_caption,
    gramian_heatmap,
)
from jdviz.figures.memory import (
    engines_caption,
    memory_caption,
    memory_timelines,
    peak_bars,
    time_bars,
)
from jdviz.figures.plane import (
    comparison_caption,
    directions_caption,
    directions_figure,
    plane_caption,
    update_plane_figure,
)
from jdviz.figures.tables import directions_table, engines_table
from jdviz.figures.theme import CONFIG, ENGINE_STYLES, Figure, Theme
from jdviz.figures.training import loss_caption, loss_history, weight_bars, weight_caption

__all__ = [
    "CONFIG",
    "ENGINE_STYLES",
    "DualCone2D",
    "Figure",
    "Theme",
    "angle_caption",
    "angle_histogram",
    "comparison_caption",
    "cosine_caption",
    "cosine_heatmap",
    "directions_caption",
    "directions_figure",
    "directions_table",
    "dual_cone_2d",
    "engines_caption",
    "engines_table",
    "gramian_caption",
    "gramian_heatmap",
    "improvement_bars",
    "improvement_caption",
    "loss_caption",
    "loss_history",
    "memory_caption",
    "memory_timelines",
    "peak_bars",
    "plane_caption",
    "time_bars",
    "update_plane_figure",
    "weight_bars",
    "weight_caption",
]
