"""The one keyword of every random method: where its random numbers come from."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class Randomness(nn.Module):
    """A module that draws random numbers, from its own generator or from torch's global one.

    Raises:
        TypeError: Later, when `generator` is set to something else.
    """

    @property
    def generator(self) -> torch.Generator | None:
        """Source of the random numbers; None for torch's global one of the CPU."""
        return self._generator

    @generator.setter
    def generator(self, value: torch.Generator | None) -> None:
        if value is not None and not isinstance(value, torch.Generator):
            raise TypeError(
                f"got generator of {type(value).__name__}, expected a torch.Generator or None, "
                "pass torch.Generator().manual_seed(seed)."
            )
        self._generator = value

    def random_device(self) -> torch.device:
        """Where `generator` draws its numbers."""
        return torch.device("cpu") if self.generator is None else self.generator.device

    def orders(self, m: int) -> NDArray[np.int64]:
        """For each of m objectives a random order of all of them.

        Args:
            m: Number of objectives.

        Returns:
            One order per row, shape [m, m].
        """
        device = self.random_device()
        drawn = [torch.randperm(m, generator=self.generator, device=device) for _ in range(m)]
        if m == 0:
            return np.zeros((0, 0), dtype=np.int64)
        return np.asarray(torch.stack(drawn).cpu().numpy())

    def shown_generator(self) -> tuple[str, ...]:
        """What a printed form adds: ``("generator",)`` if one was given, else nothing."""
        return () if self.generator is None else ("generator",)
