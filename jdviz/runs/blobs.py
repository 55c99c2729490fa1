"""Arrays as typed blobs: a header that names dtype and shape, then the bytes.

A symmetric matrix is stored as its upper triangle, so a Gramian takes half the space.
"""

import json
import math
import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_FULL, _TRIANGLE, _NAMED = b"F", b"T", b"N"
_CODES = {"f4": b"a", "f8": b"b", "i8": b"c"}
_DTYPES = {code: np.dtype(f"<{name}") for name, code in _CODES.items()}
_MAX_DIMENSIONS = 8


def _narrow(values: NDArray) -> NDArray:
    """The smallest stored dtype that holds `values` to the last bit."""
    if values.dtype.kind in "iu":
        return values.astype("<i8")
    wide = np.asarray(values, dtype="<f8")
    # A value beyond float32 becomes inf and fails the comparison below, which is the point.
    with np.errstate(over="ignore"):
        narrow = wide.astype("<f4")
    return narrow if np.array_equal(narrow, wide, equal_nan=True) else wide


def _upper(size: int) -> NDArray[np.bool_]:
    """The places on and above the diagonal; a mask takes a tenth of the time of their indices."""
    mask: NDArray[np.bool_] = np.tri(size, dtype=bool).T
    return mask


def encode(values: NDArray | None) -> bytes | None:
    """Pack an array of any shape into bytes.

    Args:
        values: Integers or floats, any shape, or None.

    Returns:
        One byte for the layout, one for the dtype, one for the number of dimensions, the shape as
        little-endian unsigned 32-bit integers, then the values; None for None. Floats that fit
        float32 to the last bit are stored as float32.
    """
    return None if values is None else pack(values)


def pack(values: NDArray) -> bytes:
    """`encode` for an array that is there.

    Args:
        values: Integers or floats, any shape.

    Returns:
        The bytes.
    """
    narrow = _narrow(np.asarray(values))
    layout, payload = _FULL, narrow
    square = narrow.ndim == 2 and narrow.shape[0] == narrow.shape[1]
    if square and np.array_equal(narrow, narrow.T, equal_nan=narrow.dtype.kind == "f"):
        layout, payload = _TRIANGLE, narrow[_upper(narrow.shape[0])]
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
    return None if blob is None else unpack(blob)


def unpack(blob: bytes) -> NDArray:
    """`decode` for a blob that is there.

    A blob from elsewhere may claim any shape, so nothing is allocated before the claim is compared
    with the bytes that follow it.

    Args:
        blob: Bytes from `encode`.

    Returns:
        The array in float64 or int64 with its shape, bit for bit.

    Raises:
        ValueError: If the bytes are not such a blob.
    """
    if len(blob) < 3 or blob[:1] not in (_FULL, _TRIANGLE) or blob[1:2] not in _DTYPES:
        raise ValueError("got bytes without an array header, expected a blob from encode()")
    dtype, ndim = _DTYPES[blob[1:2]], blob[2]
    start = 3 + 4 * ndim
    if ndim > _MAX_DIMENSIONS or len(blob) < start:
        raise ValueError(
            f"got an array header of {ndim} dimensions in {len(blob)} bytes, expected a blob "
            "from encode()"
        )
    shape = struct.unpack_from(f"<{ndim}I", blob, 3)
    triangle = blob[:1] == _TRIANGLE
    if triangle and (ndim != 2 or shape[0] != shape[1]):
        raise ValueError(f"got a triangle of shape {shape}, expected a square matrix")
    count = shape[0] * (shape[0] + 1) // 2 if triangle else math.prod(shape)
    if len(blob) - start != count * dtype.itemsize:
        raise ValueError(
            f"got {len(blob) - start} bytes after an array header, expected "
            f"{count * dtype.itemsize} for the shape {shape} it names"
        )
    flat = np.frombuffer(blob, dtype=dtype, offset=start)
    if not triangle:
        values = flat.reshape(shape)
    else:
        upper = _upper(shape[0])
        values = np.empty(shape, dtype=dtype)
        values[upper] = flat
        values.T[upper] = flat
    return values.astype(np.int64 if dtype.kind == "i" else np.float64)


def pack_named(arrays: Mapping[str, NDArray]) -> bytes:
    """Pack arrays with their names into bytes.

    Args:
        arrays: Name to integers or floats, any shape.

    Returns:
        One byte for the layout, then the length of the names as a little-endian unsigned 32-bit
        integer and the names as a JSON list, then the length and the blob of every array.
    """
    names = json.dumps(list(arrays)).encode()
    parts = [_NAMED, struct.pack("<I", len(names)), names]
    for values in arrays.values():
        blob = pack(values)
        parts += [struct.pack("<I", len(blob)), blob]
    return b"".join(parts)


def unpack_named(blob: bytes) -> dict[str, NDArray]:
    """Unpack what `pack_named` packed.

    Args:
        blob: Bytes from `pack_named`.

    Returns:
        Name to array, in the order they were packed.

    Raises:
        ValueError: If the bytes are not such a blob.
    """
    if blob[:1] != _NAMED:
        raise ValueError("got bytes without a header, expected a blob from pack_named()")
    head, place = _part(blob, 1)
    try:
        names = json.loads(head)
    except RecursionError as error:
        raise ValueError("got names that are nested lists, expected a list of names") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("got names that are not a list of text, expected a list of names")
    arrays = {}
    for name in names:
        part, place = _part(blob, place)
        arrays[name] = unpack(part)
    if place != len(blob) or len(arrays) != len(names):
        raise ValueError(
            f"got {len(blob) - place} bytes after {len(arrays)} arrays, expected {len(names)} "
            "arrays of different names and nothing after them"
        )
    return arrays


def _part(blob: bytes, start: int) -> tuple[bytes, int]:
    """The part that begins with its length at `start`, and where it ends."""
    if len(blob) < start + 4:
        raise ValueError(f"got a blob that ends at byte {len(blob)}, expected a length there")
    (length,) = struct.unpack_from("<I", blob, start)
    end = start + 4 + length
    if end > len(blob):
        raise ValueError(f"got a part of {length} bytes, expected at most {len(blob) - start - 4}")
    return blob[start + 4 : end], end
