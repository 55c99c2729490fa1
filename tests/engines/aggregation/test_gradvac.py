"""GradVac: cosines raised to their moving average."""

import copy
import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.aggregation import GradVac, GradVacWeighting, PCGrad
from engines.errors import NonFiniteGradientError
from tests.support.matrices import SampledMatrix, sample, sampled_matrices

Array = NDArray[np.float64]
MATRICES = sampled_matrices()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Transcribed:
    """Algorithm 1 of the paper, vector by vector, without eps."""

    def __init__(self, m: int, beta: float, generator: torch.Generator) -> None:
        self.usual = np.zeros((m, m))
        self.beta = beta
        self.generator = generator

    def __call__(self, matrix: Array) -> Array:
        m = len(matrix)
        total = np.zeros(matrix.shape[1])
        orders = [torch.randperm(m, generator=self.generator).tolist() for _ in range(m)]
        for i, order in enumerate(orders):
            gradient = matrix[i].copy()
            for j in order:
                if j == i:
                    continue
                lengths = np.linalg.norm(gradient), np.linalg.norm(matrix[j])
                phi = float(gradient @ matrix[j]) / (lengths[0] * lengths[1])
                hat = self.usual[i, j]
                if phi < hat:
                    sines = np.sqrt(1 - phi**2), np.sqrt(1 - hat**2)
                    change = lengths[0] * (hat * sines[0] - phi * sines[1])
                    gradient = gradient + change / (lengths[1] * sines[1]) * matrix[j]
                self.usual[i, j] = (1 - self.beta) * hat + self.beta * phi
            total += gradient
        return total


def test_two_calls() -> None:
    # (1, 0) and (1, 1): cosine 1/√2, no correction, φ̂ = 1/√8. Then (1, 0) and (0, 1): to bring
    # the cosine from 0 to 1/√8 takes tan = 1/√7 of the other.
    aggregator = GradVac()
    first = aggregator(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    assert torch.equal(first, torch.tensor([2.0, 1.0]))
    second = aggregator(torch.eye(2))
    torch.testing.assert_close(second, torch.full((2,), 1 + 7**-0.5))
    # φ̂ is now 1/√32 ≈ 0.18, below the cosine of these.
    third = aggregator(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    assert torch.equal(third, torch.tensor([2.0, 2.0]))


@pytest.mark.parametrize("beta", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(2, 3, 2), (4, 3, 3), (5, 20, 5), (9, 11, 5)])
def test_several_calls_against_the_algorithm(shape: tuple[int, int, int], beta: float) -> None:
    aggregator = GradVac(beta, 0.0, generator=seeded(1))
    reference = Transcribed(shape[0], beta, seeded(1))
    for step, conflict in enumerate(["none", "random", "strong", "random"]):
        matrix = sample(shape, 10.0, conflict, seed=step).matrix
        found = aggregator(torch.from_numpy(matrix)).numpy()
        np.testing.assert_allclose(found, reference(matrix), rtol=1e-8, atol=1e-8)
    state = aggregator.gramian_weighting.get_extra_state()["_usual_cosines"]
    np.testing.assert_allclose(state.numpy(), reference.usual, atol=1e-10)


@pytest.mark.parametrize(
    "sampled", [s for s in MATRICES if s.conflict != "stationary"], ids=lambda s: s.name
)
def test_the_first_call_is_pcgrad(sampled: SampledMatrix) -> None:
    matrix = torch.from_numpy(sampled.matrix)
    found = GradVac(generator=seeded(4))(matrix)
    expected = PCGrad(generator=seeded(4))(matrix)
    limit = 1e-7 * len(matrix) * sampled.ratio
    torch.testing.assert_close(found, expected, rtol=0, atol=limit)


def test_beta_zero_stays_pcgrad() -> None:
    vaccine, projection = GradVac(0.0, generator=seeded(2)), PCGrad(generator=seeded(2))
    for seed in range(3):
        matrix = torch.from_numpy(sample((5, 20, 5), 1.0, "random", seed).matrix)
        torch.testing.assert_close(vaccine(matrix), projection(matrix), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e6])
def test_small_gradients_are_corrected_as_large_ones(size: float) -> None:
    matrices = [torch.from_numpy(sample((4, 9, 4), 1e3, "random", s).matrix) for s in range(3)]
    one, other = GradVac(generator=seeded(0)), GradVac(generator=seeded(0))
    for matrix in matrices:
        expected = one(matrix)
        torch.testing.assert_close(other(matrix * size) / size, expected, rtol=1e-10, atol=1e-10)


def test_linear_under_scaling_with_the_same_memory() -> None:
    aggregator = GradVac(generator=seeded(0))
    for seed in range(3):
        aggregator(torch.from_numpy(sample((5, 20, 5), 1.0, "none", seed).matrix))
    matrix = torch.from_numpy(sample((5, 20, 5), 1e3, "random", 7).matrix)
    one, other = torch.rand(2, 5, 1, generator=seeded(3), dtype=torch.float64)
    parts = []
    for scale in (one, other, one + other):
        twin = copy.deepcopy(aggregator)
        twin.generator = seeded(5)
        parts.append(twin(scale * matrix))
    torch.testing.assert_close(parts[0] + parts[1], parts[2], rtol=1e-9, atol=1e-9)


def test_cosines_near_one_do_not_blow_up() -> None:
    same = torch.ones(6, 8, dtype=torch.float64)
    for eps in (1e-8, 0.0):
        aggregator = GradVac(1.0, eps, generator=seeded(0))
        for _ in range(100):
            torch.testing.assert_close(aggregator(same), 6 * same[0])
        # Every φ̂ is 1, and the gradients are suddenly orthogonal: each of 30 pairs adds at most
        # 100 times a gradient.
        direction = aggregator(torch.eye(6, 8, dtype=torch.float64))
        assert bool(torch.isfinite(direction).all())
        assert 100 < float(direction.norm()) < 30 * 100 + 6


@pytest.mark.parametrize("eps", [1e-8, 0.0])
def test_gradients_that_vanish_are_passed_over(eps: float) -> None:
    # Opposed: each is projected to 0, and then has no cosine with the third.
    matrix = torch.tensor([[1.0, 2.0, 0.0], [-1.0, -2.0, 0.0], [0.0, 0.0, 1.0]]).double()
    for seed in range(6):
        aggregator = GradVac(eps=eps, generator=seeded(seed))
        torch.testing.assert_close(aggregator(matrix), matrix[2], rtol=0, atol=1e-7)
        state = aggregator.gramian_weighting.get_extra_state()["_usual_cosines"]
        expected = torch.tensor([[0.0, -0.5, 0.0], [-0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]).double()
        torch.testing.assert_close(state, expected, rtol=0, atol=1e-7)


def test_a_zero_gradient_leaves_the_memory_of_its_pairs() -> None:
    aggregator = GradVac(generator=seeded(0))
    full = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    aggregator(full)
    before = aggregator.gramian_weighting.get_extra_state()["_usual_cosines"].clone()
    full[1] = 0.0
    aggregator(full)
    after = aggregator.gramian_weighting.get_extra_state()["_usual_cosines"]
    assert torch.equal(after[1], before[1])
    assert torch.equal(after[:, 1], before[:, 1])


def test_reset_and_another_number_of_objectives_start_afresh() -> None:
    close, orthogonal = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.eye(2)
    for method in (GradVac, GradVacWeighting):
        instance = method()
        fresh = instance(orthogonal)
        instance.reset()
        instance(close @ close.T)
        assert not torch.equal(instance(orthogonal), fresh)
        instance.reset()
        assert torch.equal(instance(orthogonal), fresh)
        instance(close @ close.T)
        instance(torch.eye(3))
        assert torch.equal(instance(orthogonal), fresh)


def test_a_call_that_raises_changes_nothing() -> None:
    aggregator = GradVac(generator=seeded(0))
    aggregator(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    twin = copy.deepcopy(aggregator)
    with pytest.raises(NonFiniteGradientError, match="rows 1"):
        aggregator(torch.tensor([[1.0, 0.0], [float("nan"), 1.0]]))
    with pytest.raises(ValueError, match="row 0"):
        aggregator.gramian_weighting(-torch.eye(2))
    twin.generator, aggregator.generator = seeded(1), seeded(1)
    assert torch.equal(aggregator(torch.eye(2)), twin(torch.eye(2)))


def test_the_state_can_be_saved_and_loaded() -> None:
    aggregator = GradVac()
    aggregator(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    file = io.BytesIO()
    torch.save(aggregator.state_dict(), file)
    file.seek(0)
    other = GradVac()
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(other(torch.eye(2)), torch.full((2,), 1 + 7**-0.5))


def test_the_order_matters() -> None:
    matrix = torch.from_numpy(sample((6, 3, 3), 1.0, "strong", seed=1).matrix)
    one = GradVac(generator=seeded(0))(matrix)
    other = GradVac(generator=seeded(0))(matrix.flip(0))
    assert float((one - other).norm()) > 0.05


@pytest.mark.parametrize("method", [GradVac, GradVacWeighting])
def test_the_parameters_are_checked_and_settable(method: type[GradVac]) -> None:
    instance = method()
    for name, bad, error in (
        ("beta", -0.1, ValueError),
        ("beta", 1.1, ValueError),
        ("beta", "0.5", TypeError),
        ("eps", -1e-9, ValueError),
        ("eps", None, TypeError),
        ("generator", 0, TypeError),
    ):
        with pytest.raises(error, match=f"{name}.*expected"):
            method(**{name: bad})
        with pytest.raises(error, match=f"{name}.*expected"):
            setattr(instance, name, bad)
    with pytest.raises(TypeError):
        method(0.5, 1e-8, seeded(0))
    name = method.__name__
    assert (str(instance), repr(instance)) == (name, f"{name}(beta=0.5, eps=1e-08)")
    instance.beta, instance.eps, instance.generator = 1, 0, seeded(0)
    assert (instance.beta, instance.eps) == (1, 0)
    assert repr(instance).startswith(f"{name}(beta=1, eps=0, generator=<torch._C.Generator")
