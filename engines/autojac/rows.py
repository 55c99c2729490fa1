"""The rows of a Jacobian as what is fed to autograd: outputs and their cotangents."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Which combinations of the elements of some outputs are differentiated.

    Attributes:
        outputs: Tensors with a graph.
        cotangents: One per output, shape [m, *output.shape]: row i of the Jacobian belongs to
            Σ ⟨cotangent[i], output⟩. None means the identity: one row for each element of each
            output, in order of flattening, of which only the rows asked for are ever built.
    """

    outputs: Sequence[Tensor]
    cotangents: Sequence[Tensor] | None = None

    def __len__(self) -> int:
        if self.cotangents is None:
            return sum(output.numel() for output in self.outputs)
        return len(self.cotangents[0])

    def between(self, start: int, stop: int) -> tuple[list[Tensor], list[Tensor]]:
        """Pick consecutive rows.

        Args:
            start: First row.
            stop: Row after the last.

        Returns:
            The outputs concerned, and a cotangent of shape [stop - start, *output.shape] for each,
            in the output's dtype and on its device.
        """
        if self.cotangents is not None:
            pairs = zip(self.cotangents, self.outputs, strict=True)
            return list(self.outputs), [given[start:stop].to(output) for given, output in pairs]
        outputs, cotangents = [], []
        offset = 0
        for output in self.outputs:
            first, last = max(start, offset), min(stop, offset + output.numel())
            if first < last:
                flat = torch.zeros(
                    stop - start, output.numel(), dtype=output.dtype, device=output.device
                )
                own = flat[first - start : last - start, first - offset : last - offset]
                own.diagonal().fill_(1)
                outputs.append(output)
                cotangents.append(flat.reshape(stop - start, *output.shape))
            offset += output.numel()
        return outputs, cotangents
