"""Pinned: peak bytes of a call in closed form. The Jacobian exists once."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engines.aggregation import UPGrad
from engines.autojac import backward, jac, jac_to_grad
from engines.autojac.passes import default_chunk_rows
from tests.support.allocations import peak_bytes

M, WIDTH = 64, 512
N = WIDTH * WIDTH
NARROW = 256


def _mean(jacobian: Tensor) -> Tensor:
    return jacobian.mean(0)


FORMS: dict[str, Callable[[Tensor, nn.Module, int | None], object]] = {
    "aggregated": lambda y, model, chunk: backward(y, _mean, parallel_chunk_size=chunk),
    "left in .jac": lambda y, model, chunk: backward(y, parallel_chunk_size=chunk),
    "returned": lambda y, model, chunk: jac(y, model.weight, parallel_chunk_size=chunk),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [None, 1, 8, 32])
def test_the_jacobian_exists_once(form: str, chunk: int | None) -> None:
    torch.manual_seed(0)
    model = nn.Linear(WIDTH, WIDTH, bias=False)
    losses = model(torch.randn(M, WIDTH)).square().sum(1)
    rows = default_chunk_rows(M, 4 * N) if chunk is None else chunk
    assert chunk is not None or rows == 8
    found = peak_bytes(lambda: FORMS[form](losses, model, chunk))
    # The Jacobian, the gradients of a chunk, and four of its activation gradients [q, m, width]:
    # of the sum, of the square, and two of its factors.
    jacobian, gradients, activations = 4 * M * N, 4 * rows * N, 4 * rows * M * WIDTH
    assert jacobian <= found <= jacobian + gradients + 4 * activations + 4 * N


def test_jacobians_are_allocated_as_those_of_the_chunk_are_freed() -> None:
    torch.manual_seed(0)
    layers = 8
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers)))
    losses = model(torch.randn(4, WIDTH)).sum(1)
    found = peak_bytes(lambda: backward(losses, parallel_chunk_size=4, retain_graph=True))
    # Four rows of eight layers, and those of one layer twice while they are copied.
    assert found <= 4 * 4 * N * (layers + 1) + 4 * 4 * 4 * WIDTH * 8


def _model_with_jacobians() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(NARROW, NARROW, bias=False) for _ in range(4)))
    backward(model(torch.randn(M, NARROW)).sum(1))
    return model


@pytest.mark.parametrize("optimized", [False, True])
def test_gramian_without_the_matrix(optimized: bool) -> None:
    model = _model_with_jacobians()
    found = peak_bytes(
        lambda: jac_to_grad(model.parameters(), UPGrad(), optimize_gramian_computation=optimized)
    )
    matrix, entries, workspace = 4 * M * 4 * NARROW**2, 4 * 4 * NARROW**2, 4 * 2**20
    if optimized:
        # The direction and the gradients, and float64 copies of a few columns.
        assert found <= 2 * entries + workspace
    else:
        assert matrix <= found <= matrix + 3 * entries + workspace


def test_jacobians_can_be_freed_one_by_one() -> None:
    model = _model_with_jacobians()
    storages = {p.jac.untyped_storage().data_ptr() for p in model.parameters()}
    assert len(storages) == 4
    assert all(p.jac.untyped_storage().nbytes() == 4 * M * NARROW**2 for p in model.parameters())
