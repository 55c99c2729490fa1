"""Every row of the table of edge cases, and the page that shows it."""

import pytest
import torch

from tests.engines.edges import EDGES, Edge, markdown
from tests.structure.sources import ROOT
from tests.support.tolerances import assert_close

pytestmark = [
    # An old kind of hook, and what vmap says where it runs an operation sample by sample.
    pytest.mark.filterwarnings("ignore:Using a non-full backward hook"),
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
]
ROWS = [(edge, dtype) for edge in EDGES.values() for dtype in edge.dtypes]


@pytest.mark.parametrize(
    ("edge", "dtype"), ROWS, ids=[f"{e.id}-{str(d).removeprefix('torch.')}" for e, d in ROWS]
)
def test_row(edge: Edge, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    if edge.refused is not None:
        with pytest.raises(edge.refused) as caught:
            list(edge.run(dtype))
        assert edge.says in str(caught.value)
        return
    pairs = list(edge.run(dtype))
    assert pairs
    for found, expected in pairs:
        assert_close(found, expected, dtype)


def test_page_is_what_the_rows_say() -> None:
    page = (ROOT / "docs" / "edge-cases.md").read_text("utf-8")
    assert page == markdown(), "run `python -m tests.engines.edges` to write the page anew"
