"""What is known about a way to combine losses, as data: tables and tests are derived from it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from engines.aggregation.records import no_arguments
from engines.scalarization.scalarizer import Scalarizer


@dataclass(frozen=True)
class ScalarizerRecord:
    """One way to combine losses.

    Attributes:
        name: Its name, also its key in `SCALARIZERS`.
        make: Makes it.
        summary: What it does, one sentence.
        formula: Its definition in plain Unicode, for losses L₁, …, Lₘ.
        paper: Where it was defined.
        stateful: Whether it has memory or parameters that `reset` takes back.
        random: Whether it draws random numbers.
        learned: Whether it has parameters to give to the optimizer.
        arguments: The required parameters, and examples of them, for m losses.
        remarks: What to know before using it.
    """

    name: str
    make: Callable[..., Scalarizer]
    summary: str
    formula: str
    paper: str
    stateful: bool = False
    random: bool = False
    learned: bool = False
    arguments: Callable[[int], dict[str, Any]] = field(default=no_arguments)
    remarks: str = ""

    @property
    def state(self) -> str:
        """What the result depends on besides the losses and the constructor's parameters."""
        if self.learned:
            return "parameters, learned with the model"
        if self.stateful:
            return "earlier losses"
        return "random numbers" if self.random else "nothing"

    def scalarizer(
        self, m: int, *, generator: torch.Generator | None = None, **parameters: Any
    ) -> Scalarizer:
        """Make it for a number of losses.

        Args:
            m: Number of losses.
            generator: For a random method; ignored by the others.
            **parameters: Instead of the defaults and of `arguments(m)`.

        Returns:
            A new scalarizer, for losses of shape [m].
        """
        own = {"generator": generator} if self.random and generator is not None else {}
        return self.make(**{**self.arguments(m), **parameters, **own})
