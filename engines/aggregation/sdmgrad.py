"""SDMGrad: the shortest combination, drawn towards a preferred one."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engines.aggregation.aggregators import StatefulGramianAggregator
from engines.aggregation.naming import vector_suffix
from engines.aggregation.preferences import Preferences
from engines.aggregation.product import ProductWeighting
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import fraction, non_negative, positive, whole
from engines.linalg import check_finite_gramian, project_onto_simplex

Array = NDArray[np.float64]

# A step of this length ends where an infinite one would: in a corner of the simplex.
_LONGEST_STEP = 1e200


class SDMGradWeighting(Preferences, ProductWeighting):
    """Weights (w + λw̃)/(1 + λ), with w moving towards argmin ½|Jᵀ(w + λw̃)|².

    w lies in {w : w ≥ 0, Σw = 1} and w̃ is the preference vector. Each call takes `n_iter` steps of
    projected gradient descent with momentum from the w of the call before, equal weights at first:
    v ← momentum · v + M(w + λw̃) and w ← Π(w - lr · v), with v = 0 at the start of each call. M is
    the product J₁J₂ᵀ of the Jacobians of two independent batches, so that each step follows an
    unbiased estimate of the slope. λ = 0 aims at `MGDA`, large λ at the preferred combination. The
    parameters of the model are updated with the gradients of a third batch.

    M is first divided by the square of the mean root of its diagonal, negative entries counting as
    0, so that `lr` does not depend on the size of the gradients. The official code does so too and
    adds 1e-8 to the divisor, or 1e-4 to the diagonal, which makes the steps on small gradients
    short; here nothing is added. Where no entry of the diagonal is positive, the divisor is the
    largest absolute entry of M.

    The paper takes one step a call, the official code 20 with lr = 10, which are the defaults here;
    LibMTL has lr = 5. At such a length the steps do not settle: w often jumps between corners of
    the simplex, and the result is where the last step ended.

    Args:
        lr: Length of the steps, above 0.
        momentum: Share of the last step that goes on, in [0, 1).
        n_iter: Number of steps a call, at least 1.
        lambda_: Weight λ of the preferred combination, at least 0.
        pref_vector: Preferences w̃, used as they are, shape [m]; None for 1/m each.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range; later, the number of preferences is not m.

    Source: Xiao, Ban & Ji, arXiv 2305.18409, Algorithm 1; Section 6.1 for the division.
    Cost: n_iter · m² multiply-adds besides M (m²n).

    Example:
        >>> import torch
        >>> from engines.aggregation import SDMGradWeighting
        >>> first, second = torch.tensor([[2., 0.], [0., 1.]]), torch.tensor([[1., 0.], [0., 1.]])
        >>> SDMGradWeighting(lr=0.1)(first @ second.T)
        tensor([0.3332, 0.6668])
    """

    _parameters_shown = ("lr", "momentum", "n_iter", "lambda_", "pref_vector")

    def __init__(
        self,
        lr: float = 10.0,
        momentum: float = 0.5,
        n_iter: int = 20,
        lambda_: float = 0.3,
        pref_vector: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.lr = lr
        self.momentum = momentum
        self.n_iter = n_iter
        self.lambda_ = lambda_
        self.pref_vector = pref_vector

    @property
    def lr(self) -> float:
        """Length of the steps, above 0."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = positive("lr", value)

    @property
    def momentum(self) -> float:
        """Share of the last step that goes on, in [0, 1)."""
        return self._momentum

    @momentum.setter
    def momentum(self, value: float) -> None:
        self._momentum = fraction("momentum", value, below_one=True)

    @property
    def n_iter(self) -> int:
        """Number of steps a call, at least 1."""
        return self._n_iter

    @n_iter.setter
    def n_iter(self, value: int) -> None:
        self._n_iter = whole("n_iter", value, 1)

    @property
    def lambda_(self) -> float:
        """Weight of the preferred combination, at least 0."""
        return self._lambda

    @lambda_.setter
    def lambda_(self, value: float) -> None:
        self._lambda = non_negative("lambda_", value)

    def solve(self, gramian: Array) -> Array:
        """Take the steps of one call.

        Args:
            gramian: M up to a factor, shape [m, m].

        Returns:
            (w + λw̃)/(1 + λ), shape [m].

        Raises:
            NonFiniteGradientError: M has NaN or infinity.
            ValueError: The number of preferences is not m.
        """
        check_finite_gramian(gramian)
        m = len(gramian)
        equal = 1.0 / max(1, m)
        wanted = self.lambda_ * self.preferences(m, equal)
        weights = self.remembered(m)
        slopes, length = self._scaled(gramian)
        velocity = np.zeros(m)
        for _ in range(self.n_iter):
            velocity = self.momentum * velocity + slopes @ (weights + wanted)
            weights = project_onto_simplex(weights - length * velocity)
        self.remember(weights)
        return (weights + wanted) / (1.0 + self.lambda_)

    def _scaled(self, product: Array) -> tuple[Array, float]:
        """M over its largest absolute entry, and the step length that goes with that."""
        size = float(np.abs(product).max(initial=0.0))
        if size == 0:
            return product, 0.0
        slopes = product / size
        root = float(np.sqrt(np.maximum(np.diagonal(slopes), 0.0)).mean())
        # The division is by size · root²; a root of 1e-100 is as good as none in the other factor.
        length = self.lr / max(root, 1e-100) ** 2 if root > 0 else self.lr
        return slopes, min(length, _LONGEST_STEP)

    def __str__(self) -> str:
        return type(self).__name__ + vector_suffix(self.pref_vector)


def _of_one_batch(
    lr: float = 10.0,
    momentum: float = 0.5,
    n_iter: int = 20,
    lambda_: float = 0.3,
    pref_vector: Tensor | None = None,
) -> StatefulGramianAggregator:
    """The aggregator that takes both batches to be the same, as one Jacobian says no more."""
    return StatefulGramianAggregator(SDMGradWeighting(lr, momentum, n_iter, lambda_, pref_vector))


RECORD = MethodRecord(
    name="SDMGrad",
    make=_of_one_batch,
    make_weighting=SDMGradWeighting,
    summary="Moves the weights towards those of the shortest combination, drawn towards a "
    "preferred one, with slopes estimated without bias from two batches.",
    formula="A(J) = Jᵀ(w + λw̃)/(1 + λ), w by n steps of w ← Π(w − lr·J₁J₂ᵀ(w + λw̃)/s²) with "
    "momentum",
    paper="Xiao, Ban & Ji, Direction-oriented Multi-objective Learning: Simple and Provable "
    "Stochastic Algorithms, 2023, arXiv 2305.18409",
    non_conflicting=False,
    linear_under_scaling=False,
    weighted=True,
    permutation_invariant=True,
    stateful=True,
    statistic="product",
    parameters=(
        Parameter("lr", "number", 10.0, "Length of the steps of the weights.", 1e-3, 20.0),
        Parameter("momentum", "number", 0.5, "Share of the last step that goes on.", 0.0, 0.99),
        Parameter("n_iter", "integer", 20, "Number of steps a call.", 1, 100),
        Parameter("lambda_", "number", 0.3, "Weight of the preferred combination.", 0.0, 10.0),
        Parameter("pref_vector", "vector", None, "The preferred combination; 1/m each if empty."),
    ),
    remarks="On one Jacobian both batches are taken to be the same. Later calls go on from the "
    "weights of the earlier ones.",
)
