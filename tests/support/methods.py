"""Methods made for a test: for the number of rows at hand, and random ones from one seed."""

from typing import Any

import torch
from torch import Tensor

from engines.aggregation import METHODS, Aggregator, MethodRecord, Weighting

RECORDS = tuple(METHODS.values())
# Those whose direction does not grow in proportion with the Jacobian: FairGrad by its definition,
# NashMTL by its limit on the norm, the others by steps or constants of a fixed size.
NOT_HOMOGENEOUS = frozenset({"ExcessMTL", "FairGrad", "MoDo", "NashMTL", "PCD"})
# Those whose weights do not come out of a solver.
DIFFERENTIABLE = frozenset({"Constant", "Krum", "Mean", "Random", "Sum", "TrimmedMean"})
# Those that refuse a Jacobian without rows.
NEEDS_A_ROW = frozenset({"Krum", "NashMTL", "TrimmedMean"})


def named(value: object) -> str | None:
    """A test id: the name of a record or of a sampled matrix."""
    return getattr(value, "name", None)


def seeded() -> torch.Generator:
    """The generator that random methods get, always in the same state."""
    return torch.Generator().manual_seed(0)


def aggregator(record: MethodRecord, m: int, **parameters: Any) -> Aggregator:
    """A new aggregator for m objectives, right after reset."""
    return record.aggregator(m, generator=seeded(), **parameters)


def weighting(record: MethodRecord, m: int, **parameters: Any) -> Weighting:
    """A new weighting for m objectives, right after reset."""
    return record.weighting(m, generator=seeded(), **parameters)


def aggregate(record: MethodRecord, matrix: Tensor, **parameters: Any) -> Tensor:
    """A(J) of a new aggregator."""
    return aggregator(record, len(matrix), **parameters)(matrix)


def statistic(record: MethodRecord, matrix: Tensor) -> Tensor:
    """What the method's weighting is given for a Jacobian."""
    return matrix if record.statistic == "jacobian" else matrix @ matrix.T
