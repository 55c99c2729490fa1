"""Marks in a profile: where the parts of a step begin, and which module is at work."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.profiler import record_function

STEP = "jdviz::step"
PHASE_PREFIX = "jdviz::phase::"
LAYER_PREFIX = "jdviz::layer::"


class PhaseMarks:
    """Marks where the parts of a step begin; without a profiler the marks cost microseconds.

    The end of the Jacobian is inside a call of the engine, where no `with` statement can be put:
    hooks switch the mark there.

    Attributes:
        began_ns: Name of every part of the latest step and when it began, in nanoseconds of the
            system's clock, which an accelerator's history of allocations is in too. The end of the
            step is the last, named "".
    """

    def __init__(self) -> None:
        self._open: record_function | None = None
        self.began_ns: list[tuple[str, int]] = []

    def begin(self, name: str) -> None:
        """Begins a step with its first part."""
        self.began_ns = []
        self.switch(name)

    def switch(self, name: str) -> None:
        """Ends the current part, if there is one, and begins another."""
        self._end()
        self.began_ns.append((name, time.time_ns()))
        self._open = record_function(PHASE_PREFIX + name)
        self._open.__enter__()

    def close(self) -> None:
        """Ends the current part and the step."""
        self._end()
        self.began_ns.append(("", time.time_ns()))

    def _end(self) -> None:
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None


#: Path of a module, and from when to when its forward ran, in nanoseconds of the system's clock.
Span = tuple[str, int, int]


@contextmanager
def layer_marks(model: nn.Module) -> Iterator[list[Span]]:
    """Marks in a profile which module's forward is running.

    Args:
        model: Every module in it is marked with its path, the model itself with the name of its
            class. A module that has several paths is marked with the first.

    Yields:
        The forward passes that ended, for recorders that know times only.
    """
    handles = []
    spans: list[Span] = []
    for path, module in model.named_modules():
        marks = _ModuleMarks(path or type(model).__name__, spans)
        handles.append(module.register_forward_pre_hook(marks.begin, prepend=True))
        handles.append(module.register_forward_hook(marks.end, always_call=True))
    try:
        yield spans
    finally:
        for handle in handles:
            handle.remove()


class _ModuleMarks:
    """The marks of one module, whose forward may call itself."""

    def __init__(self, path: str, spans: list[Span]) -> None:
        self._path = path
        self._spans = spans
        self._open: list[tuple[record_function, int]] = []

    def begin(self, *_: Any) -> None:
        mark = record_function(LAYER_PREFIX + self._path)
        mark.__enter__()
        self._open.append((mark, time.time_ns()))

    def end(self, *_: Any) -> None:
        mark, begin_ns = self._open.pop()
        mark.__exit__(None, None, None)
        self._spans.append((self._path, begin_ns, time.time_ns()))
