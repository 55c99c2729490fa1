"""What a measurement was made on and with."""

import importlib.metadata
import os
import platform
import time
from pathlib import Path

import torch

from engines.autogram import settle_rates

# How often, and after how long, a busy machine is asked again.
_TURNS = 4
_PAUSE_S = 0.25
_LIBRARIES = ("torch", "numpy", "torchjd")


def versions() -> dict[str, str]:
    """Versions of the libraries that decide what a step costs; torchjd only where it is there."""
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def has_peer() -> bool:
    """Whether the field's library is installed, so that its methods can be measured."""
    return "torchjd" in versions()


def settle(device: str) -> bool:
    """Lets the engine find out how fast a device is, so that its plans repeat.

    Args:
        device: "cpu" or "cuda".

    Returns:
        Whether it is known; a machine that stays busy is planned for with constants.
    """
    for turn in range(_TURNS):
        if settle_rates(torch.device(device), torch.float32):
            return True
        time.sleep(_PAUSE_S if turn < _TURNS - 1 else 0.0)
    return False


def machine(device: str, threads: int) -> dict[str, str]:
    """Versions, device, threads, and whether the engine plans by measured rates.

    Args:
        device: "cpu" or "cuda".
        threads: Threads that torch may use.

    Returns:
        Texts by name.
    """
    return {
        **versions(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": _device_name(device),
        "cores": str(os.cpu_count()),
        "threads": str(threads),
        "rates": "measured" if settle_rates(torch.device(device), torch.float32) else "assumed",
    }


def _device_name(device: str) -> str:
    """What a person calls the processor that computes."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or "unknown processor")
