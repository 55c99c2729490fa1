"""Pure functions from arrays to plotly figures, each with a caption computed from the same arrays.

A page shows a figure with `theme=None` and `config=CONFIG`: every colour is already in it.
"""

from jdviz.figures.angles import angle_caption, angle_histogram
from jdviz.figures.changes import (
    loss_bars,
    loss_bars_caption,
    update_change_bars,
    update_change_caption,
)
from jdviz.figures.cone import DualCone2D, dual_cone_2d
from jdviz.figures.cone_space import DualCone3D, dual_cone_3d
from jdviz.figures.construction import (
    CONSTRUCTION_STEPS,
    construction_caption,
    construction_figure,
)
from jdviz.figures.courses import (
    conflict_caption,
    conflict_history,
    weights_history,
    weights_history_caption,
)
from jdviz.figures.crossover import CrossoverDot, crossover_caption, crossover_map
from jdviz.figures.deltas import delta_bars, delta_caption
from jdviz.figures.directions import (
    comparison_caption,
    directions_caption,
    directions_figure,
    directions_frame,
)
from jdviz.figures.durations import time_bars, time_caption
from jdviz.figures.fits import fit_bars, fit_caption
from jdviz.figures.futures import (
    futures_bars,
    futures_bars_caption,
    futures_caption,
    futures_figure,
)
from jdviz.figures.growth import GrowthPoint, growth_caption, growth_lines
from jdviz.figures.hurt import improvement_bars, improvement_caption
from jdviz.figures.lab_report import comparison_sections
from jdviz.figures.lab_tables import crossover_table, fit_table, growth_table, lab_table, plan_table
from jdviz.figures.leading import leading_plane_caption, leading_plane_figure
from jdviz.figures.leading_words import leading_directions_caption
from jdviz.figures.lockstep import engine_difference, engine_difference_caption
from jdviz.figures.matrices import cosine_caption, cosine_heatmap, gramian_caption, gramian_heatmap
from jdviz.figures.mirrored import mirrored_caption, mirrored_timelines
from jdviz.figures.modules import (
    layer_conflict,
    layer_conflict_caption,
    pair_layers,
    pair_layers_caption,
)
from jdviz.figures.overlay import Line, overlay, overlay_caption
from jdviz.figures.peaks import peak_caption, peak_split_bars
from jdviz.figures.plane import plane_caption, update_plane_figure
from jdviz.figures.reading import figure_csv, figure_html, figure_table
from jdviz.figures.report import Section, html_report
from jdviz.figures.seeds import SeedGroup, seed_bands, seed_caption
from jdviz.figures.space import directions_radius, space_caption, space_figure
from jdviz.figures.spectra import spectrum_bars, spectrum_caption
from jdviz.figures.styles import ENGINE_STYLES
from jdviz.figures.tables import directions_table
from jdviz.figures.theme import CONFIG, Figure, Theme
from jdviz.figures.timelines import memory_caption, memory_timelines
from jdviz.figures.training import loss_caption, loss_history, weight_bars, weight_caption
from jdviz.figures.trajectories import CosineField, parameter_paths, parameter_paths_caption
from jdviz.figures.trajectory_distances import distance_caption, distance_lines, outcome_sentence
from jdviz.figures.trajectory_values import objective_paths, objective_paths_caption

__all__ = [
    "CONFIG",
    "CONSTRUCTION_STEPS",
    "ENGINE_STYLES",
    "CosineField",
    "CrossoverDot",
    "DualCone2D",
    "DualCone3D",
    "Figure",
    "GrowthPoint",
    "Line",
    "Section",
    "SeedGroup",
    "Theme",
    "angle_caption",
    "angle_histogram",
    "comparison_caption",
    "comparison_sections",
    "conflict_caption",
    "conflict_history",
    "construction_caption",
    "construction_figure",
    "cosine_caption",
    "cosine_heatmap",
    "crossover_caption",
    "crossover_map",
    "crossover_table",
    "delta_bars",
    "delta_caption",
    "directions_caption",
    "directions_figure",
    "directions_frame",
    "directions_radius",
    "directions_table",
    "distance_caption",
    "distance_lines",
    "dual_cone_2d",
    "dual_cone_3d",
    "engine_difference",
    "engine_difference_caption",
    "figure_csv",
    "figure_html",
    "figure_table",
    "fit_bars",
    "fit_caption",
    "fit_table",
    "futures_bars",
    "futures_bars_caption",
    "futures_caption",
    "futures_figure",
    "gramian_caption",
    "gramian_heatmap",
    "growth_caption",
    "growth_lines",
    "growth_table",
    "html_report",
    "improvement_bars",
    "improvement_caption",
    "lab_table",
    "layer_conflict",
    "layer_conflict_caption",
    "leading_directions_caption",
    "leading_plane_caption",
    "leading_plane_figure",
    "loss_bars",
    "loss_bars_caption",
    "loss_caption",
    "loss_history",
    "memory_caption",
    "memory_timelines",
    "mirrored_caption",
    "mirrored_timelines",
    "objective_paths",
    "objective_paths_caption",
    "outcome_sentence",
    "overlay",
    "overlay_caption",
    "pair_layers",
    "pair_layers_caption",
    "parameter_paths",
    "parameter_paths_caption",
    "peak_caption",
    "peak_split_bars",
    "plan_table",
    "plane_caption",
    "seed_bands",
    "seed_caption",
    "space_caption",
    "space_figure",
    "spectrum_bars",
    "spectrum_caption",
    "time_bars",
    "time_caption",
    "update_change_bars",
    "update_change_caption",
    "update_plane_figure",
    "weight_bars",
    "weight_caption",
    "weights_history",
    "weights_history_caption",
]
