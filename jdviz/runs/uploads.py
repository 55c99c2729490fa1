"""A matrix that someone brings along, read from the bytes of a .npz, .npy or CSV file.

Nothing in a file is trusted: nothing is unpickled, and what a file claims to hold is compared
with the limits and with what is there before memory is taken for it. Nothing is repaired either:
whether the matrix is what it should be is for the checks in `jdviz.conflict` to say.
"""

import csv
import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kind = Literal["gramian", "jacobian"]

#: The largest file that is read.
MAX_BYTES = 16 * 2**20
#: The most objectives of a Gramian or Jacobian.
MAX_OBJECTIVES = 1024
#: The most numbers of a Jacobian.
MAX_NUMBERS = 64_000_000
# A compressed file of zeros unpacks to a thousand times its size.
_MAX_UNPACKED_BYTES = 8 * MAX_NUMBERS + 4096
_MAX_MEMBERS = 32
# Longer names would not fit an axis.
_MAX_NAME = 40
_COLUMNS_AT_ONCE = 65_536
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZIP, _NPY = b"PK\x03\x04", b"\x93NUMPY"
_NAMES: dict[Kind, tuple[str, ...]] = {
    "gramian": ("G", "gramian", "Gramian"),
    "jacobian": ("J", "jacobian", "Jacobian"),
}


class UploadError(ValueError):
    """A file does not hold a matrix that can be read; the text says why and what to do."""


@dataclass(frozen=True, eq=False)
class UploadedMatrix:
    """A matrix as the file holds it.

    Attributes:
        kind: Whether it is taken as a Gramian [m, m] or as a Jacobian [m, n].
        values: The numbers, shape [m, m] or [m, n], in the precision of the file.
        source: Name of the array in a .npz file, else empty.
        names: Names of the objectives that a CSV file gives, length m; empty where it gives none.
    """

    kind: Kind
    values: NDArray[Any]
    source: str = ""
    names: tuple[str, ...] = ()


def read_matrix(data: bytes, *, kind: Kind | None = None) -> UploadedMatrix:
    """Read the Gramian or the Jacobian that a file holds.

    A .npz file with several arrays has to call the one that is meant `G` or `J`. Without a choice
    of `kind`, an array of such a name is what the name says, and any other is a Gramian where it
    is square.

    Args:
        data: The file's bytes: .npz, .npy, or CSV with a row of the matrix in each line.
        kind: What the file holds; None to go by name and shape.

    Returns:
        The matrix, unchanged.

    Raises:
        UploadError: If the file is too large, cannot be read, or holds no such matrix.
    """
    if len(data) > MAX_BYTES:
        raise UploadError(
            f"Got a file of {len(data) / 2**20:.3g} MiB, expected at most {MAX_BYTES // 2**20}; "
            "upload the Gramian, which is smaller than the Jacobian, or a part of it."
        )
    names: tuple[str, ...] = ()
    source = ""
    if data.startswith(_ZIP):
        source, values = _from_archive(data, kind)
    elif data.startswith(_NPY):
        values = _from_npy(data, "The file")
    else:
        values, names = _from_csv(data)
    taken = kind or _kind_of(source, values)
    _check_size(values, taken)
    fitting = names if len(names) == len(values) == len(set(names)) else ()
    return UploadedMatrix(taken, values, source, fitting)


def gramian_of(matrix: UploadedMatrix) -> Array:
    """The Gramian that a file gives: the matrix itself, or the inner products of a Jacobian's rows.

    Args:
        matrix: A matrix with finite entries.

    Returns:
        G or J Jᵀ, shape [m, m], float64.

    Cost: m²·n multiply-adds for a Jacobian, beside it 8·m·65,536 bytes.
    """
    if matrix.kind == "gramian":
        return np.array(matrix.values, dtype=np.float64)
    m, n = matrix.values.shape
    total = np.zeros((m, m))
    for start in range(0, n, _COLUMNS_AT_ONCE):
        # In double precision piece by piece: all of a large Jacobian at once would be a copy.
        piece = matrix.values[:, start : start + _COLUMNS_AT_ONCE].astype(np.float64)
        total += piece @ piece.T
    return total


def _kind_of(source: str, values: NDArray[Any]) -> Kind:
    for kind, known in _NAMES.items():
        if source in known:
            return kind
    square = values.ndim == 2 and values.shape[0] == values.shape[1]
    return "gramian" if square else "jacobian"


def _check_size(values: NDArray[Any], kind: Kind) -> None:
    title = "a Gramian [m, m]" if kind == "gramian" else "a Jacobian [m, n]"
    shape = " × ".join(f"{size:,}" for size in values.shape) or "a single number"
    if values.ndim != 2 or values.size == 0:
        raise UploadError(
            f"Got an array of shape {shape}, expected {title}; save a matrix with a row for each "
            "objective."
        )
    if len(values) > MAX_OBJECTIVES:
        raise UploadError(
            f"Got {len(values):,} objectives, expected at most {MAX_OBJECTIVES:,}; upload some "
            "of them."
        )
    if kind == "gramian" and values.shape[1] > MAX_OBJECTIVES:
        raise UploadError(
            f"Got a matrix of {shape}, expected {title}; choose Jacobian if a row is a gradient."
        )


def _from_archive(data: bytes, kind: Kind | None) -> tuple[str, NDArray[Any]]:
    """Name and values of the one array that is meant in a .npz file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members)
            member = _choose(members, kind)
            # What a member unpacks to never exceeds the size that was compared with the limit.
            content = archive.read(member)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
        raise UploadError(
            f"The .npz file is damaged ({error}); save it again with numpy.savez."
        ) from error
    except (RuntimeError, NotImplementedError) as error:
        # An encrypted member.
        raise UploadError(
            f"The .npz file cannot be unpacked ({error}); save it again with numpy.savez."
        ) from error
    name = member.filename.removesuffix(".npy")
    return name, _from_npy(content, f"The array {_plain(name)}")


def _check_members(members: Sequence[zipfile.ZipInfo]) -> None:
    if len(members) > _MAX_MEMBERS:
        raise UploadError(
            f"Got {len(members):,} arrays in the .npz file, expected at most {_MAX_MEMBERS}; save "
            "the matrix alone."
        )
    if any(member.compress_type not in _COMPRESSIONS for member in members):
        raise UploadError(
            "Got a .npz file packed in a way that numpy never packs; save it again with "
            "numpy.savez or numpy.savez_compressed."
        )
    unpacked = sum(member.file_size for member in members)
    if unpacked > _MAX_UNPACKED_BYTES:
        raise UploadError(
            f"Got a .npz file that unpacks to {unpacked / 2**20:,.0f} MiB, expected at most "
            f"{_MAX_UNPACKED_BYTES // 2**20}; save float32, or the Gramian."
        )


def _choose(members: Sequence[zipfile.ZipInfo], kind: Kind | None) -> zipfile.ZipInfo:
    """The member that holds the matrix: the only one, or the one whose name says so."""
    arrays = {
        member.filename.removesuffix(".npy"): member
        for member in members
        if member.filename.endswith(".npy")
    }
    wanted = _NAMES[kind] if kind is not None else (*_NAMES["gramian"], *_NAMES["jacobian"])
    named = [arrays[name] for name in wanted if name in arrays]
    if named:
        return named[0]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    held = ", ".join(_plain(name) for name in list(arrays)[:8]) or "no array"
    letter = "J" if kind == "jacobian" else "G" if kind == "gramian" else "G or J"
    raise UploadError(
        f"Got a .npz file with {held}, expected a single array or one called {letter}; "
        "save it as numpy.savez(file, G=matrix)."
    )


def _from_npy(data: bytes, title: str) -> NDArray[Any]:
    """The numbers of one .npy file, whose header is compared with its length first."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, column_first, dtype = read(stream)
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError, MemoryError) as error:
        raise UploadError(
            f"{title} has no header that can be read; save it again with numpy.save or numpy.savez."
        ) from error
    if dtype.hasobject or dtype.kind not in "fiu":
        raise UploadError(
            f"{title} holds {'objects' if dtype.hasobject else dtype.name}, expected real "
            "numbers; convert it to float32 or float64 before saving."
        )
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(data) - stream.tell():
        raise UploadError(
            f"{title} holds another number of values than its header says; save it again."
        )
    if count > MAX_NUMBERS:
        raise UploadError(
            f"Got {count:,} numbers, expected at most {MAX_NUMBERS:,}; upload the Gramian."
        )
    values = np.frombuffer(data, dtype=dtype, count=count, offset=stream.tell())
    return values.reshape(shape, order="F" if column_first else "C")


def _from_csv(data: bytes) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The numbers of a CSV file, and the names that its first row or column holds."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UploadError(
            "The file is neither .npz nor text; save it with numpy.savez or as CSV in UTF-8."
        ) from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines or "\x00" in text:
        raise UploadError(
            "The file holds no numbers; save the matrix with numpy.savez or numpy.savetxt."
        )
    delimiter = next((mark for mark in (";", "\t", ",") if mark in lines[0]), None)
    try:
        rows = [line.split() if delimiter is None else _cells(line, delimiter) for line in lines]
    except csv.Error as error:
        raise UploadError(f"The CSV file cannot be read ({error}); save it again.") from error
    header = rows.pop(0) if _is_header(rows[0]) else None
    named_rows = _has_named_rows(rows, header)
    names: tuple[str, ...] = ()
    if named_rows:
        names = tuple(_plain(row[0]) for row in rows)
        rows = [row[1:] for row in rows]
    elif header is not None:
        names = tuple(_plain(cell) for cell in header)
    return _numbers(rows, 1 if header is None else 2), names


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]


def _is_header(row: Sequence[str]) -> bool:
    """Whether the first row holds names: words alone, or anything beside an empty corner."""
    return row[0] == "" or not any(map(_is_number, row))


def _has_named_rows(rows: Sequence[Sequence[str]], header: Sequence[str] | None) -> bool:
    """Whether the first column holds names: words, or what stands below an empty corner."""
    if not rows or min(len(row) for row in rows) < 2:
        return False
    if header is not None and header[0] == "":
        return True
    return not any(_is_number(row[0]) for row in rows)


def _numbers(rows: Sequence[Sequence[str]], first: int) -> NDArray[np.float64]:
    if not rows:
        raise UploadError("The CSV file has a header and no rows; save the matrix below it.")
    width = len(rows[0])
    if width * len(rows) > MAX_NUMBERS:
        raise UploadError(
            f"Got more than {MAX_NUMBERS:,} numbers; upload the Gramian instead of the Jacobian."
        )
    values = np.empty((len(rows), width))
    for place, row in enumerate(rows):
        if len(row) != width:
            raise UploadError(
                f"Row {place + first} of the CSV file has {len(row)} values, expected {width} as "
                "in the first; save a full matrix."
            )
        try:
            values[place] = [float(cell) for cell in row]
        except ValueError as error:
            wrong = next(cell for cell in row if not _is_number(cell))
            raise UploadError(
                f"Row {place + first} of the CSV file holds “{_plain(wrong)}”, expected a number "
                "with a decimal point; correct it or leave the row out."
            ) from error
    return values


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _plain(text: str) -> str:
    """A name from a file, short and on one line."""
    shown = "".join(letter for letter in text.strip() if letter.isprintable())
    return shown if len(shown) <= _MAX_NAME else f"{shown[: _MAX_NAME - 1]}…"
