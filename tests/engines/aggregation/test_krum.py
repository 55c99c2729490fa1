"""Krum: the gradients whose neighbours are nearest."""

import pytest
import torch
from torch import Tensor

from engines.aggregation import METHODS, Krum, KrumWeighting
from engines.errors import NonFiniteGradientError


def random_matrix(m: int, n: int, seed: int) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def transcribed(matrix: Tensor, n_byzantine: int, n_selected: int) -> Tensor:
    """Section 4 of the paper, row by row on the Jacobian."""
    m = len(matrix)
    scores = []
    for i in range(m):
        distances = sorted(
            float((matrix[i] - matrix[j]).square().sum()) for j in range(m) if j != i
        )
        scores.append((sum(distances[: m - n_byzantine - 2]), i))
    return matrix[[i for _, i in sorted(scores)[:n_selected]]].mean(dim=0)


def test_squared_distances_decide() -> None:
    # On a line: 0, 5, 8, 8.2, 14; two neighbours count. Squared: 25 + 64 = 89, 9 + 10.24 = 19.24,
    # 0.04 + 9 = 9.04, 0.04 + 10.24 = 10.28, 33.64 + 36 = 69.64, so 8, then 8.2, then 5.
    matrix = torch.tensor([[0.0], [5.0], [8.0], [8.2], [14.0]], dtype=torch.float64)
    gramian = matrix @ matrix.T
    for n_selected, rows in ((1, [2]), (2, [2, 3]), (3, [1, 2, 3])):
        expected = torch.zeros(5, dtype=torch.float64)
        expected[rows] = 1 / n_selected
        assert torch.equal(KrumWeighting(1, n_selected)(gramian), expected)


def test_plain_distances_would_select_another() -> None:
    # Two neighbours count. Squared: 0.01 + 8.41 = 8.42 for 0.1 and 2.56 + 2.56 = 5.12 for 101.6,
    # the best of either group. Plain: 3.0 and 3.2.
    matrix = torch.tensor([[0.0], [0.1], [3.0], [100.0], [101.6], [103.2]], dtype=torch.float64)
    assert torch.equal(Krum(2)(matrix), matrix[4])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("n_byzantine", "n_selected"), [(0, 1), (1, 2), (3, 4)])
def test_against_the_definition(seed: int, n_byzantine: int, n_selected: int) -> None:
    matrix = random_matrix(7, 4, seed)
    torch.testing.assert_close(
        Krum(n_byzantine, n_selected)(matrix), transcribed(matrix, n_byzantine, n_selected)
    )


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
def test_a_gramian_of_any_size(scale: float) -> None:
    matrix = random_matrix(6, 4, 0)
    gramian = matrix @ matrix.T
    gramian = gramian / gramian.abs().max()
    assert torch.equal(KrumWeighting(1)(gramian * scale), KrumWeighting(1)(gramian))


def test_equal_scores_go_to_the_first() -> None:
    # Only the nearest counts, and the second and third are each other's nearest.
    matrix = torch.tensor([[5.0], [1.0], [2.0]])
    assert torch.equal(Krum(0)(matrix), torch.tensor([1.0]))
    assert torch.equal(Krum(0)(matrix[[0, 2, 1]]), torch.tensor([2.0]))


def test_duplicates_stay_together_beside_long_gradients() -> None:
    # Rounding leaves the squared distance of copies below zero; it counts as 0.
    row = random_matrix(1, 30, 1)
    matrix = torch.cat([1e6 * random_matrix(2, 30, 2), row, row, row])
    assert torch.equal(Krum(1)(matrix), row[0])


def test_it_is_not_linear_under_scaling() -> None:
    # 0.9, 1 and 3: the first two are nearest; with the first ten times as long, the last two.
    matrix = torch.tensor([[0.9], [1.0], [3.0]])
    scale = torch.tensor([[10.0], [1.0], [1.0]])
    assert torch.equal(Krum(0)(matrix), torch.tensor([0.9]))
    assert torch.equal(Krum(0)(scale * matrix), torch.tensor([1.0]))


def test_the_direction_is_differentiable_through_the_rows() -> None:
    matrix = torch.tensor([[5.0, 0.0], [1.0, 0.0], [2.0, 0.0]], requires_grad=True)
    Krum(0)(matrix).sum().backward()
    assert matrix.grad is not None
    assert torch.equal(matrix.grad, torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))


def test_too_few_objectives_are_refused() -> None:
    for m in (0, 1, 4):
        with pytest.raises(ValueError, match=rf"got {m} objective\(s\) for Krum, .* least 5"):
            Krum(2)(torch.zeros(m, 2))
    with pytest.raises(ValueError, match=r"at least 6 \(n_selected"):
        KrumWeighting(0, 6)(torch.eye(5))
    with pytest.raises(NonFiniteGradientError, match="rows 1"):
        Krum(0)(torch.tensor([[1.0], [float("nan")], [2.0]]))


@pytest.mark.parametrize("method", [Krum, KrumWeighting])
def test_the_parameters_are_checked_and_settable(method: type[Krum]) -> None:
    instance = method(1)
    for name, least in (("n_byzantine", 0), ("n_selected", 1)):
        for bad, error in ((least - 1, ValueError), (1.0, TypeError), (True, TypeError)):
            with pytest.raises(error, match=f"{name}=.*expected"):
                method(**{"n_byzantine": 1, name: bad})
            with pytest.raises(error, match=f"{name}=.*expected"):
                setattr(instance, name, bad)
    instance.n_byzantine, instance.n_selected = 0, 2
    assert (instance.n_byzantine, instance.n_selected) == (0, 2)
    assert repr(instance) == f"{method.__name__}(n_byzantine=0, n_selected=2)"
    assert str(instance) == f"{method.__name__}0-2"


def test_example_arguments() -> None:
    assert [METHODS["Krum"].arguments(m)["n_byzantine"] for m in (3, 4, 9)] == [0, 1, 1]
    assert METHODS["Krum"].least_objectives == 3
