"""The preference vector: how much each objective counts."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.aggregation.validation import check_length, vector

Array = NDArray[np.float64]


class Preferences(nn.Module):
    """A module with a preference vector.

    Raises:
        TypeError: Later, when `pref_vector` is set to no tensor of real numbers.
        ValueError: Later, when it is set to what has not one dimension or is not finite.
    """

    @property
    def pref_vector(self) -> Tensor | None:
        """Preferences of the objectives, shape [m], or None for equal ones."""
        return self._pref_vector

    @pref_vector.setter
    def pref_vector(self, value: Tensor | None) -> None:
        self._pref_vector = None if value is None else vector("pref_vector", value)

    def preferences(self, m: int, equal: float) -> Array:
        """The preferences of m objectives.

        Args:
            m: Number of objectives.
            equal: The preference of each where no vector was given.

        Returns:
            Shape [m].

        Raises:
            ValueError: `pref_vector` has another length.
        """
        if self.pref_vector is None:
            return np.full(m, equal)
        check_length("pref_vector", self.pref_vector, m)
        return self.pref_vector.detach().to(device="cpu", dtype=torch.float64).numpy()
