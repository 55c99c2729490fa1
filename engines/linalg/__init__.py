"""Algebra of small Gramians: scaling, projection onto the dual cone, the shortest combination."""

from engines.linalg.ball_constrained import ball_constrained_weights
from engines.linalg.dual_cone import SOLVERS, project_rows
from engines.linalg.fair_allocation import fair_weights
from engines.linalg.gramian import (
    check_finite_gramian,
    compute_gramian,
    flatten_gramian,
    nearest_psd,
    scaled_gramian,
    unit_diagonal,
)
from engines.linalg.half_spaces import nearest_in_half_spaces
from engines.linalg.min_norm import min_norm_weights
from engines.linalg.simplex import project_onto_simplex

__all__ = [
    "SOLVERS",
    "ball_constrained_weights",
    "check_finite_gramian",
    "compute_gramian",
    "fair_weights",
    "flatten_gramian",
    "min_norm_weights",
    "nearest_in_half_spaces",
    "nearest_psd",
    "project_onto_simplex",
    "project_rows",
    "scaled_gramian",
    "unit_diagonal",
]
