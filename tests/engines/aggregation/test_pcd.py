"""PCD: its cases, its definition on the Jacobian itself, its memory."""

from pathlib import Path

import numpy as np
import pytest
import quadprog
import torch
from torch import Tensor

from engines.aggregation import PCD, PCDWeighting
from engines.errors import NonFiniteGradientError
from tests.support.matrices import SampledMatrix, sample, sampled_matrices


def wide(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("rows", "tau", "expected"),
    [
        # Lengths 2 and √2, so g̃1 = (1, 0), g̃2 = (-1, 1)/√2 and their product is -1/√2. The
        # condition wants 1/2: μ = 1/2 + 1/√2 and d = (1, 0) + (1/2 + 1/√2) g̃2, that is
        # (1/2 - 1/√8, 1/2 + 1/√8), of length √(3/4).
        (
            [[2.0, 0.0], [-1.0, 1.0]],
            0.5,
            [2 * (0.5 - 8**-0.5) / 0.75**0.5, 2 * (0.5 + 8**-0.5) / 0.75**0.5],
        ),
        # No condition is active.
        ([[3.0, 4.0], [1.0, 1.0]], 0.02, [3.0, 4.0]),
        # The second asks for 1/2 along its own axis: d = (1, 1/2), of length √5/2.
        ([[1.0, 0.0], [0.0, 7.0]], 0.5, [2 / 5**0.5, 1 / 5**0.5]),
        # Opposed to the primary: d = -τ g̃1, and its length is |g1| again.
        ([[5.0], [-1.0]], 0.02, [-5.0]),
        # At τ = 0 nothing is left of it.
        ([[5.0], [-1.0]], 0.0, [0.0]),
        # Opposed secondary gradients: no d, so g1, which conflicts with the last.
        ([[3.0, 1.0], [0.0, 1.0], [0.0, -2.0]], 0.02, [3.0, 1.0]),
        # At τ = 0 the two leave the plane between them.
        ([[3.0, 1.0], [0.0, 1.0], [0.0, -2.0]], 0.0, [10**0.5, 0.0]),
        # A zero gradient has nothing to ask for.
        ([[1.0, 0.0], [0.0, 0.0], [0.0, 7.0]], 0.5, [2 / 5**0.5, 1 / 5**0.5]),
        # Without a primary gradient there is nothing to follow.
        ([[0.0, 0.0], [1.0, 2.0]], 0.5, [0.0, 0.0]),
        ([[-2.0, 0.5]], 1.0, [-2.0, 0.5]),
    ],
)
def test_pinned(rows: list[list[float]], tau: float, expected: list[float]) -> None:
    found = PCD(tau=tau, eps=0.0)(wide(rows))
    torch.testing.assert_close(found, wide([expected])[0], rtol=1e-12, atol=1e-12)


def test_one_share_for_each_secondary_objective() -> None:
    # Each asks along its own axis, in proportion to its share.
    matrix = 2.0 * torch.eye(3, dtype=torch.float64)
    aggregator = PCD(tau=torch.tensor([0.5, 0.25]), eps=0.0)
    expected = wide([[1.0, 0.5, 0.25]])[0]
    expected *= 2.0 / expected.norm()
    torch.testing.assert_close(aggregator(matrix), expected, rtol=1e-12, atol=1e-12)
    for m in (1, 2, 4):
        with pytest.raises(ValueError, match=f"2 entries for {m} objectives"):
            aggregator(torch.eye(m))


class Reference:
    """The definition, with d itself as the variable."""

    def __init__(self, tau: float, beta: float, eps: float) -> None:
        self.tau, self.beta, self.eps = tau, beta, eps
        self.average, self.calls = 0.0, 0

    def __call__(self, matrix: np.ndarray) -> np.ndarray:
        squares = (matrix**2).sum(axis=1)
        self.calls += 1
        self.average = self.beta * self.average + (1.0 - self.beta) * squares
        corrected = self.average / (1.0 - self.beta**self.calls)
        normalised = matrix / np.sqrt(corrected + self.eps)[:, None]
        asked = self.tau * (normalised[1:] ** 2).sum(axis=1)
        try:
            identity = np.eye(matrix.shape[1])
            d = quadprog.solve_qp(identity, normalised[0], normalised[1:].T.copy(), asked)[0]
        except ValueError as error:
            if "inconsistent" not in str(error):
                raise
            d = normalised[0]
        return np.asarray(d / np.linalg.norm(d) * np.sqrt(squares[0]))


@pytest.mark.parametrize("m", [2, 3, 6, 15])
@pytest.mark.parametrize(
    ("tau", "beta", "eps"), [(0.02, 0.999, 1e-8), (0.5, 0.5, 0.0), (1.0, 0.0, 1e-2)]
)
def test_is_its_definition_over_several_calls(m: int, tau: float, beta: float, eps: float) -> None:
    rng = np.random.default_rng([m, int(100 * tau)])
    for n in (m // 2 + 1, 2 * m):
        aggregator, reference = PCD(tau, beta, eps), Reference(tau, beta, eps)
        for _ in range(6):
            matrix = rng.normal(size=(m, n)) * np.exp(rng.normal(size=(m, 1)))
            found = aggregator(torch.from_numpy(matrix)).numpy()
            atol = 1e-8 * float(np.linalg.norm(matrix[0]))
            np.testing.assert_allclose(found, reference(matrix), rtol=1e-8, atol=atol)


@pytest.mark.parametrize(
    "sampled", [s for s in sampled_matrices() if len(s.matrix) > 1], ids=lambda s: s.name
)
def test_secondary_objectives_improve_unless_all_are_dropped(sampled: SampledMatrix) -> None:
    matrix = torch.from_numpy(sampled.matrix)
    weights = PCDWeighting(tau=0.1)(matrix @ matrix.T)
    direction = PCD(tau=0.1)(matrix)
    assert float(direction.norm()) == pytest.approx(float(matrix[0].norm()), rel=1e-9)
    cosines = matrix @ direction / matrix.norm(dim=1) / direction.norm()
    assert float(cosines[1:].min()) > 0 or torch.equal(weights, torch.eye(len(matrix))[0].double())


def test_never_conflicts_at_tau_zero() -> None:
    for sampled in sampled_matrices():
        matrix = torch.from_numpy(sampled.matrix)
        weights = PCDWeighting(tau=0.0)(matrix @ matrix.T)
        direction = PCD(tau=0.0)(matrix)
        cancelled = float(direction.norm() / (weights @ matrix.norm(dim=1)).clamp(min=1e-300))
        if cancelled > 1e-6:
            cosines = matrix @ direction / matrix.norm(dim=1) / direction.norm()
            assert float(cosines.min()) > -1e-6


def test_short_gradients_are_no_longer_in_proportion() -> None:
    # The square of the primary gradient is eps, so g̃1 = g1/√(2 eps), of length 1/√2, while g̃2
    # has length 1: the condition weighs more than it would on gradients of one scale.
    matrix = wide([[1e-4, 0.0], [0.0, 1.0]])
    expected = 1e-4 * wide([[1.0, 0.5 * 2**0.5]])[0] / 1.5**0.5
    torch.testing.assert_close(PCD(tau=0.5)(matrix), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-20, 1e20, 1e200, 1e300])
def test_every_size_of_gradients(size: float) -> None:
    matrix = torch.from_numpy(sample((5, 20, 5), 1e3, "random", seed=0).matrix) / 1e3
    aggregator, twin = PCD(tau=0.1, eps=0.0), PCD(tau=0.1, eps=0.0)
    for factor in (1.0, 0.5, 2.0):
        found = aggregator(factor * size * matrix) / size
        torch.testing.assert_close(found, twin(factor * matrix), rtol=1e-9, atol=1e-12)


def test_sizes_may_change_from_call_to_call() -> None:
    aggregator = PCD(tau=0.1, beta=0.5)
    for size in (1e200, 1e-200, 1.0, 0.0, 1e-300):
        direction = aggregator(size * wide([[1.0, 0.0], [-1.0, 1.0], [0.0, -3.0]]))
        assert torch.isfinite(direction).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_opposed_rows_in_the_digits_of_a_gramian(dtype: torch.dtype) -> None:
    # g3 = -3 g2 up to the rounding of the Gramian: the conditions are dropped.
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        matrix = torch.randn(3, 40, generator=generator)
        matrix[2] = -3.0 * matrix[1]
        gramian = (matrix @ matrix.T).to(dtype)
        assert torch.equal(PCDWeighting()(gramian), torch.tensor([1.0, 0.0, 0.0], dtype=dtype))


def test_the_average_is_corrected_and_remembered() -> None:
    # β = 1/2 and |g2|² = 1, then 4: the average is 1/2 · 1/2 + 1/2 · 4 = 9/4, corrected by 3/4 to
    # 3, so g̃2 has length 2/√3; g̃1 has length 1. d = (1, τ · 2/√3).
    aggregator = PCD(tau=0.75**0.5, beta=0.5, eps=0.0)
    aggregator(wide([[1.0, 0.0], [0.0, 1.0]]))
    found = aggregator(wide([[1.0, 0.0], [0.0, 2.0]]))
    torch.testing.assert_close(found, wide([[0.5**0.5, 0.5**0.5]])[0], rtol=1e-13, atol=0)


def test_another_number_of_objectives_starts_afresh() -> None:
    matrix = torch.from_numpy(sample((4, 3, 3), 1e3, "random", seed=1).matrix)
    aggregator = PCD(tau=0.3)
    first = aggregator(matrix)
    aggregator(5.0 * matrix[:3])
    assert torch.equal(aggregator(matrix), first)


def test_state_travels_through_a_file(tmp_path: Path) -> None:
    matrices = [torch.from_numpy(sample((4, 3, 3), 1e3, "random", seed=k).matrix) for k in range(3)]
    aggregator, twin = PCD(tau=0.3, beta=0.5), PCD(tau=0.3, beta=0.5)
    for matrix in matrices[:2]:
        aggregator(matrix)
    torch.save(aggregator.state_dict(), tmp_path / "state.pt")
    twin.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(aggregator(matrices[2]), twin(matrices[2]))
    aggregator.reset()
    assert torch.equal(aggregator(matrices[0]), PCD(tau=0.3, beta=0.5)(matrices[0]))


def test_refused_calls_leave_the_averages_alone() -> None:
    first, other = wide([[1.0, 0.0], [-1.0, 3.0]]), wide([[0.0, 2.0], [4.0, -1.0]])
    aggregator, twin = PCD(tau=0.5, beta=0.5), PCD(tau=0.5, beta=0.5)
    aggregator(first)
    twin(first)
    with pytest.raises(NonFiniteGradientError, match=r"rows 1\)"):
        aggregator(wide([[1.0, 0.0], [float("inf"), 3.0]]))
    aggregator.tau = torch.ones(3)
    with pytest.raises(ValueError, match="3 entries for 2 objectives"):
        aggregator(5.0 * first)
    aggregator.tau = 0.5
    with pytest.raises(ValueError, match="expected squared norms"):
        aggregator.gramian_weighting(wide([[1.0, 0.0], [0.0, -1.0]]))
    assert torch.equal(aggregator(other), twin(other))


@pytest.mark.parametrize("make", [PCD, PCDWeighting])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("tau", -0.1, ValueError),
        ("tau", 1.5, ValueError),
        ("tau", float("nan"), ValueError),
        ("tau", torch.tensor([0.5, 1.5]), ValueError),
        ("tau", torch.tensor([0.5, -0.5]), ValueError),
        ("tau", torch.tensor([0.5, float("nan")]), ValueError),
        ("tau", torch.tensor(0.5), ValueError),
        ("tau", [0.5, 0.5], TypeError),
        ("tau", None, TypeError),
        ("beta", 1.0, ValueError),
        ("beta", -0.1, ValueError),
        ("eps", -1e-9, ValueError),
        ("eps", float("inf"), ValueError),
        ("eps", "small", TypeError),
    ],
)
def test_parameters_are_checked(
    make: type[PCD], name: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match="expected"):
        make(**{name: value})
    instance = make()
    before = repr(instance)
    with pytest.raises(error, match="expected"):
        setattr(instance, name, value)
    assert repr(instance) == before


def test_printed_forms() -> None:
    assert repr(PCD()) == "PCD(tau=0.02, beta=0.999, eps=1e-08)"
    assert str(PCD()) == "PCD"
    shown = "PCDWeighting(tau=tensor([0.5000, 0.2500]), beta=0.9, eps=0.0)"
    assert repr(PCDWeighting(torch.tensor([0.5, 0.25]), 0.9, 0.0)) == shown


def test_set_parameters_take_effect() -> None:
    aggregator = PCD()
    aggregator.tau, aggregator.beta, aggregator.eps = torch.tensor([0.5]), 0.5, 0
    assert aggregator.gramian_weighting.beta == 0.5
    found = aggregator(wide([[1.0, 0.0], [0.0, 7.0]]))
    torch.testing.assert_close(found, wide([[2 / 5**0.5, 1 / 5**0.5]])[0], rtol=1e-13, atol=0)


def test_secondary_gradients_opposed_up_to_rounding_leave_the_primary() -> None:
    # Opposed within 6e-8: no direction gives both progress that the Gramian could tell.
    matrix = np.random.default_rng(36).normal(size=(3, 3))
    matrix[2] = -matrix[1] + 6e-8 * matrix[2]
    direction = PCD(tau=0.5)(torch.from_numpy(matrix))
    torch.testing.assert_close(direction, torch.from_numpy(matrix[0]))
