"""GradDrop: in each column keep the entries of one sign, chosen at random by their share."""

from collections.abc import Callable

import torch
from torch import Tensor

from engines.aggregation.aggregators import Aggregator
from engines.aggregation.constants import outside_autograd
from engines.aggregation.naming import constructor_call, vector_suffix
from engines.aggregation.randomness import Randomness
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import check_finite_rows, check_length, vector
from engines.linalg.gramian import column_chunks


def identity(purity: Tensor) -> Tensor:
    """The probability of keeping the positive entries is the purity itself.

    Args:
        purity: Any shape.

    Returns:
        The same tensor.
    """
    return purity


class GradDrop(Randomness, Aggregator):
    """In each column keeps the positive or the negative entries, at random, and adds them up.

    The purity of column k is P = ½ (1 + Σᵢ Jᵢₖ / Σᵢ |Jᵢₖ|), 1 where all entries are positive and
    0 where all are negative. With U uniform on [0, 1), the positive entries are kept if f(P) > U,
    else the negative ones, and A(J)ₖ = Σᵢ (ℓᵢ + (1 - ℓᵢ) kept) Jᵢₖ, where the leak ℓᵢ is the
    part of row i that passes in any case. Where all entries agree in sign nothing is dropped, if
    f(0) = 0 and f(1) = 1. A column of zeros gives 0.

    This is the combination step alone, on the gradients of the parameters. The authors' code
    (lingvo) works on those of a layer's output: there the signs are taken after multiplying by
    the sign of the activations and adding up the batch, P has 1e-7 in its denominator, and the
    result is scaled back to the length of the original gradient. None of this is in lines 10 to
    15 of the paper's algorithm.

    The random numbers are drawn in float64 where the generator lives, one for each column in the
    order of the columns, also for columns of zeros, in groups of ⌊2¹⁸/m⌋ columns. So one seed
    gives the same choice for every dtype of J. Memory stays at a few times 2 MiB.

    Args:
        f: Maps purities, shape [c], float64, entry by entry to the probabilities of keeping the
            positive entries, shape [c]; called once for each group of columns.
        leak: The part of each row that is never dropped, in [0, 1], shape [m]; None for 0.
        generator: Source of the random numbers; None for torch's global one.

    Raises:
        TypeError: `f` cannot be called, or another parameter has the wrong type.
        ValueError: `leak` is out of range; later, it has another length than m, or f returns
            another shape or NaN.

    Source: Chen et al., arXiv 2010.06808, Algorithm 1, lines 10 to 15.
    Cost: a few times m·n operations, no Gramian.

    Example:
        >>> import torch
        >>> from engines.aggregation import GradDrop
        >>> direction = GradDrop()(torch.tensor([[-4., 1., 1.], [6., 1., 0.]]))
        >>> float(direction[0]) in (-4.0, 6.0), direction[1:]
        (True, tensor([2., 1.]))
    """

    def __init__(
        self,
        f: Callable[[Tensor], Tensor] = identity,
        leak: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.f = f
        self.leak = leak
        self.generator = generator

    @property
    def f(self) -> Callable[[Tensor], Tensor]:
        """Maps purities to the probabilities of keeping the positive entries."""
        return self._f

    @f.setter
    def f(self, value: Callable[[Tensor], Tensor]) -> None:
        if not callable(value):
            raise TypeError(
                f"got f={value!r}, expected a function of the purities, pass one or leave it out."
            )
        self._f = value

    @property
    def leak(self) -> Tensor | None:
        """The part of each row that is never dropped, in [0, 1], shape [m], or None for 0."""
        return self._leak

    @leak.setter
    def leak(self, value: Tensor | None) -> None:
        if value is not None and not bool(((vector("leak", value) >= 0) & (value <= 1)).all()):
            raise ValueError(
                f"got leak={value.tolist()}, expected numbers in [0, 1], pass such ones."
            )
        self._leak = value

    def forward(self, matrix: Tensor, /) -> Tensor:
        """Choose a sign for each column and add up.

        Args:
            matrix: Shape [m, n].

        Returns:
            Direction, shape [n].

        Raises:
            NonDifferentiableError: Later, when the direction is differentiated.
            NonFiniteGradientError: The matrix has NaN or infinity.
            ValueError: `leak` has another length than m, or f returned another shape or NaN.
        """
        m, n = matrix.shape
        if self.leak is not None:
            check_length("leak", self.leak, m)
        check_finite_rows(matrix)
        if m == 0 or n == 0:
            direction = torch.zeros(n, dtype=matrix.dtype, device=matrix.device)
        else:
            direction = torch.cat([self._combined(c) for c in column_chunks(matrix.detach())])
        return outside_autograd(direction, matrix, type(self).__name__)

    def _combined(self, columns: Tensor) -> Tensor:
        """Drop and add up some columns, shape [m, c] to [c]."""
        wide = columns.to(torch.float64)
        probability = self._probability(wide)
        drawn = torch.rand(
            wide.shape[1],
            generator=self.generator,
            device=self.random_device(),
            dtype=torch.float64,
        )
        positive = probability > drawn.to(columns.device)
        kept = torch.where(positive, wide.clamp_min(0.0), wide.clamp_max(0.0))
        if self.leak is not None:
            leak = self.leak.detach().to(device=columns.device, dtype=torch.float64)[:, None]
            kept = leak * wide + (1.0 - leak) * kept
        return kept.sum(dim=0).to(columns.dtype)

    def _probability(self, wide: Tensor) -> Tensor:
        """Of keeping the positive entries of each column, shape [m, c] to [c]."""
        # The quotient does not depend on the size of a column; so small a one cannot overflow.
        largest = wide.abs().amax(dim=0)
        shares = wide / torch.where(largest > 0, largest, 1.0)
        size = shares.abs().sum(dim=0)
        purity = 0.5 * (1.0 + shares.sum(dim=0) / torch.where(size > 0, size, 1.0))
        probability = self.f(purity)
        if not isinstance(probability, Tensor) or probability.shape != purity.shape:
            kind = (
                f"shape {list(probability.shape)}"
                if isinstance(probability, Tensor)
                else type(probability).__name__
            )
            raise ValueError(
                f"got {kind} from f, expected a tensor of shape {list(purity.shape)}, return one "
                "probability for each purity."
            )
        if bool(probability.isnan().any()):
            raise ValueError("got NaN from f, expected probabilities, return numbers in [0, 1].")
        return probability

    def __repr__(self) -> str:
        return constructor_call(self, ("f", "leak", *self.shown_generator()))

    def __str__(self) -> str:
        return type(self).__name__ + vector_suffix(self.leak)


RECORD = MethodRecord(
    name="GradDrop",
    make=GradDrop,
    make_weighting=None,
    summary="In each column keeps the entries of one sign, chosen at random by their share, and "
    "adds them up.",
    formula="A(J)ₖ = Σᵢ Jᵢₖ over Jᵢₖ > 0 if ½(1 + Σᵢ Jᵢₖ / Σᵢ |Jᵢₖ|) > U, else over Jᵢₖ < 0",
    paper="Chen et al., Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign "
    "Dropout, 2020, arXiv 2010.06808",
    non_conflicting=False,
    linear_under_scaling=False,
    weighted=False,
    permutation_invariant=True,
    random=True,
    statistic="jacobian",
    parameters=(
        Parameter("leak", "vector", None, "The part of each gradient that is never dropped."),
    ),
    remarks="With a leak that differs between objectives their order matters.",
)
