"""Trimmed mean: the average of each column without its extremes."""

from typing import Any

import torch
from torch import Tensor

from engines.aggregation.aggregators import Aggregator
from engines.aggregation.records import MethodRecord, Parameter
from engines.aggregation.validation import check_finite_rows, check_rows, whole
from engines.linalg.gramian import column_chunks


class TrimmedMean(Aggregator):
    """Average of each column after its largest and smallest entries are left out.

    A(J)ₖ is the mean of what remains of the entries J₁ₖ, …, Jₘₖ without the trim_number largest
    and the trim_number smallest. With trim_number = 0 it is `Mean`, with m = 2 trim_number + 1
    the median of each column. No weights belong to it: each column keeps other rows.

    It is computed in float64 in such a way that entries up to the largest number of their dtype
    do not overflow, and it can be differentiated: the choice of the entries counts as constant.

    Args:
        trim_number: How many entries are left out at either end of each column, at least 0.

    Raises:
        TypeError: `trim_number` is no integer.
        ValueError: It is negative; later, m is less than 2 trim_number + 1.

    Source: Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates,
        ICML 2018, Definition 2, where trim_number is the fraction β times m.
    Cost: m·n·log m comparisons; a workspace of a few times 2 MiB.

    Example:
        >>> import torch
        >>> from engines.aggregation import TrimmedMean
        >>> TrimmedMean(trim_number=1)(torch.tensor([[1., 9.], [2., 8.], [99., 7.], [4., -99.]]))
        tensor([3.0000, 7.5000])
    """

    _parameters_shown = ("trim_number",)

    def __init__(self, trim_number: int) -> None:
        super().__init__()
        self.trim_number = trim_number

    @property
    def trim_number(self) -> int:
        """How many entries are left out at either end of each column, at least 0."""
        return self._trim_number

    @trim_number.setter
    def trim_number(self, value: int) -> None:
        self._trim_number = whole("trim_number", value, 0)

    def forward(self, matrix: Tensor, /) -> Tensor:
        """Sort each column, trim, average.

        Args:
            matrix: Shape [m, n].

        Returns:
            Direction, shape [n].

        Raises:
            NonFiniteGradientError: The matrix has NaN or infinity.
            ValueError: m is less than 2 trim_number + 1.
        """
        m, n = matrix.shape
        check_rows("TrimmedMean", m, 2 * self.trim_number + 1, "2 * trim_number + 1")
        check_finite_rows(matrix)
        if n == 0:
            return matrix.sum(dim=0)
        return torch.cat([self._trimmed(chunk) for chunk in column_chunks(matrix)])

    def _trimmed(self, columns: Tensor) -> Tensor:
        """The trimmed mean of some columns, shape [m, c] to [c]."""
        kept = len(columns) - 2 * self.trim_number
        middle = columns.sort(dim=0).values.narrow(0, self.trim_number, kept).to(torch.float64)
        # Halving rounds nothing, and the sum of so small parts is in range.
        halvings = (kept - 1).bit_length()
        total = (middle * 0.5**halvings).sum(dim=0)
        return (total / (kept * 0.5**halvings)).to(columns.dtype)

    def __str__(self) -> str:
        return f"TM{self.trim_number}"


def trimmed_mean_arguments(m: int) -> dict[str, Any]:
    """One entry at either end where that leaves one.

    Args:
        m: Number of objectives.

    Returns:
        The required parameters by name.
    """
    return {"trim_number": 1 if m >= 3 else 0}


RECORD = MethodRecord(
    name="TrimmedMean",
    make=TrimmedMean,
    make_weighting=None,
    summary="Averages each column of the Jacobian without its largest and smallest entries.",
    formula="A(J)ₖ = mean of J₁ₖ, …, Jₘₖ without the b largest and the b smallest",
    paper="Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, "
    "ICML 2018, arXiv 1803.01498",
    non_conflicting=False,
    linear_under_scaling=False,
    weighted=False,
    permutation_invariant=True,
    statistic="jacobian",
    parameters=(
        Parameter("trim_number", "integer", 1, "Entries left out at either end of a column.", 0, 5),
    ),
    arguments=trimmed_mean_arguments,
    remarks="With trim_number = 0 it is Mean.",
)
