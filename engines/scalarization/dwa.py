"""DWA: losses that fell less from one epoch to the next count more."""

import torch
from torch import Tensor
from torch.nn.functional import softmax

from engines.aggregation.validation import positive
from engines.scalarization.parameters import Checked
from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.validation import moved, working
from engines.stateful import Stateful


class DWA(Stateful, Scalarizer):
    """Dynamic weight average: Σᵢ wᵢLᵢ, w = m softmax(r/T), rᵢ = L̄ᵢ(e-1) / L̄ᵢ(e-2).

    L̄ᵢ(e) is the average of a loss over the calls in epoch e, so rᵢ is small where the loss fell
    much. Call `step()` at the end of each epoch. Before two epochs have ended all weights are 1.
    Every call counts towards the average, so do not use it on validation losses.

    The paper expects averages above 0. An older average of 0 is the limit of ever smaller ones: a
    loss that rose from 0 gets all the weight, shared with others that did; one that stayed 0
    has ratio 1.

    Args:
        temperature: T, above 0; the higher, the more equal the weights.

    Raises:
        TypeError: `temperature` is no number.
        ValueError: It is not above 0; later, when the losses have another shape than before
            without `reset()` in between.

    Source: Liu, Johns & Davison, arXiv 1803.10704, equation 7.
    Cost: m multiply-adds; keeps 3m numbers.

    Example:
        >>> import torch
        >>> from engines.scalarization import DWA
        >>> scalarizer = DWA()
        >>> for losses in torch.tensor([[4., 1.], [2., 1.]]):  # two epochs of one batch each
        ...     loss = scalarizer(losses)
        ...     scalarizer.step()
        >>> losses = torch.tensor([2., 1.], requires_grad=True)
        >>> scalarizer(losses).backward()
        >>> losses.grad
        tensor([0.8756, 1.1244])
    """

    _parameters_shown = ("temperature",)
    _state_names = ("_total", "_n_calls", "_newer", "_older")

    temperature = Checked(positive, "The higher, the more equal the weights; above 0.")

    # On the CPU in float64, so that a checkpoint fits any device and long epochs add up exactly.
    _total: Tensor | None
    _n_calls: int
    _newer: Tensor | None
    _older: Tensor | None

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.reset()

    def forward(self, values: Tensor, /) -> Tensor:
        """Add up with the weights of this epoch, and remember the losses for later ones.

        Args:
            values: Any shape, the same until `reset()`.

        Returns:
            Scalar.

        Raises:
            ValueError: Another shape than before.
        """
        for kept in (self._total, self._newer):
            if kept is not None and kept.shape != values.shape:
                raise ValueError(
                    f"got losses of shape {list(values.shape)} after {list(kept.shape)}, expected "
                    "the same shape at every call, call reset() first."
                )
        wide = working(values)
        combined = (moved(self._weights(values), wide) * wide).sum().to(values.dtype)
        losses = values.detach().cpu().double()
        self._total = losses if self._total is None else self._total + losses
        self._n_calls += 1
        return combined

    def step(self) -> None:
        """End an epoch; without a call since the last time nothing happens."""
        if self._total is None:
            return
        self._older, self._newer = self._newer, self._total / self._n_calls
        self._total = None
        self._n_calls = 0

    def reset(self) -> None:
        """Forget all epochs."""
        self._total = self._newer = self._older = None
        self._n_calls = 0

    def _weights(self, values: Tensor) -> Tensor:
        """Weights of this epoch, in the shape of the losses."""
        if self._newer is None or self._older is None:
            return torch.ones(values.shape, dtype=torch.float64, device="cpu")
        older = self._older + 0.0  # without the sign of -0
        unchanged = (older == 0) & (self._newer == 0)
        ratios = torch.where(unchanged, 1.0, self._newer / older)
        # Infinite ones are made finite, so that equal ones share the weight instead of giving NaN.
        exponents = torch.nan_to_num(ratios / self.temperature)
        return values.numel() * softmax(exponents.flatten(), dim=0).reshape(values.shape)


RECORD = ScalarizerRecord(
    name="DWA",
    make=DWA,
    summary="Gives more weight to losses that fell less from one epoch to the next.",
    formula="Σᵢ wᵢLᵢ, w = m softmax(r/T), rᵢ = L̄ᵢ(e−1) / L̄ᵢ(e−2)",
    paper="Liu, Johns & Davison, End-to-End Multi-Task Learning with Attention, 2019, "
    "arXiv 1803.10704",
    stateful=True,
    remarks="Call `step()` at the end of each epoch.",
)
