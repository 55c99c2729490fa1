"""A queue of one: measurements of a process run one after the other, in the order they came."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: How often someone who waits is told that they do, in seconds.
TOLD_EVERY_S = 0.5


class Turnstile:
    """Lets one at a time through, first come first served."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: list[object] = []

    @contextmanager
    def turn(self, told: Callable[[int], None] | None = None) -> Iterator[None]:
        """Waits until everyone who came earlier has gone.

        Args:
            told: Called with the number of those before, as long as there are some. What it raises
                ends the waiting.

        Yields:
            While it is this caller's turn.
        """
        ticket = object()
        with self._changed:
            self._line.append(ticket)
        try:
            while (before := self._before(ticket)) > 0:
                if told is not None:
                    told(before)
                with self._changed:
                    if self._line[0] is not ticket:
                        self._changed.wait(TOLD_EVERY_S)
            yield
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _before(self, ticket: object) -> int:
        with self._changed:
            return self._line.index(ticket)

    @property
    def busy(self) -> bool:
        """Whether someone is in it."""
        with self._changed:
            return bool(self._line)
