"""What is measured: a workload, its batch size, its width and its device, by name."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from jdviz.problems.workloads import WORKLOADS, Workload, perceptron
from jdviz.profiling import MeasurementError

DEVICES = ("cpu", "cuda")
# The workload whose hidden layers can have another width.
WIDENED = "mlp"


@dataclass(frozen=True)
class Built:
    """A model with its batch.

    Attributes:
        model: The model on the case's device, in training mode.
        losses: Runs it and gives one loss per sample, shape [m].
        samples: m.
    """

    model: nn.Module
    losses: Callable[[], Tensor]
    samples: int


@dataclass(frozen=True)
class Case:
    """One setting, in a form that another process can be told.

    Attributes:
        workload: Key of `WORKLOADS`, or `package.module:name` of a `Workload` or of a callable
            without arguments that returns one.
        samples: Batch size m; the workload's own if None.
        width: Features of the hidden layers of `mlp`; its own if None.
        device: One of `DEVICES`.
    """

    workload: str
    samples: int | None = None
    width: int | None = None
    device: str = "cpu"

    @property
    def name(self) -> str:
        """The workload and what is not its own choice."""
        parts = [self.workload]
        parts += [] if self.samples is None else [f"m={self.samples}"]
        parts += [] if self.width is None else [f"width={self.width}"]
        return " ".join(parts)

    def build(self) -> Built:
        """Build the model and draw the batch; the same numbers at every call.

        Returns:
            Model and batch on the device.

        Raises:
            MeasurementError: There is no such workload or device, or a size is below 1.
        """
        check_device(self.device)
        workload = find_workload(self.workload)
        for what, number in (("samples", self.samples), ("width", self.width)):
            if number is not None and number < 1:
                raise MeasurementError(
                    f"got {number} as {what}, expected at least 1; give a larger number."
                )
        if self.width is not None:
            if self.workload != WIDENED:
                raise MeasurementError(
                    f"got a width for {self.workload}, expected one for {WIDENED} only; leave it "
                    "out."
                )
            width = self.width
            workload = replace(workload, make=lambda: perceptron(width))
        model, inputs, classes = workload.build(self.samples)
        model = model.to(self.device)
        inputs, classes = inputs.to(self.device), classes.to(self.device)
        return Built(model, lambda: workload.losses(model, inputs, classes), len(classes))


def find_workload(name: str) -> Workload:
    """Look a workload up.

    Args:
        name: Key of `WORKLOADS`, or `package.module:name`.

    Returns:
        The workload.

    Raises:
        MeasurementError: There is none of that name.
    """
    if name in WORKLOADS:
        return WORKLOADS[name]
    place, colon, attribute = name.partition(":")
    if not colon:
        raise MeasurementError(
            f"got workload {name!r}, expected one of {', '.join(WORKLOADS)} or "
            "package.module:name; choose one."
        )
    try:
        found = getattr(importlib.import_module(place), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise MeasurementError(
            f"got {name!r}, which cannot be imported ({error}), expected package.module:name; "
            "check its spelling and PYTHONPATH."
        ) from error
    made = found if isinstance(found, Workload) or not callable(found) else found()
    if not isinstance(made, Workload):
        raise MeasurementError(
            f"got {type(made).__name__} from {name!r}, expected a "
            "jdviz.problems.workloads.Workload; build one."
        )
    return made


def check_device(device: str) -> None:
    """Make sure that the machine has a device.

    Args:
        device: One of `DEVICES`.

    Raises:
        MeasurementError: It has none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise MeasurementError(
            "got --device cuda on a machine without a usable CUDA device, expected one; leave "
            "--device out to measure on the CPU."
        )
