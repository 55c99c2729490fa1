"""One row of the table of edge cases."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

# A row gives Gramians or Jacobians with what plain autograd says they are.
Pairs = Iterable[tuple[Tensor, Tensor]]
Run = Callable[[torch.dtype], Pairs]


@dataclass(frozen=True)
class Edge:
    """A case and what must come of it.

    Attributes:
        engine: "autogram" or "autojac".
        case: What the user does.
        run: Gives pairs of found and expected in a dtype; calls what is refused and lets it raise.
        refused: The exception it must end in, None if the result is exact.
        says: What the exception's message must contain.
        why: Why it is refused, in words.
        dtypes: In which the row runs.
        note: What else holds, in words.
    """

    engine: str
    case: str
    run: Run
    refused: type[Exception] | None = None
    says: str = ""
    why: str = ""
    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32)
    note: str = ""

    @property
    def id(self) -> str:
        """Name of the function that runs the row."""
        return self.run.__name__


EDGES: dict[str, Edge] = {}


def exact(
    engine: str, case: str, *, note: str = "", dtypes: tuple[torch.dtype, ...] | None = None
) -> Callable[[Run], Run]:
    """Register a row whose result must equal plain autograd's."""

    def add(run: Run) -> Run:
        chosen = (torch.float64, torch.float32) if dtypes is None else dtypes
        return _register(Edge(engine, case, run, dtypes=chosen, note=note))

    return add


def refused(
    engine: str, case: str, error: type[Exception], *, says: str, why: str
) -> Callable[[Run], Run]:
    """Register a row that must end in an exception."""

    def add(run: Run) -> Run:
        return _register(Edge(engine, case, run, error, says, why))

    return add


def _register(edge: Edge) -> Run:
    if edge.id in EDGES:
        raise ValueError(f"got a second row {edge.id!r}, expected one; give it another name.")
    EDGES[edge.id] = edge
    return edge.run
