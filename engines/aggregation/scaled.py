"""What a weighting has that can be told by how much the Jacobian was scaled."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class TakesScaledGramian(Protocol):
    """A weighting that knows of Jacobians whose Gramian is no float64 as it is.

    Attributes:
        gramian_exponent: 0, or e while the weights of a Jacobian J are computed from the Gramian
            of 2ᵉ J. What wraps another weighting passes it on.
    """

    gramian_exponent: int
