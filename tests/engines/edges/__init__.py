"""The cases on which engines of this kind fail, as data: run by tests, printed into the docs."""

from tests.engines.edges import autogram, jacobians, models, states
from tests.engines.edges.record import EDGES, Edge
from tests.engines.edges.table import markdown

# Importing these registers the rows.
ROWS = (autogram, models, states, jacobians)

__all__ = ["EDGES", "ROWS", "Edge", "markdown"]
