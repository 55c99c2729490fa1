"""Which aggregation methods a run can use, with which engines, and at what learning rate."""

import torch
from torch import Tensor

from engines.aggregation import METHODS, Aggregator, Weighting
from jdviz.problems import find_problem
from jdviz.problems.sampling import AGGREGATOR, seeded_generator
from jdviz.training.config import ENGINES


def trainable_methods() -> tuple[str, ...]:
    """The methods that one batch is enough for.

    Returns:
        Keys of `METHODS`, without those that want the product of the Jacobians of two independent
        batches: on a single one, what they promise would not hold.
    """
    return tuple(name for name, record in METHODS.items() if record.statistic != "product")


def engines_for(aggregator: str) -> tuple[str, ...]:
    """The engines that can run a method.

    Args:
        aggregator: Key of `METHODS`.

    Returns:
        Names of `ENGINES`: all of them, "both" included, where the Gramian is enough, autojac where
        the method needs the Jacobian itself.
    """
    return ENGINES if METHODS[aggregator].statistic == "gramian" else ("autojac",)


def suggested_learning_rate(problem: str, aggregator: str, batch_size: int) -> float:
    """Suggests a learning rate of plain SGD for a method.

    The problem's own default suits a direction on the scale of the mean gradient. Some methods add
    gradients up instead: with 64 objectives of one scale their direction is 64 times as long, and
    the same learning rate diverges. How long it is shows on gradients that are orthogonal and of
    equal length, where a method that averages gives weights that sum to 1.

    Args:
        problem: One of `jdviz.problems.problem_names`.
        aggregator: Key of `METHODS`.
        batch_size: Samples per step.

    Returns:
        The learning rate.
    """
    record = METHODS[aggregator]
    # A problem with too few objectives is refused when the run starts; its page is shown all the
    # same.
    found = find_problem(problem)
    m = max(found.objectives(batch_size), record.least_objectives)

    def total(matrix: Tensor) -> float:
        aggregates = make_aggregator(aggregator, m, seed=0)
        return float(aggregates(matrix).sum())

    length = total(torch.eye(m, dtype=torch.float64))
    if length <= 0:
        # A method that drops the extremes of every column drops orthogonal gradients; equal ones
        # are their own average.
        length = total(torch.ones(m, 1, dtype=torch.float64))
    return found.default_learning_rate / length


def make_aggregator(aggregator: str, m: int, seed: int) -> Aggregator:
    """Makes the aggregator of a run, with the parameters that its record gives.

    Args:
        aggregator: Key of `METHODS`.
        m: Number of objectives.
        seed: Seed of the run.

    Returns:
        A new aggregator. A random one has a generator of its own and does not read torch's global
        one.
    """
    return METHODS[aggregator].aggregator(m, generator=seeded_generator(AGGREGATOR, seed))


def make_weighting(aggregator: str, m: int, seed: int) -> Weighting:
    """Makes the weighting of a run, with the parameters that its record gives.

    Args:
        aggregator: Key of `METHODS`, a method that has a weighting.
        m: Number of objectives.
        seed: Seed of the run.

    Returns:
        A new weighting, which draws the same numbers as the aggregator of the same seed.

    Raises:
        ValueError: The method has none.
    """
    return METHODS[aggregator].weighting(m, generator=seeded_generator(AGGREGATOR, seed))
