import struct
import tracemalloc

import numpy as np
import pytest

from jdviz.runs.blobs import decode, encode, pack_named, unpack_named

ARRAYS = {
    "losses": np.array([0.1, 2.5, np.nan, np.inf]),
    "float64 only": np.array([1e300, -1 / 3]),
    "integers": np.array([3, -1, 2**40]),
    "empty": np.empty(0),
    "empty matrix": np.empty((0, 0)),
    "matrix": np.arange(6.0).reshape(2, 3),
    "asymmetric": np.array([[1.0, 2.0], [3.0, 4.0]]),
    "symmetric": np.array([[1.0, 2.0], [2.0, 4.0]]),
    "symmetric with nan": np.array([[np.nan, 2.0], [2.0, 4.0]]),
    "signed zero": np.array([0.0, -0.0]),
}


@pytest.mark.parametrize("values", ARRAYS.values(), ids=ARRAYS)
def test_round_trip_keeps_every_bit(values):
    back = decode(encode(values))
    assert back.shape == values.shape
    assert back.dtype == (np.int64 if values.dtype.kind == "i" else np.float64)
    np.testing.assert_array_equal(back, values)
    np.testing.assert_array_equal(np.signbit(back), np.signbit(values))


def test_none_stays_none():
    assert encode(None) is None
    assert decode(None) is None


def test_a_gramian_takes_its_triangle_in_float32():
    rows = np.random.default_rng(0).standard_normal((64, 5)).astype(np.float32)
    gramian = (rows @ rows.T).astype(np.float64)
    gramian = (gramian + gramian.T) / 2
    gramian = gramian.astype(np.float32).astype(np.float64)
    # 64·65/2 entries of 4 bytes, and a header of 3 + 2·4 bytes.
    assert len(encode(gramian)) == 64 * 65 // 2 * 4 + 11


@pytest.mark.parametrize("blob", [b"", b"XX", b"Fz\x01\x00\x00\x00\x00"])
def test_foreign_bytes_are_refused(blob):
    with pytest.raises(ValueError, match="array header"):
        decode(blob)


HUGE = 2**32 - 1


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(b"Fb\x02" + struct.pack("<2I", HUGE, HUGE) + bytes(16), id="huge shape"),
        pytest.param(b"Tb\x02" + struct.pack("<2I", HUGE, HUGE) + bytes(16), id="huge triangle"),
        pytest.param(b"Fb\xff" + bytes(4 * 255), id="255 dimensions"),
        pytest.param(b"Fb\x02" + struct.pack("<I", 1), id="half a shape"),
        pytest.param(b"Tb\x02" + struct.pack("<2I", 1, 2) + bytes(8), id="triangle not square"),
        pytest.param(b"Tb\x01" + struct.pack("<I", 1) + bytes(8), id="triangle of one dimension"),
        pytest.param(b"Fb\x01" + struct.pack("<I", 2) + bytes(15), id="a byte too few"),
        pytest.param(b"Fb\x01" + struct.pack("<I", 2) + bytes(17), id="a byte too many"),
        pytest.param(b"Ta\x02" + struct.pack("<2I", 2, 2) + bytes(16), id="a whole square"),
    ],
)
def test_a_shape_that_its_bytes_do_not_fill_is_refused(blob):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"got .*, expected"):
            decode(blob)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", range(11, 11 + 3 * 4))
def test_a_blob_that_was_cut_is_refused(length):
    blob = encode(np.array([[1.0, 2.0], [2.0, 4.0]]))
    assert len(blob) == 11 + 3 * 4
    with pytest.raises(ValueError, match="bytes after an array header"):
        decode(blob[:length])


def test_named_arrays_keep_names_order_and_bits():
    arrays = {"layers.0.weight": ARRAYS["symmetric"], "ω": ARRAYS["float64 only"], "": np.eye(3)}
    back = unpack_named(pack_named(arrays))
    assert list(back) == list(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(back[name], values)
    assert unpack_named(pack_named({})) == {}


def named(names: bytes, *parts: bytes) -> bytes:
    sized = (struct.pack("<I", len(part)) + part for part in (names, *parts))
    return b"N" + b"".join(sized)


ONE = encode(np.zeros(1))


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(ONE, id="one array"),
        pytest.param(b"N\x01", id="half a length"),
        pytest.param(b"N" + struct.pack("<I", HUGE) + b"[]", id="huge names"),
        pytest.param(named(b'["a"]'), id="fewer arrays than names"),
        pytest.param(named(b'["a"]', ONE, ONE), id="more arrays than names"),
        pytest.param(named(b'["a", "a"]', ONE, ONE), id="a name twice"),
        pytest.param(named(b'{"a": 1}', ONE), id="names not a list"),
        pytest.param(named(b"[1]", ONE), id="names not text"),
        pytest.param(named(b"[" * 100_000, ONE), id="names nested deeply"),
        pytest.param(named(b"\xff", ONE), id="names not UTF-8"),
        pytest.param(named(b'["a"]', b"Fb"), id="half an array"),
    ],
)
def test_foreign_bytes_are_no_named_arrays(blob):
    with pytest.raises(ValueError, match=r"got|Expecting|decode"):
        unpack_named(blob)
