"""Arrays as typed blobs: a header that names dtype and shape, then the bytes.

A symmetric matrix is stored as its upper triangle, so a Gramian takes half the space.
"""

import struct

import numpy as np
from numpy.typing import NDArray

_FULL, _TRIANGLE = b"F", b"T"
_CODES = {"f4": b"a", "f8": b"b", "i8": b"c"}
_DTYPES = {code: np.dtype(f"<{name}") for name, code in _CODES.items()}


def _narrow(values: NDArray) -> NDArray:
    """The smallest stored dtype that holds `values` to the last bit."""
    if values.dtype.kind in "iu":
        return values.astype("<i8")
    wide = np.asarray(values, dtype="<f8")
    # A value beyond float32 becomes inf and fails the comparison below, which is the point.
    with np.errstate(over="ignore"):
        narrow = wide.astype("<f4")
    return narrow if np.array_equal(narrow, wide, equal_nan=True) else wide


def encode(values: NDArray | None) -> bytes | None:
    """Pack an array of any shape into bytes.

    Args:
        values: Integers or floats, any shape, or None.

    Returns:
        One byte for the layout, one for the dtype, one for the number of dimensions, the shape as
        little-endian unsigned 32-bit integers, then the values; None for None. Floats that fit
        float32 to the last bit are stored as float32.
    """
    if values is None:
        return None
    narrow = _narrow(np.asarray(values))
    layout, payload = _FULL, narrow
    square = narrow.ndim == 2 and narrow.shape[0] == narrow.shape[1]
    if square and np.array_equal(narrow, narrow.T, equal_nan=narrow.dtype.kind == "f"):
        layout, payload = _TRIANGLE, narrow[np.triu_indices(narrow.shape[0])]
    code = _CODES[narrow.dtype.str[1:]]
    head = layout + code + struct.pack(f"<B{narrow.ndim}I", narrow.ndim, *narrow.shape)
    return head + np.ascontiguousarray(payload).tobytes()


def decode(blob: bytes | None) -> NDArray | None:
    """Unpack what `encode` packed.

    Args:
        blob: Bytes from `encode`, or None.

    Returns:
        The array in float64 or int64 with its shape, bit for bit; None for None.

    Raises:
        ValueError: If the bytes are not such a blob.
    """
    if blob is None:
        return None
    if len(blob) < 3 or blob[:1] not in (_FULL, _TRIANGLE) or blob[1:2] not in _DTYPES:
        raise ValueError("got bytes without an array header, expected a blob from encode()")
    dtype, ndim = _DTYPES[blob[1:2]], blob[2]
    start = 3 + 4 * ndim
    shape = struct.unpack_from(f"<{ndim}I", blob, 3)
    flat = np.frombuffer(blob, dtype=dtype, offset=start)
    if blob[:1] == _FULL:
        values = flat.reshape(shape)
    else:
        size = shape[0]
        rows, columns = np.triu_indices(size)
        values = np.empty((size, size), dtype=dtype)
        values[rows, columns] = flat
        values[columns, rows] = flat
    return values.astype(np.int64 if dtype.kind == "i" else np.float64)
