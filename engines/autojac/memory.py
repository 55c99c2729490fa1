"""Memory for large results."""

import ctypes
import mmap
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_PAGE_BYTES = 2 * 2**20
# Below this a few faults more do not count.
_LEAST_BYTES = 4 * _PAGE_BYTES


def fresh(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Allocate an uninitialised tensor, in large pages where the system has them.

    The first touch of memory costs more than what is written there. Measured, 358 MB filled: 86 ms
    in pages of 4 KiB, 13 in pages of 2 MiB, 10 where the memory was touched before.

    Args:
        shape: Its shape.
        dtype: Its dtype.
        device: Where it is.

    Returns:
        The tensor.
    """
    made = torch.empty(tuple(shape), dtype=dtype, device=device)
    size = made.numel() * made.element_size()
    if _advise is not None and made.device.type == "cpu" and size >= _LEAST_BYTES:
        # Advice on whole large pages only: what is around them belongs to others. A system that
        # declines says so in a result that does not matter.
        start = -(-made.data_ptr() // _PAGE_BYTES) * _PAGE_BYTES
        stop = (made.data_ptr() + size) // _PAGE_BYTES * _PAGE_BYTES
        _advise(start, stop - start)
    return made


def _found() -> Callable[[int, int], object] | None:
    """The system's call that asks for large pages, None where there is none."""
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None:
        return None
    try:
        call = ctypes.CDLL(None).madvise
    except (AttributeError, OSError):
        return None
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return lambda start, size: call(start, size, advice)


_advise = _found()
