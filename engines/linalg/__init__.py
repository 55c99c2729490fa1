"""Algebra of small Gramians: scaling, projection onto the dual cone, the shortest combination."""

from engines.linalg.dual_cone import SOLVERS, project_rows
from engines.linalg.gramian import (
    check_finite_gramian,
    compute_gramian,
    flatten_gramian,
    nearest_psd,
    scaled_gramian,
    unit_diagonal,
)
from engines.linalg.min_norm import min_norm_weights

__all__ = [
    "SOLVERS",
    "check_finite_gramian",
    "compute_gramian",
    "flatten_gramian",
    "min_norm_weights",
    "nearest_psd",
    "project_rows",
    "scaled_gramian",
    "unit_diagonal",
]
