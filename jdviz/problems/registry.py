"""The problems of the app, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from jdviz.problems.base import Problem
from jdviz.problems.conflict_regression import CONFLICT_REGRESSION
from jdviz.problems.digits_cnn import DIGITS_CNN
from jdviz.problems.digits_mlp import DIGITS_MLP
from jdviz.problems.digits_two_tasks import DIGITS_TWO_TASKS
from jdviz.problems.own import ProblemError, own_paths
from jdviz.problems.own_problem import OwnProblem, look_at

PROBLEMS: Mapping[str, Problem] = MappingProxyType(
    {
        problem.key: problem
        for problem in (DIGITS_MLP, DIGITS_CNN, DIGITS_TWO_TASKS, CONFLICT_REGRESSION)
    }
)
# What is known of the visitors' own ones, in this process.
_LOOKED_AT: dict[str, OwnProblem] = {}


def problem_names() -> tuple[str, ...]:
    """Names of what can be trained: the keys of `PROBLEMS`, then the chosen import paths."""
    return (*PROBLEMS, *own_paths())


def find_problem(name: str) -> Problem:
    """Looks up what can be trained.

    An import path is followed only where whoever started the program chose it: what an address or
    a stored run names is not imported. In a process that was not told about it with `remember`,
    its model is built once.

    Args:
        name: One of `problem_names`.

    Returns:
        The problem.

    Raises:
        ProblemError: There is none of that name, or an import path gives none; the message is one
            sentence for a person.
    """
    if name in PROBLEMS:
        return PROBLEMS[name]
    if name not in own_paths():
        raise ProblemError(
            f"There is no problem {name!r}; choose one of {', '.join(problem_names())}."
        )
    if name not in _LOOKED_AT:
        remember(look_at(name))
    return _LOOKED_AT[name]


def remember(problem: OwnProblem) -> None:
    """Lets this process know a problem that was built in another one."""
    _LOOKED_AT[problem.key] = problem
