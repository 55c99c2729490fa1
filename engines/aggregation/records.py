"""What is known about a method, as data: menus, tables and tests are derived from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import torch

from engines.aggregation.aggregators import Aggregator
from engines.aggregation.weightings import Weighting

# The properties of a method, each with what a yes means. J is any finite Jacobian of m rows, A(J)
# the direction; a method with memory is asked right after `reset`, a random one twice from the
# same state of its generator.
PROPERTIES: Mapping[str, str] = MappingProxyType(
    {
        "non_conflicting": "J A(J) ≥ 0: no objective gets worse to first order",
        "linear_under_scaling": "c ↦ A(diag(c) J) is linear for c > 0: each objective counts in "
        "proportion to its scale",
        "weighted": "A(J) = Jᵀw for some weights w",
        "permutation_invariant": "A(PJ) = A(J): the order of the objectives does not matter",
        "stateful": "the result depends on earlier calls, until `reset`",
        "random": "two calls on the same Jacobian may differ",
    }
)

# What a method has to be given: the Gramian J Jᵀ is enough, the Jacobian J itself is needed, or
# the product J₁ J₂ᵀ of the Jacobians of two independent batches.
Statistic = Literal["gramian", "jacobian", "product"]
ParameterKind = Literal["number", "integer", "choice", "vector"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method that a person may want to change.

    Attributes:
        name: Its name in the constructor.
        kind: "number", "integer", "choice" (one of `choices`), or "vector" (one number for each
            objective, shape [m]).
        default: Its value to begin with; None for a vector that may be left out.
        text: What it does, one sentence.
        low: The least value of a number, or of a vector's entries.
        high: The greatest value that a control offers; the method itself may take more.
        choices: The values of a choice.
    """

    name: str
    kind: ParameterKind
    default: float | int | str | None
    text: str
    low: float = 0.0
    high: float = 1.0
    choices: tuple[str, ...] = ()


def no_arguments(m: int) -> dict[str, Any]:
    """What a method without required parameters needs for `m` objectives: nothing."""
    return {}


@dataclass(frozen=True)
class MethodRecord:
    """One method.

    Attributes:
        name: Its name, also its key in `METHODS`.
        make: Makes the aggregator, which maps a Jacobian [m, n] to a direction [n].
        make_weighting: Makes the weighting, same parameters as `make`; None where the direction
            is no combination of gradients that can be found before the direction.
        summary: What it does, one sentence.
        formula: Its definition in plain Unicode.
        paper: Where it was defined.
        non_conflicting: See `PROPERTIES`, as the next five.
        linear_under_scaling: Whether each objective counts in proportion to its scale.
        weighted: Whether the direction is a combination of gradients.
        permutation_invariant: Whether the order of the objectives is without effect.
        stateful: Whether it has memory.
        random: Whether it draws random numbers.
        statistic: What the weighting is given, or the aggregator where there is no weighting.
        parameters: What a person may change, in the constructor's order.
        arguments: The required parameters, and examples of them, for m objectives; the properties
            hold for these and the defaults.
        least_objectives: Fewer rows raise.
        remarks: When a property depends on a parameter, or what to know before comparing.
    """

    name: str
    make: Callable[..., Aggregator]
    make_weighting: Callable[..., Weighting] | None
    summary: str
    formula: str
    paper: str
    non_conflicting: bool
    linear_under_scaling: bool
    weighted: bool
    permutation_invariant: bool
    stateful: bool = False
    random: bool = False
    statistic: Statistic = "gramian"
    parameters: Sequence[Parameter] = ()
    arguments: Callable[[int], dict[str, Any]] = field(default=no_arguments)
    least_objectives: int = 1
    remarks: str = ""

    @property
    def properties(self) -> dict[str, bool]:
        """The answer for each of `PROPERTIES`."""
        return {name: getattr(self, name) for name in PROPERTIES}

    def aggregator(
        self, m: int, *, generator: torch.Generator | None = None, **parameters: Any
    ) -> Aggregator:
        """Make the aggregator for a number of objectives.

        Args:
            m: Number of objectives.
            generator: For a random method; ignored by the others.
            **parameters: Instead of the defaults and of `arguments(m)`.

        Returns:
            A new aggregator.
        """
        return self.make(**self._options(m, generator, parameters))

    def weighting(
        self, m: int, *, generator: torch.Generator | None = None, **parameters: Any
    ) -> Weighting:
        """Make the weighting for a number of objectives.

        Args:
            m: Number of objectives.
            generator: For a random method; ignored by the others.
            **parameters: Instead of the defaults and of `arguments(m)`.

        Returns:
            A new weighting.

        Raises:
            ValueError: The method has none.
        """
        if self.make_weighting is None:
            raise ValueError(
                f"got {self.name}, expected a method with a weighting, use its aggregator on the "
                "Jacobian."
            )
        return self.make_weighting(**self._options(m, generator, parameters))

    def _options(
        self, m: int, generator: torch.Generator | None, parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        own = {"generator": generator} if self.random and generator is not None else {}
        return {**self.arguments(m), **parameters, **own}
