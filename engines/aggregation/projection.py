"""What UPGrad and DualProj share: their parameters, and the preferences of the objectives."""

from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.aggregation.aggregators import GramianWeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.naming import vector_suffix
from engines.aggregation.preferences import Preferences
from engines.aggregation.records import Parameter
from engines.aggregation.validation import non_negative, one_of
from engines.aggregation.weightings import SolvedWeighting
from engines.linalg import SOLVERS, project_rows

Array = NDArray[np.float64]

_PARAMETERS = ("pref_vector", "norm_eps", "reg_eps", "solver")

# What a person may change; the epsilons change nothing.
PARAMETERS = (
    Parameter("pref_vector", "vector", None, "How much each objective counts; 1/m each if empty."),
    Parameter(
        "solver",
        "choice",
        "auto",
        "How the projections are found: row by row, all together, or what is faster.",
        choices=SOLVERS,
    ),
)


class ProjectionWeighting(Preferences, SolvedWeighting):
    """A weighting by projection onto the dual cone.

    Args:
        pref_vector: Preferences of the objectives, shape [m]; None for 1/m each.
        norm_eps: Accepted for compatibility; the scaling to unit diagonal needs no threshold.
        reg_eps: Accepted for compatibility; the weights solve the unregularized problem.
        solver: "quadprog" solves row by row, "batched" all rows together, "auto" takes the
            faster for the number of objectives. The directions agree to the rounding of G.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range, or the solver is unknown.
    """

    _parameters_shown = _PARAMETERS

    def __init__(
        self,
        pref_vector: Tensor | None = None,
        norm_eps: float = 0.0001,
        reg_eps: float = 0.0001,
        solver: str = "auto",
    ) -> None:
        super().__init__()
        self.pref_vector = pref_vector
        self.norm_eps = norm_eps
        self.reg_eps = reg_eps
        self.solver = solver

    @property
    def norm_eps(self) -> float:
        """Accepted for compatibility, at least 0."""
        return self._norm_eps

    @norm_eps.setter
    def norm_eps(self, value: float) -> None:
        self._norm_eps = non_negative("norm_eps", value)

    @property
    def reg_eps(self) -> float:
        """Accepted for compatibility, at least 0."""
        return self._reg_eps

    @reg_eps.setter
    def reg_eps(self, value: float) -> None:
        self._reg_eps = non_negative("reg_eps", value)

    @property
    def solver(self) -> str:
        """Name of the solver."""
        return self._solver

    @solver.setter
    def solver(self, value: str) -> None:
        self._solver = one_of("solver", value, SOLVERS)

    @abstractmethod
    def combinations(self, preferences: Array) -> Array:
        """The combinations of gradients that are projected and then added.

        Args:
            preferences: p, shape [m].

        Returns:
            One combination per row, shape [r, m].
        """

    def solve(self, gramian: Array) -> Array:
        """`solve_on` the CPU."""
        return self.solve_on(gramian, torch.device("cpu"))

    def solve_on(self, gramian: Array, device: torch.device) -> Array:
        """Project the combinations onto the dual cone and add the results.

        Args:
            gramian: Shape [m, m].
            device: Where the batched solver computes, if it is a CUDA device; else on the CPU, as
                other accelerators may lack float64.

        Returns:
            Weights, shape [m].

        Raises:
            NonFiniteGradientError: The Gramian has NaN or infinity.
            SolverError: A projection failed.
            ValueError: No Gramian, or preferences of another length.
        """
        m = len(gramian)
        rows = self.combinations(self.preferences(m, 1.0 / max(1, m)))
        where = device if device.type == "cuda" else torch.device("cpu")
        return np.asarray(project_rows(gramian, rows, self.solver, where).sum(axis=0))

    def __str__(self) -> str:
        return type(self).__name__ + vector_suffix(self.pref_vector)


class ProjectionAggregator(GramianWeightedAggregator):
    """An aggregator by projection onto the dual cone; its parameters are its weighting's.

    Args:
        gramian_weighting: The weighting.
    """

    _parameters_shown = _PARAMETERS

    pref_vector = Forwarded()
    norm_eps = Forwarded()
    reg_eps = Forwarded()
    solver = Forwarded()

    def __init__(self, gramian_weighting: ProjectionWeighting) -> None:
        super().__init__(gramian_weighting)

    def __str__(self) -> str:
        return type(self).__name__ + vector_suffix(self.pref_vector)
