"""A callback for PyTorch Lightning that records a training.

`from jdviz.runs.lightning import RecorderCallback` works with `lightning` and with
`pytorch_lightning`, whichever the script has imported.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from engines.autogram import Engine
from jdviz.runs.recorder import Recorder

_LIBRARIES = ("lightning.pytorch", "pytorch_lightning")


class CallbackHooks:
    """What `RecorderCallback` does at each hook of Lightning's.

    The script leaves the losses of a step, with their graph, in an attribute of its module:
    `self.losses = {"depth": ..., "edges": ...}` in `training_step`. Under automatic optimization
    that is all; they are detached before the backward pass, so that no graph is kept. Under manual
    optimization with an engine, the engine is watched instead.

    Numbers that the script gives to `self.log` are recorded at the end of every epoch. Of several
    processes the first one writes one run, with the losses of all if torch.distributed is what
    connects them.

    Args:
        name: What a person calls the run.
        attribute: Where the module leaves the losses.
        modules: Names of the submodules whose gradients are looked at; by default the whole module.
        batch_dim: Dimension of the losses that indexes independent samples; None for tasks.
        every: Every so many batches the Gramian is computed.
        layers: Whether it is split over the modules.
        engine: The engine of a module that does Jacobian descent by itself, or None.
        weighting: The weighting of its two-pass form, or None.
        config: Settings of the run, beside the module's `hparams`.
        options: What else a `Recorder` takes.

    Attributes:
        recorder: The recorder of the current or last fit; None before the first.
    """

    def __init__(
        self,
        name: str,
        *,
        attribute: str = "losses",
        modules: Sequence[str] = (),
        batch_dim: int | None = None,
        every: int = 10,
        layers: bool = True,
        engine: Engine | None = None,
        weighting: nn.Module | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.recorder: Recorder | None = None
        self._name = name
        self._attribute = attribute
        self._modules = tuple(modules)
        self._batch_dim = batch_dim
        self._every = every
        self._layers = layers
        self._engine = engine
        self._weighting = weighting
        self._config = dict(config or {})
        self._options = options

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin a run."""
        # In a group the others take part in every look; see `Recorder`.
        if not (trainer.is_global_zero or (dist.is_available() and dist.is_initialized())):
            return
        config = {**dict(getattr(pl_module, "hparams", {})), **self._config}
        self.recorder = Recorder(self._name, config=config, **self._options)
        if self._engine is not None:
            self.recorder.watch(self._engine, self._weighting, layers_every=self._every)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Record the losses, and look at their gradients while the graph is there."""
        if self.recorder is None or self._engine is not None:
            return
        losses = getattr(pl_module, self._attribute, None)
        if losses is None:
            raise AttributeError(
                f"got no {self._attribute!r} in {type(pl_module).__name__}, expected the losses of "
                f"the step; set self.{self._attribute} in training_step."
            )
        chosen = [pl_module.get_submodule(path) for path in self._modules]
        self.recorder.watch_gradients(
            losses,
            chosen or pl_module,
            batch_dim=self._batch_dim,
            every=self._every,
            layers=self._layers,
        )
        setattr(pl_module, self._attribute, _detached(losses))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Record what the script logged."""
        scalars = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.recorder is not None and scalars:
            self.recorder.log(scalars=scalars)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End the run as failed, or as stopped by Ctrl+C."""
        if self.recorder is not None:
            self.recorder.__exit__(type(exception), exception, None)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """End the run."""
        if self.recorder is not None:
            self.recorder.close()


def _detached(losses: Any) -> Any:
    if isinstance(losses, Mapping):
        return {name: value.detach() for name, value in losses.items()}
    if isinstance(losses, Tensor):
        return losses.detach()
    return [value.detach() for value in losses]


def __getattr__(name: str) -> Any:
    if name != "RecorderCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Made on first use: without Lightning this module can still be imported.
    base = _lightning().Callback
    made = type(name, (CallbackHooks, base), {"__doc__": CallbackHooks.__doc__})
    made.__module__ = __name__
    globals()[name] = made
    return made


def _lightning() -> Any:
    for library in sorted(_LIBRARIES, key=lambda one: one not in sys.modules):
        try:
            return importlib.import_module(library)
        except ImportError:
            continue
    raise ImportError(
        "got neither lightning nor pytorch_lightning in this environment, expected one of them for "
        "RecorderCallback; install it with `pip install lightning`, or use Recorder in your loop."
    )
