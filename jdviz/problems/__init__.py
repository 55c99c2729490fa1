"""What can be trained and measured, by name: data, model and objectives."""

from jdviz.problems.base import Batch, Data, Problem
from jdviz.problems.own import ProblemError, choose, is_own, own_paths
from jdviz.problems.own_problem import OwnProblem, own_problem
from jdviz.problems.registry import PROBLEMS, find_problem, problem_names, remember

__all__ = [
    "PROBLEMS",
    "Batch",
    "Data",
    "OwnProblem",
    "Problem",
    "ProblemError",
    "choose",
    "find_problem",
    "is_own",
    "own_paths",
    "own_problem",
    "problem_names",
    "remember",
]
