"""Files of a matrix: what is read, unchanged, and what is refused before memory is taken for it."""

import io
import struct
import zipfile

import numpy as np
import pytest

from jdviz.runs.uploads import (
    MAX_BYTES,
    MAX_OBJECTIVES,
    UploadedMatrix,
    UploadError,
    gramian_of,
    read_matrix,
)

G = np.array([[2.0, -1.0, 0.5], [-1.0, 3.0, 0.0], [0.5, 0.0, 1.0]])
J = np.array([[1.0, 2.0, 0.0, -1.0], [0.5, 0.0, 1.0, 1.0]])


def npz(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def npy(array, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def archive(content, name="G.npy", compression=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as made:
        made.writestr(name, content)
    return stream.getvalue()


def with_shape(array, shape):
    """A .npy file whose header claims another shape than it has."""
    header = repr({"descr": "<f8", "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + array.tobytes()


def assert_same(read: UploadedMatrix, kind, values):
    assert read.kind == kind
    assert read.values.shape == values.shape
    assert np.array_equal(read.values, values, equal_nan=True)


@pytest.mark.parametrize(
    ("data", "kind", "values", "source"),
    [
        (npz(anything=G), "gramian", G, "anything"),
        (npz(anything=J), "jacobian", J, "anything"),
        (npz(G=G, losses=np.ones(3)), "gramian", G, "G"),
        (npz(J=J, weights=np.ones(2)), "jacobian", J, "J"),
        (npz(J=J, G=G), "gramian", G, "G"),
        (npz(J=G), "jacobian", G, "J"),
        (npy(np.asfortranarray(J)), "jacobian", J, ""),
        (npy(J.astype(">f4")), "jacobian", J, ""),
        (npy(G, version=(2, 0)), "gramian", G, ""),
        (npy(np.eye(2, dtype=np.int8)), "gramian", np.eye(2), ""),
    ],
)
def test_an_array_is_read_as_its_name_or_its_shape_says(data, kind, values, source):
    read = read_matrix(data)
    assert_same(read, kind, values)
    assert read.source == source


def test_a_choice_wins_over_name_and_shape():
    assert_same(read_matrix(npz(J=J, G=G), kind="jacobian"), "jacobian", J)
    assert_same(read_matrix(npz(a=G), kind="jacobian"), "jacobian", G)
    # Not square, and still what was chosen: the checks report it.
    assert_same(read_matrix(npz(a=J), kind="gramian"), "gramian", J)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("2,-1,0.5\n-1,3,0\n0.5,0,1\n", ()),
        ("2;-1;0.5\r\n-1;3;0\r\n0.5;0;1", ()),
        ("\ufeff# from numpy.savetxt\n2 -1 5e-1\n\n-1 3 0\n0.5 0 1\n", ()),
        ("2\t-1\t0.5\n-1\t3\t0\n0.5\t0\t1\n", ()),
        ("pose, depth,mask\n2,-1,0.5\n-1,3,0\n0.5,0,1\n", ("pose", "depth", "mask")),
        (",p,d,k\np,2,-1,0.5\nd,-1,3,0\nk,0.5,0,1\n", ("p", "d", "k")),
        (",0,1,2\n0,2,-1,0.5\n1,-1,3,0\n2,0.5,0,1\n", ("0", "1", "2")),
        ('"a, b",2,-1,0.5\nc,-1,3,0\nd,0.5,0,1\n', ("a, b", "c", "d")),
        ("same,same,mask\n2,-1,0.5\n-1,3,0\n0.5,0,1\n", ()),
    ],
)
def test_csv_is_read_with_the_names_that_it_has(text, names):
    read = read_matrix(text.encode())
    assert_same(read, "gramian", G)
    assert read.names == names


def test_a_column_for_each_parameter_does_not_name_objectives():
    read = read_matrix(b"w1,w2,w3\n1,2,3\n4,5,6\n")
    assert_same(read, "jacobian", np.array([[1.0, 2, 3], [4, 5, 6]]))
    assert read.names == ()


def test_what_is_not_finite_is_kept_for_the_checks():
    read = read_matrix(b"1,nan\ninf,1\n")
    assert_same(read, "gramian", np.array([[1, np.nan], [np.inf, 1]]))


def test_the_gramian_of_a_jacobian_is_that_of_its_rows():
    generator = np.random.default_rng(0)
    wide = generator.standard_normal((3, 150_000)).astype(np.float32)
    exact = wide.astype(np.float64) @ wide.astype(np.float64).T
    found = gramian_of(read_matrix(npz(J=wide)))
    assert found.dtype == np.float64
    assert np.allclose(found, exact, rtol=1e-12, atol=0)
    assert np.array_equal(gramian_of(read_matrix(npz(G=G))), G)
    # Integers do not overflow.
    large = np.full((1, 3), 100, dtype=np.int8)
    assert gramian_of(UploadedMatrix("jacobian", large)).tolist() == [[30_000.0]]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "holds no numbers"),
        (b"\x00\x01\x02\x00", "holds no numbers"),
        (b"\xff\xfe\xfa", "neither .npz nor text"),
        (b"# only a comment\n", "holds no numbers"),
        (b"a,b\n", "a header and no rows"),
        (b"1,2\n3\n", "Row 2 of the CSV file has 1 values, expected 2"),
        (b"a,b\n1,2\n3,x\n", "Row 3 of the CSV file holds “x”, expected a number"),
        (b"1,2\n3,\n", "Row 2 of the CSV file holds “”, expected a number"),
        (b"1;2,5\n3;4\n", "expected a number with a decimal point"),
        (npz(a=G, b=J), "with a, b, expected a single array or one called G or J"),
        (npz(a=np.ones(4)), "shape 4, expected a Jacobian"),
        (npz(a=np.float64(3)), "a single number, expected a Jacobian"),
        (npz(G=np.ones((0, 0))), "expected a Gramian"),
        (npz(G=np.ones((2, 2, 2))), "shape 2 × 2 × 2"),
        (npz(G=np.eye(2, dtype=complex)), "holds complex128, expected real numbers"),
        (npz(G=np.eye(2, dtype=bool)), "holds bool, expected real numbers"),
        (npz(G=np.array([["a", "b"]])), "expected real numbers"),
        (npz(G=np.zeros(2, dtype="f8,f8")), "expected real numbers"),
        (npz(a=np.ones((MAX_OBJECTIVES + 1, 2))), "1,025 objectives, expected at most 1,024"),
        (archive(b"no array"), "The array G has no header that can be read"),
        (archive(b"text", name="readme.txt"), "with no array"),
        (archive(npy(G)[:-8]), "another number of values than its header says"),
        (archive(npy(G) + b"more"), "another number of values than its header says"),
        (archive(npy(G), compression=zipfile.ZIP_LZMA), "packed in a way that numpy never packs"),
        (with_shape(G, (10**9, 10**9)), "another number of values than its header says"),
        (with_shape(G, (-3, -3)), "another number of values than its header says"),
        (with_shape(G, (10**30,)), "another number of values than its header says"),
        (with_shape(G, ("3", 3)), "has no header that can be read"),
        (npz(G=G)[:60], "is damaged"),
    ],
)
def test_a_file_without_a_matrix_is_refused_in_a_sentence(data, sentence):
    with pytest.raises(UploadError) as refusal:
        read_matrix(data)
    assert sentence in str(refusal.value)


def test_a_gramian_chosen_for_a_wide_matrix_is_refused():
    with pytest.raises(UploadError, match="choose Jacobian if a row is a gradient"):
        read_matrix(npz(a=np.ones((2, 2000))), kind="gramian")


def test_a_large_file_is_refused():
    with pytest.raises(UploadError, match="file of 16 MiB, expected at most 16"):
        read_matrix(b"1" * (MAX_BYTES + 1))


class Evil:
    """Creates a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "made"
    data = npz(G=np.array([[Evil(str(path))]], dtype=object))
    with pytest.raises(UploadError, match="holds objects, expected real numbers"):
        read_matrix(data)
    assert not path.exists()


def test_a_file_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(monkeypatch):
    data = archive(b"\0" * 2_000_000)
    # Its directory claims 3 GiB, as a real one of that size would.
    at = data.rindex(b"PK\x01\x02") + 24
    data = data[:at] + struct.pack("<I", 3 * 2**30) + data[at + 4 :]
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(UploadError, match=r"unpacks to 3,072 MiB, expected at most 488"):
        read_matrix(data)


def test_a_file_that_claims_less_than_it_unpacks_to_is_refused():
    data = archive(b"\0" * 2_000_000)
    at = data.rindex(b"PK\x01\x02") + 24
    data = data[:at] + struct.pack("<I", 100) + data[at + 4 :]
    with pytest.raises(UploadError, match="is damaged"):
        read_matrix(data)


def test_many_arrays_are_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for place in range(40):
            made.writestr(f"a{place}.npy", b"")
    with pytest.raises(UploadError, match="Got 40 arrays"):
        read_matrix(stream.getvalue())


def test_an_encrypted_array_is_refused():
    data = bytearray(archive(npy(G)))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    with pytest.raises(UploadError, match="cannot be unpacked"):
        read_matrix(bytes(data))


def test_names_from_a_file_are_short_and_on_one_line():
    long = "x" * 500
    read = read_matrix(f'"two\x07 words",{long}\n1,0\n0,1\n'.encode())
    assert read.names == ("two words", "x" * 39 + "…")
