"""The ways to contract a group of parameters, and what they are predicted to cost."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Counts:
    """How many objectives a contraction serves, and how long its operands are.

    Attributes:
        losses: k, objectives per sample.
        samples: b.
        itemsize: Bytes of an element of the Gramian.
        positions: t of every node, rows of one sample along the dimension that has them.
    """

    losses: int
    samples: int
    itemsize: int
    positions: tuple[int, ...]

    @property
    def objectives(self) -> int:
        """Number of objectives m = k·b."""
        return self.losses * self.samples


@dataclass(frozen=True)
class Option:
    """One way to contract the parameters of a group, and what it is predicted to cost.

    Attributes:
        contraction: Its name. "rows" builds the gradients of all objectives at once.
        multiply_adds: Of the Gramian's share.
        moved_bytes: Read and written beside the operands of products.
        calls: Operations of torch.
        workspace_bytes: The least it needs beside its operands, rows that are kept included.
        rows_bytes: Size of the rows if the weighted gradient is made of them; 0 if of X and D.
        gradient_multiply_adds: Of the weighted gradient.
        gradient_moved_bytes: Read and written for it.
        throughput: Share of the product rate that its products reach.
    """

    contraction: str
    multiply_adds: int
    moved_bytes: int
    calls: int
    workspace_bytes: int
    rows_bytes: int
    gradient_multiply_adds: int
    gradient_moved_bytes: int
    throughput: float = 1.0

    @property
    def kept_rows(self) -> bool:
        """Whether the weighted gradient is made of rows."""
        return self.rows_bytes > 0

    def plus(self, other: "Option") -> "Option":
        """Join with what the same nodes cost for another parameter.

        Args:
            other: Its price.

        Returns:
            The price of both, under this name.
        """
        return replace(
            self,
            multiply_adds=self.multiply_adds + other.multiply_adds,
            moved_bytes=self.moved_bytes + other.moved_bytes,
            calls=self.calls + other.calls,
            workspace_bytes=max(
                self.workspace_bytes + (other.rows_bytes if self.kept_rows else 0),
                other.workspace_bytes + self.rows_bytes,
            ),
            rows_bytes=self.rows_bytes + other.rows_bytes if self.kept_rows else 0,
            gradient_multiply_adds=self.gradient_multiply_adds + other.gradient_multiply_adds,
            gradient_moved_bytes=self.gradient_moved_bytes + other.gradient_moved_bytes,
        )


def rows_option(counts: Counts, entries: int, building: int, passing: int = 0) -> Option:
    """Price of building the gradients row by row and multiplying them.

    Args:
        counts: Samples and objectives.
        entries: Of the parameter.
        building: Entries of D and X that the gradients of all objectives read.
        passing: Entries of what is made on the way and freed again.

    Returns:
        The price.
    """
    m, size = counts.objectives, counts.itemsize
    return Option(
        contraction="rows",
        multiply_adds=m * m * entries,
        moved_bytes=size * (building + 2 * m * entries),
        calls=4,
        workspace_bytes=size * (m * entries + passing),
        rows_bytes=max(1, size * m * entries),
        gradient_multiply_adds=m * entries,
        gradient_moved_bytes=size * m * entries,
    )
