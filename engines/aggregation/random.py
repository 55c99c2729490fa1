"""Random: a new random convex combination of the gradients at every call."""

import torch
from torch import Tensor

from engines.aggregation.aggregators import WeightedAggregator
from engines.aggregation.forwarded import Forwarded
from engines.aggregation.naming import constructor_call
from engines.aggregation.randomness import Randomness
from engines.aggregation.records import MethodRecord
from engines.aggregation.weightings import MatrixWeighting


class RandomWeighting(Randomness, MatrixWeighting):
    """Weights of `Random`: w = softmax(z) with z of m independent standard normal numbers.

    See `Random` for the source and what differs from the authors' code.

    Example:
        >>> import torch
        >>> from engines.aggregation import RandomWeighting
        >>> weights = RandomWeighting(generator=torch.Generator().manual_seed(0))(torch.eye(3))
        >>> bool((weights > 0).all()), round(float(weights.sum()), 6)
        (True, 1.0)
    """

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, stat: Tensor, /) -> Tensor:
        """Draw the weights: m numbers in float64, whatever the dtype.

        Args:
            stat: A Gramian, shape [m, m], or a Jacobian, shape [m, n]; only m matters.

        Returns:
            Weights, shape [m], positive, with sum 1 unless m is 0.
        """
        drawn = torch.randn(
            stat.shape[0],
            generator=self.generator,
            device=self.random_device(),
            dtype=torch.float64,
        )
        return torch.softmax(drawn, dim=0).to(device=stat.device, dtype=stat.dtype)

    def __repr__(self) -> str:
        return constructor_call(self, self.shown_generator())


class Random(WeightedAggregator):
    """Combination of the rows with positive weights drawn anew at every call.

    A(J) = Σᵢ wᵢ gᵢ with w = softmax(z), z ~ N(0, I). On average over the draws it is the mean of
    the gradients. It is a baseline: the paper finds it on a level with methods that look at the
    gradients.

    The authors' code (LibMTL) weighs the losses and offers other distributions as well; normal
    numbers are its default. The draws are made in float64 where
    the generator lives, so one seed gives the same weights for every dtype and device of J.

    Args:
        generator: Source of the random numbers; None for torch's global one.

    Raises:
        TypeError: `generator` is no torch.Generator.

    Source: Lin et al., arXiv 2111.10603, Algorithm 2 (random gradient weighting).
    Cost: m·n multiply-adds, no Gramian.

    Example:
        >>> import torch
        >>> from engines.aggregation import Random
        >>> aggregator = Random(generator=torch.Generator().manual_seed(0))
        >>> aggregator(torch.tensor([[1., 0., 2.], [0., 1., 2.]]))[2:]
        tensor([2.])
    """

    _parameters_shown = ()

    generator = Forwarded()

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__(RandomWeighting(generator=generator))

    def __repr__(self) -> str:
        return constructor_call(self, () if self.generator is None else ("generator",))


RECORD = MethodRecord(
    name="Random",
    make=Random,
    make_weighting=RandomWeighting,
    summary="Adds up the gradients with positive weights of sum 1, drawn anew at every call.",
    formula="A(J) = Σᵢ wᵢ gᵢ, w = softmax(z), z ~ N(0, I)",
    paper="Lin et al., Reasonable Effectiveness of Random Weighting: A Litmus Test for "
    "Multi-Task Learning, 2021, arXiv 2111.10603",
    non_conflicting=False,
    linear_under_scaling=True,
    weighted=True,
    permutation_invariant=False,
    random=True,
)
