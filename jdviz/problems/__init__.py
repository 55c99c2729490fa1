"""What can be trained, by name: data, model and objectives."""

from collections.abc import Mapping
from types import MappingProxyType

from jdviz.problems.base import Batch, Data, Problem
from jdviz.problems.conflict_regression import CONFLICT_REGRESSION
from jdviz.problems.digits_cnn import DIGITS_CNN
from jdviz.problems.digits_mlp import DIGITS_MLP
from jdviz.problems.digits_two_tasks import DIGITS_TWO_TASKS

PROBLEMS: Mapping[str, Problem] = MappingProxyType(
    {
        problem.key: problem
        for problem in (DIGITS_MLP, DIGITS_CNN, DIGITS_TWO_TASKS, CONFLICT_REGRESSION)
    }
)

__all__ = ["PROBLEMS", "Batch", "Data", "Problem"]
