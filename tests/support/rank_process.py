"""One process of `tests.support.ranks`: joins the group and calls what it is sent.

It ends when its pipe is closed, without taking the group down: torch 2.13 can deadlock there, see
`tests/engines/edges/data_parallel.py`.
"""

import faulthandler
import os
import pickle
import queue
import signal
import threading
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

# How long a rank waits for the others to load torch.
START_S = 60.0


class Settings(NamedTuple):
    """What a process has to know.

    Attributes:
        rank: Its number.
        world_size: How many there are.
        timeout_s: After how long an operation of the group fails.
        store: File at which ranks meet.
        output: File for what it writes.
        interface: Network device of the loopback address.
    """

    rank: int
    world_size: int
    timeout_s: float
    store: str
    output: str
    interface: str


def answer_calls(pipe: Connection, settings: Settings) -> None:
    """Join the group, then answer call after call.

    Args:
        pipe: Where calls come from.
        settings: Of this process.
    """
    with open(settings.output, "wb") as output:
        for number in (1, 2):
            os.dup2(output.fileno(), number)
    os.environ["GLOO_SOCKET_IFNAME"] = settings.interface
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    rank, world_size = settings.rank, settings.world_size
    calls: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(pipe, calls), daemon=True).start()
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    joined = False
    while True:
        call = calls.get()
        try:
            if not joined:
                _join(settings.store, rank, world_size, settings.timeout_s)
                joined = True
            answer = pickle.dumps(("value", _called(call, rank, world_size)))
        except BaseException as error:  # pytest.fail raises no Exception
            kind, trace = type(error).__name__, traceback.format_exc()
            answer = pickle.dumps(("error", kind, str(error), trace))
        pipe.send_bytes(answer)


def _listen(pipe: Connection, calls: "queue.Queue[bytes]") -> None:
    """Take in calls, also while one is running, and end with the other side of the pipe."""
    while True:
        try:
            calls.put(pipe.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)


def _join(place: str, rank: int, world_size: int, timeout_s: float) -> None:
    """Form the group once all ranks are there: its timeout is for operations, not for imports."""
    store = dist.FileStore(place, world_size)
    store.set(f"ready/{rank}", "")
    store.wait([f"ready/{other}" for other in range(world_size)], timedelta(seconds=START_S))
    dist.init_process_group(
        "gloo",
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout_s),
    )


def _called(call: bytes, rank: int, world_size: int) -> Any:
    function: Callable[..., Any]
    function, args = pickle.loads(call)
    return function(rank, world_size, *args)
