"""The steps that are measured, by name: plain SGD, ours, and those of the field's library."""

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases import Built, Case
from engines import autojac
from engines.aggregation import Mean
from engines.autogram import Engine
from jdviz.profiling import MeasurementError

SGD = "sgd"
OURS = ("fused", "two-pass", "autojac")
PEERS = ("torchjd two-pass", "torchjd autojac")
METHODS = (SGD, *OURS, *PEERS)
PEER_VERSION = "0.18.0"


@dataclass(frozen=True)
class Step:
    """One training step up to the gradients.

    Attributes:
        model: Where it leaves them.
        run: Forward and the method.
    """

    model: nn.Module
    run: Callable[[], object]

    def clear(self) -> None:
        """Remove the gradients, so that the next step allocates them again."""
        self.model.zero_grad(set_to_none=True)


def chosen(methods: Sequence[str], *, peer: bool) -> list[str]:
    """Put together what is measured.

    Args:
        methods: Some of `OURS`.
        peer: Whether the field's library is measured too.

    Returns:
        SGD, then the methods, then the peer's.

    Raises:
        MeasurementError: The peer is not installed, or in another version.
    """
    if peer:
        check_peer()
    return [SGD, *methods, *(PEERS if peer else ())]


def check_peer() -> None:
    """Make sure that the field's library can be measured.

    Raises:
        MeasurementError: It is not installed, or in another version.
    """
    command = f"`pip install torchjd=={PEER_VERSION}` into an environment of its own does it."
    try:
        importlib.import_module("torchjd")
    except ImportError as error:
        raise MeasurementError(
            f"got --peer without torchjd ({error}), expected it to be installed; {command}"
        ) from error
    version = importlib.metadata.version("torchjd")
    if version != PEER_VERSION:
        raise MeasurementError(
            f"got --peer with torchjd {version}, expected {PEER_VERSION}; {command}"
        )


def make_step(case: Case, built: Built, method: str) -> Step:
    """Make a step ready to run again and again.

    Weights are uniform, so that every method leaves the gradient of the mean loss.

    Args:
        case: What is measured.
        built: The case's model and batch, which methods share.
        method: One of `METHODS`.

    Returns:
        The step. The peer's engine leaves hooks on its model and gets one of its own.
    """
    if method == "torchjd two-pass":
        built = case.build()
    return Step(built.model, _RUNS[method](built))


def probe(steps: Mapping[str, Step]) -> tuple[dict[str, float], dict[str, str]]:
    """Run every step once and compare its gradients with those of SGD.

    Args:
        steps: By name, SGD among them.

    Returns:
        Relative Frobenius errors of the gradients, and for the steps that failed why they did.

    Raises:
        MeasurementError: SGD itself failed.
    """
    errors: dict[str, float] = {}
    failures: dict[str, str] = {}
    plain: list[Tensor | None] = []
    for name, step in steps.items():
        step.clear()
        try:
            step.run()
        except Exception as error:  # whatever it is: the other methods are still of interest
            failures[name] = sentence(error)
            if name == SGD:
                raise MeasurementError(f"The plain step failed with {failures[name]}.") from error
            continue
        gradients = [parameter.grad for parameter in step.model.parameters()]
        if name == SGD:
            plain = gradients
        errors[name] = _distance(gradients, plain)
    for step in steps.values():
        step.clear()
    return errors, failures


def sentence(error: Exception) -> str:
    """An exception in one line.

    Args:
        error: Whatever a step ended in.

    Returns:
        Its type and the first line of its message.
    """
    message = str(error).strip().splitlines()
    return f"{type(error).__name__}: {message[0]}" if message else type(error).__name__


def _distance(gradients: list[Tensor | None], plain: list[Tensor | None]) -> float:
    """Relative Frobenius error over all parameters; a missing gradient counts as zero."""
    off = whole = 0.0
    for found, expected in zip(gradients, plain, strict=True):
        if found is None and expected is None:
            continue
        one = torch.zeros(()) if found is None else found.detach()
        other = torch.zeros(()) if expected is None else expected.detach()
        off += float((one.to(other.device) - other).double().square().sum())
        whole += float(other.double().square().sum())
    return float((off / whole) ** 0.5) if whole else float(off > 0)


def _uniform(gramian: Tensor) -> Tensor:
    """Weights 1/m, shape [m], for a Gramian of shape [m, m]."""
    m = len(gramian)
    return torch.full((m,), 1 / m, dtype=gramian.dtype, device=gramian.device)


def _sgd(built: Built) -> Callable[[], object]:
    return lambda: built.losses().mean().backward()


def _fused(built: Built) -> Callable[[], object]:
    engine = Engine(built.model, batch_dim=0)
    return lambda: engine.backward(built.losses(), _uniform)


def _two_pass(built: Built) -> Callable[[], object]:
    return _in_two_passes(built, Engine(built.model, batch_dim=0))


def _autojac(built: Built) -> Callable[[], object]:
    backward: Any = autojac.backward
    aggregator = Mean()
    return lambda: backward(built.losses(), aggregator, modules=[built.model], batch_dim=0)


def _peer_two_pass(built: Built) -> Callable[[], object]:
    engine = importlib.import_module("torchjd.autogram").Engine
    return _in_two_passes(built, engine(built.model, batch_dim=0))


def _peer_autojac(built: Built) -> Callable[[], object]:
    theirs = importlib.import_module("torchjd.autojac")
    aggregator = importlib.import_module("torchjd.aggregation").Mean()
    parameters = list(built.model.parameters())

    def run() -> None:
        theirs.backward(built.losses())
        theirs.jac_to_grad(parameters, aggregator)

    return run


def _in_two_passes(built: Built, engine: Any) -> Callable[[], object]:
    """The Gramian, then the weighted losses; both libraries have the same two calls."""

    def run() -> None:
        losses = built.losses()
        losses.backward(_uniform(engine.compute_gramian(losses)).to(losses.dtype))

    return run


_RUNS: dict[str, Callable[[Built], Callable[[], object]]] = {
    SGD: _sgd,
    "fused": _fused,
    "two-pass": _two_pass,
    "autojac": _autojac,
    "torchjd two-pass": _peer_two_pass,
    "torchjd autojac": _peer_autojac,
}
