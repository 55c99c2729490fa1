"""Trains with several objectives by Jacobian descent, and shows what their gradients do.

`from jdviz import Recorder` records a training of one's own, `from jdviz import load_run` reads a
recorded run back. `import jdviz` alone costs nothing: both are imported on first use, and neither
needs the libraries of the app. The rooms are imported by name, for instance `jdviz.training` or
`jdviz.figures`; docs/ARCHITECTURE.md lists them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jdviz.runs.loading import RecordedRun, load_run
    from jdviz.runs.recorder import Recorder

__all__ = ["RecordedRun", "Recorder", "__version__", "load_run"]

# The one place of the version: pyproject.toml reads it from here.
__version__ = "0.1.0"

_HOMES = {
    "RecordedRun": "jdviz.runs.loading",
    "Recorder": "jdviz.runs.recorder",
    "load_run": "jdviz.runs.loading",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
