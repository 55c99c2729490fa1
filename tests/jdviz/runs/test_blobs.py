import numpy as np
import pytest

from jdviz.runs.blobs import decode, encode

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
