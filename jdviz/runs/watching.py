"""Records what passes through an engine, or looks at a training that has none."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from engines.autogram import Engine
from jdviz.runs.grouped import Ranks, exchanged
from jdviz.runs.logged import Losses


class Log(Protocol):
    """Takes what was seen of the next step."""

    def __call__(
        self,
        losses: Tensor,
        *,
        gramian: Tensor | Mapping[str, Tensor],
        weights: Tensor | None,
        scalars: Mapping[str, float],
    ) -> int:
        """Record a step; returns its number."""


class EngineWatch:
    """Records every step that an engine takes, until it is removed.

    In the two-pass form the weights come after the Gramian, from the weighting itself.

    Args:
        engine: What is watched.
        weighting: The module that makes the weights of the two-pass form, or None.
        layers_every: Every so many steps the Gramian is split over the modules; None for never.
        log: Takes a step.
        add_weights: Takes the weights of the step with this number.
    """

    def __init__(
        self,
        engine: Engine,
        weighting: nn.Module | None,
        layers_every: int | None,
        log: Log,
        add_weights: Callable[[int, Tensor], None],
    ) -> None:
        # Weak, or what an engine tells it would keep the engine and its model alive.
        self._engine = weakref.ref(engine)
        self._layers_every = layers_every
        self._log = log
        self._add_weights = add_weights
        self._calls = 0
        # The step that has no weights yet, and its losses' shape.
        self._waiting: tuple[int, torch.Size] | None = None
        self._handles = [engine.observe(self._see, by_module=self._wants_layers)]
        if weighting is not None:
            self._handles.append(weighting.register_forward_hook(_WeightsHook(self)))

    @property
    def active(self) -> bool:
        """Whether it has not been removed."""
        return bool(self._handles)

    def remove(self) -> None:
        """End it; a second time does nothing."""
        while self._handles:
            handle: RemovableHandle = self._handles.pop()
            handle.remove()

    def _wants_layers(self) -> bool:
        self._calls += 1
        return self._layers_every is not None and (self._calls - 1) % self._layers_every == 0

    def _see(
        self,
        losses: Tensor,
        gramian: Tensor,
        weights: Tensor | None,
        shares: Mapping[str, Tensor] | None,
    ) -> None:
        engine = self._engine()
        step = self._log(
            losses,
            gramian=gramian if shares is None else shares,
            weights=weights,
            scalars={} if engine is None else exchanged(engine),
        )
        self._waiting = (step, losses.shape) if weights is None else None

    def see_weights(self, weights: object) -> None:
        """Take what the weighting returned, if a step waits for it.

        Args:
            weights: What it returned.
        """
        if self._waiting is None or not isinstance(weights, Tensor):
            return
        step, shape = self._waiting
        if weights.shape == shape:
            self._waiting = None
            self._add_weights(step, weights)


class _WeightsHook:
    """A forward hook that copies of the weighting do not have: they are not what is watched."""

    def __init__(self, watch: EngineWatch) -> None:
        self._watch = watch

    def __call__(self, module: nn.Module, arguments: object, weights: object) -> None:
        self._watch.see_weights(weights)

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _hook_of_copies, ()


def _hook_of_copies() -> Callable[..., None]:
    return _no_hook


def _no_hook(module: nn.Module, arguments: object, weights: object) -> None:
    """Nothing is seen."""


class GradientWatch:
    """Looks at the gradients of a training without Jacobian descent, and changes nothing.

    Args:
        modules: Whose parameters the gradients are taken with respect to.
        batch_dim: Dimension of the losses that indexes samples, or None.
        ranks: The processes that look together.

    Raises:
        TypeError: As `Engine`.
        ValueError: As `Engine`.
    """

    def __init__(self, modules: Sequence[nn.Module], batch_dim: int | None, ranks: Ranks) -> None:
        self._engine = Engine(*modules, batch_dim=batch_dim, process_group=ranks.group)
        self._alone = ranks.size == 1
        self._of = (tuple(map(id, modules)), batch_dim)
        self._looked = False
        self.calls = 0

    def is_of(self, modules: Sequence[nn.Module], batch_dim: int | None) -> bool:
        """Whether it looks at these.

        Args:
            modules: Modules.
            batch_dim: Dimension of the losses that indexes samples, or None.

        Returns:
            Whether both are those that it was made with.
        """
        return self._of == (tuple(map(id, modules)), batch_dim)

    def look(self, losses: Losses, *, layers: bool) -> Tensor | dict[str, Tensor] | str:
        """Compute the Gramian; the graph stays usable and no `.grad` is written.

        Args:
            losses: With their graph.
            layers: Whether it is split over the modules.

        Returns:
            The Gramian, or its shares; a sentence that says why there is none, where an earlier
            look went well, or memory did not suffice, and no other rank takes part.

        Raises:
            TypeError: The losses cannot be put into one tensor, or as `Engine.compute_gramian`.
            ValueError: As `Engine.compute_gramian`, at the first look, or in a group.
            RuntimeError: As torch does, at the first look, or in a group.
        """
        together = in_one(losses)
        try:
            found: Tensor | dict[str, Tensor]
            if layers:
                found = self._engine.compute_gramian(together, by_module=True)
            else:
                found = self._engine.compute_gramian(together)
        except (MemoryError, torch.OutOfMemoryError, ValueError, RuntimeError) as error:
            # A mistake in the script shows at once. What comes later must not end the training, but
            # for that of a group: there the others wait for this rank, or it for one that is gone.
            later = self._looked or isinstance(error, MemoryError | torch.OutOfMemoryError)
            if later and self._alone:
                return f"{type(error).__name__}: {error}"
            raise
        self._looked = True
        return found

    def exchanged(self) -> dict[str, float]:
        """What the last look sent between ranks, as numbers of the step."""
        return exchanged(self._engine)


def in_one(losses: Losses) -> Tensor:
    """Put losses into one tensor, with their graph.

    Args:
        losses: One tensor, or scalar tensors in a list or by name.

    Returns:
        The tensor itself, or shape [m].

    Raises:
        TypeError: There are no losses, or they are not tensors of one element, dtype and device.
    """
    if isinstance(losses, Tensor):
        return losses
    several = list(losses.values() if isinstance(losses, Mapping) else losses)
    try:
        return torch.stack([one.reshape(()) for one in several])
    except (AttributeError, TypeError, RuntimeError) as error:
        raise TypeError(
            f"got losses that cannot be stacked ({error}), expected one tensor, or tensors of one "
            "element on one device in a list or by name; pass them as they come from the model."
        ) from error
