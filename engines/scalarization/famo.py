"""FAMO: weights that let all losses fall at the same rate, from the losses alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softmax

from engines.aggregation.validation import non_negative
from engines.scalarization.parameters import Checked
from engines.scalarization.records import ScalarizerRecord
from engines.scalarization.scalarizer import Scalarizer
from engines.scalarization.validation import (
    check_shape,
    check_values,
    entries,
    moved,
    positions,
    shape_of,
    working,
)
from engines.stateful import Stateful

# Adam's own constants, at the values that Kingma & Ba propose and torch has as defaults.
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


class FAMO(Stateful, Scalarizer):
    """Fast adaptive multitask optimization: c Σᵢ zᵢ log(Lᵢ - bᵢ), z = softmax(ξ).

    c = 1 / Σᵢ zᵢ/(Lᵢ - bᵢ) counts as a constant, and so does z: the gradient is a convex
    combination of those of the losses. After the model's step, `update` gets the losses of the
    same batch again and moves the logits ξ by one step of Adam, so that a loss whose logarithm
    fell less counts more. No optimizer is to be made for the logits: they are a buffer.

    The logarithm needs losses above their lower bound, so others raise. The authors' code adds
    1e-8 to each difference, which lets a loss reach its bound: pass `min_losses` lower by 1e-8 for
    that. It also clips the gradient of shared parameters to norm 1, which is left to the caller.

    Args:
        shape: Shape of the losses; an integer m is the shape (m,).
        min_losses: Lower bounds b of the losses, in their shape, or None for 0.
        lr: Learning rate of the logits, at least 0.
        weight_decay: Pulls the logits towards 0, at least 0. The paper has 0.001.

    Attributes:
        logits: ξ, in the shape of the losses; moves with `.to()`.

    Raises:
        TypeError: A parameter has the wrong type.
        ValueError: A parameter is out of range; later, when the losses have another shape, or one
            is not above its bound.

    Source: Liu et al., arXiv 2306.03792, Algorithm 1; Adam: arXiv 1412.6980, Algorithm 1.
    Cost: m logarithms and one more forward pass of the model for `update`; keeps 5m numbers.

    Example:
        >>> import torch
        >>> from engines.scalarization import FAMO
        >>> x, model = torch.ones(8, 3), torch.nn.Linear(3, 2)
        >>> scalarizer = FAMO(2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        >>> scalarizer(model(x).square().mean(dim=0)).backward()
        >>> optimizer.step()
        >>> with torch.no_grad():
        ...     scalarizer.update(model(x).square().mean(dim=0))
    """

    _parameters_shown = ("shape", "min_losses", "lr", "weight_decay")
    _state_names = ("_first_moment", "_second_moment", "_n_updates", "_before")

    lr = Checked(non_negative, "Learning rate of the logits, at least 0.")
    weight_decay = Checked(non_negative, "Pulls the logits towards 0, at least 0.")

    logits: Tensor
    _min_losses: Tensor
    # On the CPU in float64 whatever the logits are: squares of small gradients vanish in half
    # precision. Never changed in place, since a state_dict() hands out these very tensors.
    _first_moment: Tensor | None
    _second_moment: Tensor | None
    _n_updates: int
    _before: Tensor | None

    def __init__(
        self,
        shape: int | Sequence[int],
        min_losses: Tensor | None = None,
        lr: float = 0.025,
        weight_decay: float = 0.001,
    ) -> None:
        super().__init__()
        self.register_buffer("logits", torch.zeros(shape_of(shape)))
        self.register_buffer("_min_losses", None)
        self.min_losses = min_losses
        self.lr = lr
        self.weight_decay = weight_decay
        self.reset()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the losses."""
        return tuple(self.logits.shape)

    @property
    def min_losses(self) -> Tensor:
        """Lower bounds of the losses, in their shape; None may be set for zeros."""
        return self._min_losses

    @min_losses.setter
    def min_losses(self, value: Tensor | None) -> None:
        if value is None:
            self._min_losses = torch.zeros_like(self.logits)
            return
        bounds = entries("min_losses", value).detach()
        if tuple(bounds.shape) != self.shape:
            raise ValueError(
                f"got min_losses of shape {list(bounds.shape)} for losses of shape "
                f"{list(self.shape)}, expected the same shape, pass one bound per loss."
            )
        self._min_losses = bounds if bounds.is_floating_point() else bounds.to(self.logits.dtype)

    def forward(self, values: Tensor, /) -> Tensor:
        """Combine the losses, and remember them for `update`.

        Args:
            values: In the shape of the logits, each above its bound.

        Returns:
            Scalar.

        Raises:
            ValueError: Another shape, or a loss not above its bound.
        """
        logs = self._log_distances(values)
        log_z = log_softmax(moved(self.logits, logs).flatten(), dim=0).reshape(values.shape)
        log_c = -torch.logsumexp((log_z - logs.detach()).flatten(), dim=0)
        self._before = logs.detach().cpu().double()
        return ((log_z + log_c).exp() * logs).sum().to(values.dtype)

    @torch.no_grad()
    def update(self, values: Tensor, /) -> None:
        """Move the logits by how much each loss fell since the last call.

        Args:
            values: The losses of the same batch after the model's step, in the shape of the
                logits.

        Raises:
            TypeError: No real floating-point tensor.
            ValueError: Not called before; NaN or infinite losses, another shape, or a loss not
                above its bound. Nothing has changed then.
        """
        if self._before is None:
            raise ValueError(
                "got an update before the first call, expected losses to compare with, call the "
                "scalarizer on the losses of this batch before the model's step."
            )
        check_values(values)
        fall = self._before - self._log_distances(values).cpu().double()
        logits = self.logits.cpu().double()
        z = softmax(logits.flatten(), dim=0).reshape(self.shape)
        # The product of the Jacobian of softmax, diag(z) - zzᵀ, with the fall.
        gradient = z * (fall - (z * fall).sum()) + self.weight_decay * logits
        self.logits = moved(logits - self.lr * self._adam(gradient), self.logits)

    def reset(self) -> None:
        """Weigh all losses alike again, and forget them and what Adam remembers."""
        self.logits = torch.zeros_like(self.logits)
        self._first_moment = self._second_moment = self._before = None
        self._n_updates = 0

    def _log_distances(self, values: Tensor) -> Tensor:
        """Logarithms of how far the losses are above their bounds."""
        check_shape("logits", self.shape, values)
        wide = working(values)
        distances = wide - moved(self.min_losses, wide)
        low = positions(distances.detach() <= 0)
        if low:
            raise ValueError(
                f"got losses not above their min_losses at flat positions {low}, expected all to "
                "be, pass lower min_losses."
            )
        return distances.log()

    def _adam(self, gradient: Tensor) -> Tensor:
        """Adam's step for a learning rate of 1; remembers the gradient."""
        first = torch.zeros_like(gradient) if self._first_moment is None else self._first_moment
        second = torch.zeros_like(gradient) if self._second_moment is None else self._second_moment
        self._first_moment = first + (1 - _BETA_1) * (gradient - first)
        self._second_moment = second + (1 - _BETA_2) * (gradient.square() - second)
        self._n_updates += 1
        mean = self._first_moment / (1 - _BETA_1**self._n_updates)
        spread = (self._second_moment / (1 - _BETA_2**self._n_updates)).sqrt()
        return mean / (spread + _EPSILON)


def _arguments(m: int) -> dict[str, Any]:
    """A vector of losses."""
    return {"shape": m}


RECORD = ScalarizerRecord(
    name="FAMO",
    make=FAMO,
    summary="Lets all losses fall at the same relative rate, from the losses alone.",
    formula="c Σᵢ zᵢ log(Lᵢ − bᵢ), z = softmax(ξ), c = 1 / Σᵢ zᵢ/(Lᵢ − bᵢ)",
    paper="Liu et al., FAMO: Fast Adaptive Multitask Optimization, 2023, arXiv 2306.03792",
    stateful=True,
    arguments=_arguments,
    remarks="Call `update(losses)` with the losses of the same batch after the model's step. "
    "Losses must be above `min_losses`.",
)
