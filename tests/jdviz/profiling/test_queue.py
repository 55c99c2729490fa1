"""The queue of one: in order, and nobody who leaves it blocks the others."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jdviz.profiling.queue import Turnstile
from tests.support.waiting import wait_until


class Waiter:
    """Waits in a thread of its own until it has been let through and is told to go."""

    def __init__(self, queue: Turnstile, order: list[str], name: str) -> None:
        self.before: list[int] = []
        self._go = threading.Event()
        self._queue, self._order, self._name = queue, order, name
        self.thread = threading.Thread(target=self._wait, daemon=True)
        self.thread.start()

    def _wait(self) -> None:
        with self._queue.turn(self.before.append):
            self._order.append(self._name)
            assert self._go.wait(30)

    def leave(self) -> None:
        self._go.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


@contextmanager
def occupied(queue: Turnstile) -> Iterator[None]:
    with queue.turn():
        yield


def test_everyone_comes_in_the_order_of_arrival() -> None:
    queue, order = Turnstile(), []
    waiters = []
    with occupied(queue):
        for number, name in enumerate("abc", 1):
            waiter = Waiter(queue, order, name)
            waiters.append(waiter)
            wait_until(lambda w=waiter: bool(w.before), f"{name} to stand in line")
            assert waiter.before[0] == number
        assert order == []
    for number, waiter in enumerate(waiters, 1):
        wait_until(lambda n=number: len(order) == n, "the next one's turn")
        assert queue.busy
        waiter.leave()
    assert order == ["a", "b", "c"]
    assert not queue.busy


def test_who_is_first_is_told_nothing() -> None:
    queue = Turnstile()
    told: list[int] = []
    with queue.turn(told.append):
        assert queue.busy
    assert told == []
    assert not queue.busy


def test_who_gives_up_waiting_leaves_the_line() -> None:
    queue, order = Turnstile(), []

    def gives_up(before: int) -> None:
        raise InterruptedError(f"{before} before")

    with occupied(queue):
        with pytest.raises(InterruptedError, match=r"^1 before$"), queue.turn(gives_up):
            order.append("never")
        behind = Waiter(queue, order, "behind")
        wait_until(lambda: bool(behind.before), "the one behind to stand in line")
        assert behind.before[0] == 1
    wait_until(lambda: order == ["behind"], "its turn")
    behind.leave()
    assert not queue.busy


def test_a_turn_that_fails_lets_the_next_one_in() -> None:
    queue = Turnstile()
    with pytest.raises(KeyError), queue.turn():
        raise KeyError
    with queue.turn():
        assert queue.busy
