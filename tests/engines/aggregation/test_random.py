"""Random: softmax of standard normal numbers."""

import pytest
import torch

from engines.aggregation import Random, RandomWeighting


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_weights_are_the_softmax_of_normal_numbers() -> None:
    drawn = torch.randn(4, generator=seeded(3), dtype=torch.float64)
    expected = drawn.exp() / drawn.exp().sum()
    weights = RandomWeighting(generator=seeded(3))(torch.zeros(4, 7))
    torch.testing.assert_close(weights, expected.float())


def test_the_direction_is_the_weighted_sum() -> None:
    matrix = torch.randn(3, 5, generator=seeded(0)).double()
    weights = RandomWeighting(generator=seeded(1))(matrix @ matrix.T)
    torch.testing.assert_close(Random(generator=seeded(1))(matrix), weights @ matrix)


def test_the_dtype_does_not_change_the_draw() -> None:
    wide = RandomWeighting(generator=seeded(1))(torch.zeros(3, 3, dtype=torch.float64))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        narrow = RandomWeighting(generator=seeded(1))(torch.zeros(3, 3, dtype=dtype))
        assert torch.equal(narrow, wide.to(dtype))


def test_the_weights_are_a_mean_of_one_over_m() -> None:
    weighting = RandomWeighting(generator=seeded(0))
    drawn = torch.stack([weighting(torch.zeros(4, 4)) for _ in range(2000)])
    assert bool((drawn > 0).all())
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(2000))
    # The standard deviation of a weight is 0.17, so that of the mean is 0.004.
    torch.testing.assert_close(drawn.mean(dim=0), torch.full((4,), 0.25), rtol=0, atol=0.02)


def test_the_generator_is_used_checked_and_settable() -> None:
    aggregator = Random()
    torch.manual_seed(5)
    expected = aggregator(torch.eye(3))
    aggregator.generator = seeded(5)
    assert torch.equal(aggregator(torch.eye(3)), expected)
    assert aggregator.weighting.generator is aggregator.generator
    assert not torch.equal(aggregator(torch.eye(3)), expected)
    with pytest.raises(TypeError, match=r"torch\.Generator"):
        Random(generator=0)
    with pytest.raises(TypeError, match=r"torch\.Generator"):
        aggregator.generator = 0
    with pytest.raises(TypeError):
        Random(torch.Generator())


def test_the_direction_is_differentiable() -> None:
    matrix = torch.ones(3, 2, requires_grad=True)
    Random(generator=seeded(0))(matrix)[0].backward()
    assert matrix.grad is not None
    torch.testing.assert_close(matrix.grad.sum(dim=0), torch.tensor([1.0, 0.0]))


def test_printed_forms() -> None:
    assert (repr(Random()), str(Random())) == ("Random()", "Random")
    assert (repr(RandomWeighting()), str(RandomWeighting())) == (
        "RandomWeighting()",
        "RandomWeighting",
    )
    assert repr(Random(generator=seeded(0))).startswith("Random(generator=<torch._C.Generator")
    assert repr(RandomWeighting(generator=seeded(0))).startswith("RandomWeighting(generator=")
