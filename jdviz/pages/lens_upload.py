"""A Gramian or Jacobian of a visitor's own on the Lens page: read, checked, reported."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from jdviz.checks import Verdict, check_gramian, check_jacobian
from jdviz.pages.controls import escaped
from jdviz.pages.frame import opened
from jdviz.pages.registry import PAGES
from jdviz.runs.thinning import evenly_spaced
from jdviz.runs.uploads import Kind, UploadError, gramian_of, read_matrix

MAX_MEBIBYTES = 16
#: What the Directions page reads: a name and a Gramian.
DIRECTIONS_KEY = "directions:uploaded"
#: More objectives than this have no room on a page of figures.
MOST_SHOWN = 256
_KEPT, _ROUND, _FILE = "lens:uploaded", "lens:upload-round", "lens:upload-file"
_KINDS = {
    "auto": "By its name and shape",
    "gramian": "Gramian G, inner products",
    "jacobian": "Jacobian J, a gradient in each row",
}


@dataclass(frozen=True, eq=False)
class Uploaded:
    """A matrix that a visitor uploaded, as far as it could be read.

    Attributes:
        file: Name of the file.
        title: The same, and the name of the array in it.
        kind: What it was taken for.
        shape: Its shape in words.
        verdicts: What was checked, in order.
        entries: The entries that are shown as they are, shape [m, m]; None where it is no square
            matrix of finite numbers.
        gramian: The Gramian that is shown, shape [m, m]; None where it has none.
        names: Name of every objective shown, length m.
        whole: Whether that is all of them.
    """

    file: str
    title: str
    kind: Kind
    shape: str
    verdicts: tuple[Verdict, ...]
    entries: NDArray[np.float64] | None
    gramian: NDArray[np.float64] | None
    names: tuple[str, ...]
    whole: bool


def uploaded() -> Uploaded | None:
    """The matrix that this visitor uploaded and has not put away."""
    return cast("Uploaded | None", st.session_state.get(_KEPT))


def draw_upload() -> None:
    """Draw the place for a file, folded; a file that is read is kept until it is put away."""
    with opened("lens:upload", "A matrix of your own") as is_open:
        if not is_open:
            return
        kind = st.selectbox(
            "The file holds", list(_KINDS), format_func=_KINDS.__getitem__, key="lens:kind"
        )
        # A new key empties the uploader, which has no other way to forget its file.
        number = st.session_state.setdefault(_ROUND, 0)
        file = st.file_uploader(
            "A .npz or CSV file",
            type=["npz", "npy", "csv", "txt"],
            max_upload_size=MAX_MEBIBYTES,
            key=f"lens:file-{number}",
            help="A .npz file with a matrix called G or J, or with one array; a CSV file with a "
            "row of the matrix in each line. It stays in this server's memory, for you alone.",
        )
        if file is None:
            return
        if st.session_state.get(_FILE) != (file.file_id, kind):
            st.session_state[_FILE] = file.file_id, kind
            st.session_state[_KEPT] = None
            chosen = None if kind == "auto" else cast("Kind", kind)
            try:
                st.session_state[_KEPT] = _read(file.getvalue(), file.name, chosen)
            except UploadError as error:
                st.session_state["lens:refusal"] = str(error)
            else:
                st.session_state.pop("lens:refusal", None)
            st.rerun()
        if "lens:refusal" in st.session_state:
            st.error(escaped(st.session_state["lens:refusal"]))


def put_away() -> None:
    """Forget the uploaded matrix, here and on the Directions page."""
    st.session_state[_ROUND] += 1
    for key in (_KEPT, _FILE, "lens:refusal", DIRECTIONS_KEY):
        st.session_state.pop(key, None)


def draw_report(matrix: Uploaded) -> None:
    """Draw what was found about the matrix, and the way to the Directions page.

    Args:
        matrix: The matrix.
    """
    kind = "a Gramian" if matrix.kind == "gramian" else "a Jacobian"
    st.markdown(f"**{escaped(matrix.title)}**, {matrix.shape}, taken as {kind}.")
    passed = [verdict.sentence for verdict in matrix.verdicts if verdict.passed]
    failed = [verdict.sentence for verdict in matrix.verdicts if not verdict.passed]
    if passed:
        st.caption(escaped(" ".join(passed)))
    if failed:
        said = escaped(" ".join(failed))
        (st.warning if matrix.gramian is None else st.info)(f"{said} Nothing was repaired.")


def draw_way_to_directions(matrix: Uploaded) -> None:
    """Draw the button that opens the matrix on the Directions page.

    Args:
        matrix: One whose Gramian could be made.
    """
    if st.button("Open on the Directions page", key="lens:directions"):
        st.session_state[DIRECTIONS_KEY] = matrix.title, matrix.gramian
        st.switch_page(PAGES["directions"].path)


def _read(data: bytes, name: str, kind: Kind | None) -> Uploaded:
    """Read a file and check what it holds.

    Raises:
        UploadError: If it holds no matrix that can be read.
    """
    matrix = read_matrix(data, kind=kind)
    m = len(matrix.values)
    verdicts: tuple[Verdict, ...]
    if matrix.kind == "jacobian":
        rows = check_jacobian(matrix.values)
        verdicts, passed, drawable = rows.verdicts, rows.passed, False
    else:
        report = check_gramian(matrix.values)
        verdicts, passed = report.verdicts, report.passed
        drawable = report.square and report.finite
    shown = np.arange(m) if m <= MOST_SHOWN else evenly_spaced(m, MOST_SHOWN)
    if m > MOST_SHOWN:
        sentence = f"Figures show {MOST_SHOWN} of its {m:,} objectives, evenly spaced."
        verdicts = (*verdicts, Verdict(True, sentence))
    block = np.ix_(shown, shown)
    names = matrix.names or tuple(f"objective {place}" for place in range(1, m + 1))
    return Uploaded(
        file=name,
        title=f"{name}: {matrix.source}" if matrix.source else name,
        kind=matrix.kind,
        shape=" × ".join(f"{size:,}" for size in matrix.values.shape),
        verdicts=verdicts,
        entries=matrix.values[block].astype(np.float64) if drawable else None,
        gramian=gramian_of(matrix)[block] if passed else None,
        names=tuple(names[place] for place in shown),
        whole=len(shown) == m,
    )
