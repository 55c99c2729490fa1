"""How fast this machine multiplies, moves bytes and starts operations, measured once and kept."""

import json
import math
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import IO

import torch

if sys.platform != "win32":
    import fcntl

_TURNS = 7
# A product this long is not dominated by its start. A slower one is never followed by a larger
# one, so that a dtype without fast kernels costs no more than a few hundredths of a second.
_LONG_ENOUGH_S = 5e-4
_SIDES = (128, 256, 512, 1024, 2048, 4096)
# Three of them exceed the caches of ordinary machines. What streams through memory predicts a
# block of 8 MiB that one product writes and the next reads better than the bandwidth of the cache
# it would fit in: the second product, of a few long rows, is slower than a square one.
_BUFFER_BYTES = 32 * 2**20
_CALLS = 100
# Beside a busy process every operation of two threads waited for its turn on a core, 8 ms and more
# (2 cores, torch 2.13): the rates came out 10 to 100 times too low. Any idle machine copies this
# much in less.
_GLANCE_BYTES = 2**20
_GLANCE_S = 2e-3
_UNSTEADY = 2.0
_PATIENCE_S = 0.5
_LOCK_TURNS = 50
_LOCK_WAIT_S = 0.01
# What tells processors apart in Linux's list; virtual machines often name no more than the brand.
_PROCESSOR_FIELDS = ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part")


@dataclass(frozen=True)
class Rates:
    """What a device does in a second, for predicting times.

    Attributes:
        multiply_adds_per_s: In a matrix product of middle size.
        bytes_per_s: Read and written, in operations that stream through memory.
        call_s: Seconds that an operation takes however small it is.
    """

    multiply_adds_per_s: float
    bytes_per_s: float
    call_s: float

    def seconds(self, multiply_adds: float, moved_bytes: float, calls: float) -> float:
        """Predict how long a contraction takes.

        Args:
            multiply_adds: Of its products.
            moved_bytes: Read and written between its operations.
            calls: How many operations it starts.

        Returns:
            Seconds.
        """
        return (
            multiply_adds / self.multiply_adds_per_s
            + moved_bytes / self.bytes_per_s
            + calls * self.call_s
        )


# Where nothing may or can be measured. The CPU's are what this file measured with two threads of
# a server processor of 2024 in float32, rounded (torch 2.13). The accelerator's were not measured:
# the data sheet of NVIDIA's A100 (19.5 TFLOP/s in float32, 1555 GB/s), rounded, and the usual few
# microseconds for starting a kernel.
_CPU = Rates(multiply_adds_per_s=1e11, bytes_per_s=5e10, call_s=3e-6)
_ACCELERATOR = Rates(multiply_adds_per_s=1e13, bytes_per_s=1.5e12, call_s=5e-6)

_known: dict[str, Rates] = {}
# Two threads that measure at the same time would each find half of the machine.
_measuring = threading.Lock()


def rates_of(device: torch.device, dtype: torch.dtype) -> Rates:
    """Rates of a device, from memory, from the user's cache folder, or measured now.

    They are kept per device, dtype, number of threads, precision of float32 products and version
    of torch, in this process and in `jdviz/rates.json` under `JDVIZ_CACHE`, `XDG_CACHE_HOME` or
    `~/.cache`, the first that is set. A file that cannot be read or written, or holds nonsense, is
    as good as none. Measuring leaves the caller's random state and modes alone; on an accelerator
    it waits for the device.

    Args:
        device: Where the contractions run.
        dtype: Their dtype.

    Returns:
        The rates: all finite and positive. Constants of the type of device under deterministic
        algorithms, so that plans do not depend on the machine's mood, where the device or its
        products in this dtype are not available, and while other work keeps the machine busy;
        constants are never written to the file.

    Cost: a dictionary look-up; the first time on a machine under a tenth of a second on an
        ordinary CPU, and 96 MiB.
    """
    if torch.are_deterministic_algorithms_enabled() or not _is_available(device):
        return _constants(device)
    key = _key(device, dtype)
    with _measuring:
        if key not in _known:
            _known[key] = _find(key, device, dtype)
        return _known[key]


def settle_rates(device: torch.device, dtype: torch.dtype) -> bool:
    """Measure the rates of a device unless they are known; again where it was too busy before.

    Plans follow the rates, so what is to repeat to the byte wants them settled first.

    Args:
        device: Where the contractions run.
        dtype: Their dtype.

    Returns:
        Whether they are measured; if not, plans are made with constants and another call may
        succeed.

    Cost: as `rates_of`.
    """
    rates_of(device, dtype)
    if torch.are_deterministic_algorithms_enabled() or not _is_available(device):
        return False
    key = _key(device, dtype)
    with _measuring:
        if _known[key] is _constants(device):
            _known[key] = _find(key, device, dtype)
        return _known[key] is not _constants(device)


def _constants(device: torch.device) -> Rates:
    """Rates to plan with where none are measured."""
    return _CPU if device.type in ("cpu", "meta") else _ACCELERATOR


def _is_available(device: torch.device) -> bool:
    """Whether products can run on this device in this process."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return device.type == "cpu" or (accelerator is not None and device.type == accelerator.type)


def _key(device: torch.device, dtype: torch.dtype) -> str:
    """What the rates depend on, readable; a home on a shared disk serves several machines."""
    if device.type == "cpu":
        name = _processor()
        backend = getattr(torch.backends.mkldnn, "matmul", None)
    else:
        named = getattr(torch.get_device_module(device), "get_device_name", None)
        name = named(device) if named is not None else _processor()
        backend = torch.backends.cuda.matmul
    # Absent before torch 2.9. The older getter raises once a program has used the newer setter.
    precision = getattr(backend, "fp32_precision", "none") if dtype == torch.float32 else "none"
    threads = torch.get_num_threads()
    kind = str(dtype).removeprefix("torch.")
    return f"{device.type} | {name} | {kind} {precision} | {threads} | torch {torch.__version__}"


@lru_cache(maxsize=1)
def _processor() -> str:
    """The model of the processor, as exactly as the system tells."""
    found: dict[str, str] = {}
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as listed:
        for line in listed:
            name, _, value = line.partition(":")
            if not name.strip():
                break
            found[name.strip()] = value.strip()
    parts = [found[name] for name in _PROCESSOR_FIELDS if name in found]
    return ", ".join([*(parts or [platform.processor()]), platform.machine(), str(os.cpu_count())])


def _find(key: str, device: torch.device, dtype: torch.dtype) -> Rates:
    """Rates from the file, else measured and written there, else constants."""
    path = _cache_file()
    stored = None if path is None else _parse(_entries(path).get(key))
    if stored is not None:
        return stored
    try:
        # Grad mode, autocast, inference mode, transforms, dispatch modes and the recording of a
        # profiler belong to a thread: a new one has none of the caller's.
        with ThreadPoolExecutor(max_workers=1) as thread:
            measured = thread.submit(_measure, device, dtype).result()
    except (_BusyError, RuntimeError, TypeError):
        # Disturbed, no product in this dtype here, no memory, or no further thread.
        return _constants(device)
    if path is not None:
        _store(path, key, measured)
    return measured


class _BusyError(Exception):
    """The machine does something else: what it measures now would mislead every later plan."""


@torch.no_grad()
def _measure(device: torch.device, dtype: torch.dtype) -> Rates:
    """Medians of a square product, an addition of long vectors and a tiny product with its views.

    Each writes into memory that it has written before: fresh pages can cost more than the work.
    """
    _glance(device)
    repeats = 1 if device.type == "cpu" else 10
    product_s, side = math.inf, 0
    for side in _SIDES:
        factor = torch.ones(side, side, device=device, dtype=dtype)
        result = torch.empty_like(factor)
        product_s = _median_s(partial(torch.mm, factor, factor, out=result), device, repeats)
        if product_s >= _LONG_ENOUGH_S:
            break
    count = _BUFFER_BYTES // dtype.itemsize
    _glance(device)
    left, right, total = (torch.ones(count, device=device, dtype=dtype) for _ in range(3))
    stream_s = _median_s(lambda: torch.add(left, right, out=total), device, repeats)
    tiny = torch.zeros(2, 2, device=device, dtype=dtype)
    call_s = _median_s(lambda: tiny.addmm_(tiny[:2], tiny.T), device, _CALLS)
    _glance(device)
    return Rates(side**3 / product_s, 3 * _BUFFER_BYTES / stream_s, call_s)


def _glance(device: torch.device) -> None:
    """Raise if a processor keeps even short copies waiting."""
    if device.type == "cpu":
        source = torch.ones(_GLANCE_BYTES, dtype=torch.uint8)
        target = torch.empty_like(source)
        target.copy_(source)
        if statistics.mean(_turns_s(lambda: target.copy_(source), device, 1)) > _GLANCE_S:
            raise _BusyError


def _median_s(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median over turns of the seconds of one run, after one that warms up; raise if unsteady."""
    run()
    turns_s = _turns_s(run, device, repeats)
    median_s = statistics.median(turns_s)
    if device.type == "cpu" and median_s > _UNSTEADY * min(turns_s):
        raise _BusyError
    return median_s


def _turns_s(run: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Seconds of one run in each turn; raise if they take too long altogether."""
    turns_s: list[float] = []
    _wait(device)
    begin_s = time.perf_counter()
    for _ in range(_TURNS):
        start_s = time.perf_counter()
        for _ in range(repeats):
            run()
        _wait(device)
        end_s = time.perf_counter()
        if end_s - begin_s > _PATIENCE_S:
            raise _BusyError
        # A clock may be too coarse to see a run.
        turns_s.append(max((end_s - start_s) / repeats, 1e-9))
    return turns_s


def _wait(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _cache_file() -> Path | None:
    """The file that holds the rates, or None where there is no home for it."""
    named = os.environ.get("JDVIZ_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(named).expanduser() / "jdviz" / "rates.json"
    except RuntimeError:
        return None


def _entries(path: Path) -> dict[str, object]:
    """What the file holds; nothing where it is missing, cannot be read or is no such file."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _parse(entry: object) -> Rates | None:
    """Rates from an entry of the file, or None where it is missing or nonsense."""
    if not isinstance(entry, dict):
        return None
    values = [entry.get(field.name) for field in fields(Rates)]
    try:
        numbers = [float(value) for value in values if isinstance(value, (int, float))]
    except OverflowError:
        return None
    if len(numbers) < len(values) or not all(0 < number < math.inf for number in numbers):
        return None
    return Rates(*numbers)


def _store(path: Path, key: str, rates: Rates) -> None:
    """Add an entry to the file, beside those of other machines and processes, if that works."""
    with suppress(OSError, ValueError, RecursionError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("a") as held:
            _lock(held)
            entries = _entries(path) | {key: asdict(rates)}
            _replace(path, json.dumps(entries, indent=1, sort_keys=True) + "\n")


def _lock(held: IO[str]) -> None:
    """Lock a file until it is closed, so that no entry is lost between reading and writing.

    Where the system or the disk has no locks, go on: the file of rates is replaced as a whole all
    the same, and an entry that got lost is measured again.

    Raises:
        TimeoutError: If another process does not let go, stopped for example.
    """
    if sys.platform == "win32":
        return
    for _ in range(_LOCK_TURNS):
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_WAIT_S)
        except OSError:
            return
        else:
            return
    raise TimeoutError(f"got {held.name} locked, expected it free; end the process that holds it")


def _replace(path: Path, text: str) -> None:
    """Write a file such that a reader finds the old or the new one, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
