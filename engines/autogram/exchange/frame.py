"""What a rank of an exchange knows of its shipments: whose turn it is, and what shape all has."""

import torch
from torch import Tensor

from engines.autogram.exchange.loads import Load, by_row
from engines.autogram.exchange.routes import Hop, Routes
from engines.autogram.rules import cut_of


class Frame:
    """Shapes and places of one step, on a rank that has objectives.

    Args:
        routes: What travels.
        like: A tensor in the dtype and on the device of the sums.

    Attributes:
        routes: What travels.
        like: That tensor.
        count: How many ranks have objectives.
        place: Which of them this one is.
        peers: Places and ranks of the others.
    """

    def __init__(self, routes: Routes, like: Tensor) -> None:
        self.routes = routes
        self.like = like
        workers = routes.workers
        self.count = len(workers)
        self.place = workers.index(routes.rank)
        self.peers = [(place, rank) for place, rank in enumerate(workers) if rank != routes.rank]

    def of(self, loads: dict[int, Load], travels: str) -> list[int]:
        """Find the groups of a shipment that travel in one way.

        Args:
            loads: The shipment.
            travels: The way.

        Returns:
            Their numbers.
        """
        return [number for number in loads if self.routes.routes[number].travels == travels]

    def sides(self, number: int, load: Load) -> list[tuple[Tensor, bool, int]]:
        """List this rank's inputs and output gradients of every node.

        Args:
            number: Of the group.
            load: What there is of it.

        Returns:
            The tensors, whether they are cut, and along which dimension.
        """
        routes = self.routes
        found = []
        shape = routes.shapes[number]
        spans = shape.spans[shape.axes.index(routes.routes[number].axis)]
        for node, (inputs_span, outputs_span) in enumerate(spans):
            inputs, outputs = self.factors(number, node, load)
            found += [(inputs, inputs_span, 2), (outputs, outputs_span, 3)]
        return found

    def factors(self, number: int, node: int, load: Load) -> tuple[Tensor, Tensor]:
        """Bring this rank's factors of a node into the form in which they travel.

        Args:
            number: Of the group.
            node: Which of its nodes.
            load: What there is of the group.

        Returns:
            Inputs and output gradients, zeros where there are none.
        """
        if not load.shares:
            return self.zeros(number, node)
        rows = by_row(load.factors[node], self.routes.extent(number, node, self.routes.rank))
        return rows.inputs, rows.outputs

    def zeros(self, number: int, node: int) -> tuple[Tensor, Tensor]:
        """Make factors of a node whose output gradient is zero, or never came.

        Args:
            number: Of the group.
            node: Which of its nodes.

        Returns:
            Inputs and output gradients of this rank's samples.
        """
        routes = self.routes
        b, k = routes.samples[routes.rank], routes.losses[routes.rank]
        extent = routes.extent(number, node, routes.rank)
        inputs = self.like.new_zeros(b, extent.positions, *extent.inputs)
        outputs = self.like.new_zeros(k, b, extent.positions, *extent.outputs)
        return (inputs.long() if not extent.inputs else inputs), outputs

    def shapes(self, number: int, rank: int) -> list[tuple[torch.Size, bool, int]]:
        """List shapes of the same as another rank sends them here.

        Args:
            number: Of the group.
            rank: The other rank.

        Returns:
            Shapes, whether they are cut, and along which dimension.
        """
        routes = self.routes
        shape = routes.shapes[number]
        spans = shape.spans[shape.axes.index(routes.routes[number].axis)]
        b, k = routes.samples[rank], routes.losses[rank]
        found = []
        for node, (inputs_span, outputs_span) in enumerate(spans):
            extent = routes.extent(number, node, rank)
            inputs = [b, extent.positions, *extent.inputs]
            outputs = [k, b, extent.positions, *extent.outputs]
            for sizes, is_cut, dim in ((inputs, inputs_span, 2), (outputs, outputs_span, 3)):
                if is_cut:
                    sizes[dim] = start_and_size(sizes[dim], self.place, self.count)[1]
                found.append((torch.Size(sizes), is_cut, dim))
        return found

    def ring_shapes(self, group: int, hop: Hop) -> list[tuple[torch.Size, torch.Size]]:
        """List shapes of what arrives in a step of the ring.

        Args:
            group: Number of the group.
            hop: The step.

        Returns:
            Shapes of inputs and output gradients of every node.
        """
        routes = self.routes
        b, k = routes.samples[hop.of], routes.losses[hop.of]
        b = b // 2 if hop.gets_half else b
        found = []
        for node in range(len(routes.shapes[group].extents)):
            extent = routes.extent(group, node, hop.of)
            found.append(
                (
                    torch.Size((b, extent.positions, *extent.inputs)),
                    torch.Size((k, b, extent.positions, *extent.outputs)),
                )
            )
        return found


def start_and_size(size: int, place: int, count: int) -> tuple[int, int]:
    """Tell where a rank's piece of a range begins, and how long it is.

    Args:
        size: Of the range.
        place: Of the rank.
        count: Of all ranks.

    Returns:
        Both.
    """
    piece = cut_of(size, place, count)
    return piece.start, piece.stop - piece.start
