"""Numerics of Jacobian descent: Gramians, Jacobians and the methods that combine objectives.

The parts are imported from their packages: `engines.autogram`, `engines.autojac`,
`engines.aggregation`. Importing `engines` itself loads nothing heavy.
"""

import importlib
import warnings
from typing import Any

from engines.stateful import Stateful

__all__ = ["Stateful"]

# Release 0.8 scripts import these from the root; each name maps to where it lives now.
_MOVED = {"backward": "engines.autojac", "mtl_backward": "engines.autojac"}


def __getattr__(name: str) -> Any:
    """Hand out a moved name with a `DeprecationWarning`.

    Args:
        name: The attribute asked for.

    Returns:
        The object under its present home.

    Raises:
        AttributeError: The package never had that name.
    """
    if name in _MOVED:
        home = _MOVED[name]
        warnings.warn(
            f"got `from engines import {name}`, expected `from {home} import {name}`; "
            "change the import, the old one will go.",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
