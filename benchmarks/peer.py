"""Which methods are measured, with or without those of the field's library."""

import importlib
import importlib.metadata
from collections.abc import Sequence

from jdviz.profiling import PEERS, SGD, MeasurementError, StepMethod

PEER_VERSION = "0.18.0"


def chosen(methods: Sequence[StepMethod], *, peer: bool) -> list[StepMethod]:
    """Puts together what is measured.

    Args:
        methods: Some of `jdviz.profiling.OURS`.
        peer: Whether the field's library is measured too.

    Returns:
        SGD, then the methods, each once, then the peer's.

    Raises:
        MeasurementError: The peer is not installed, or in another version.
    """
    if peer:
        check_peer()
    return [SGD, *dict.fromkeys(methods), *(PEERS if peer else ())]


def check_peer() -> None:
    """Makes sure that the field's library can be measured.

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
