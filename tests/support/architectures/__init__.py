"""Architectures as data: the engines are compared with plain autograd on each of them."""

from tests.support.architectures.graphs import GRAPHS
from tests.support.architectures.record import Architecture
from tests.support.architectures.recurrent import RECURRENT
from tests.support.architectures.sequence import SEQUENCES
from tests.support.architectures.vision import VISION

ARCHITECTURES = [*VISION, *SEQUENCES, *RECURRENT, *GRAPHS]

__all__ = ["ARCHITECTURES", "Architecture"]
