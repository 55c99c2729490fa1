"""Every row of the table of edge cases, and the page that shows it."""

import pytest
import torch
from torch import nn

from engines.autogram import Engine
from engines.errors import BatchMixedError
from tests.engines.edges import EDGES, Edge, markdown
from tests.engines.edges import autogram as rows
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


MIXED = [edge for edge in EDGES.values() if edge.refused is BatchMixedError]


@pytest.mark.parametrize("edge", MIXED, ids=lambda edge: edge.id)
def test_what_mixes_is_exact_without_a_batch_dimension(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Exact with `batch_dim=None`" in edge.why

    def whole(*modules: nn.Module, batch_dim: int | None) -> Engine:
        return Engine(*modules, batch_dim=None)

    monkeypatch.setattr(rows, "Engine", whole)
    torch.manual_seed(0)
    for found, expected in edge.run(torch.float64):
        assert_close(found, expected)


def test_page_is_what_the_rows_say() -> None:
    page = (ROOT / "docs" / "edge-cases.md").read_text("utf-8")
    assert page == markdown(), "run `python -m tests.engines.edges` to write the page anew"
