"""Small cases worked out by hand."""

import pytest
import torch

from engines.aggregation import METHODS, DualProjWeighting, MGDAWeighting, UPGradWeighting

# Rows (-4, 1, 1) and (6, 1, 1): squared lengths 18 and 38, inner product -22, mean (1, 1, 1).
MATRIX = [[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]]
EXPECTED = {
    # π(g1) = g1 + (22/38) g2 and π(g2) = g2 + (22/18) g1; half their sum has weights
    # (1 + 22/18)/2 = 10/9 and (1 + 22/38)/2 = 15/19.
    "UPGrad": (10 / 9, 15 / 19),
    # g1 · mean = -2 and g2 · mean = 8: only g1 is opposed, and 18 w1 - 22/2 = 0.
    "DualProj": (11 / 18, 1 / 2),
    # (0, 1, 1) is nearest to the origin on the segment: -4 w1 + 6 w2 = 0.
    "MGDA": (3 / 5, 2 / 5),
    # With two gradients the order does not matter: twice UPGrad.
    "PCGrad": (20 / 9, 30 / 19),
    "Mean": (1 / 2, 1 / 2),
    "Sum": (1.0, 1.0),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_two_gradients(name: str) -> None:
    matrix = torch.tensor(MATRIX, dtype=torch.float64)
    weights = METHODS[name].weighting(2)(matrix @ matrix.T)
    expected = torch.tensor(EXPECTED[name], dtype=torch.float64)
    torch.testing.assert_close(weights, expected, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(
        METHODS[name].make()(matrix), expected @ matrix, rtol=1e-12, atol=1e-13
    )


def test_preferences() -> None:
    # As above with p = (1, 3): UPGrad adds π(g1) + 3 π(g2), so w1 = 1 + 3 · 22/18 and
    # w2 = 22/38 + 3. g1 + 3 g2 = (14, 4, 4) has inner product -48 with g1: 18 w1 = 3 · 22.
    gramian = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
    preferences = torch.tensor([1.0, 3.0])
    for weighting, expected in (
        (UPGradWeighting(preferences), (14 / 3, 68 / 19)),
        (DualProjWeighting(preferences), (11 / 3, 3.0)),
    ):
        wanted = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(weighting(gramian), wanted, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", ["UPGrad", "DualProj", "MGDA", "PCGrad"])
def test_opposed_gradients_cancel(name: str) -> None:
    # The only direction that hurts neither is 0; PCGrad projects each to 0 too.
    matrix = torch.tensor([[1.0, 2.0], [-2.0, -4.0]], dtype=torch.float64)
    torch.testing.assert_close(
        METHODS[name].make()(matrix), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # g1 = (1, 0), g2 = 0, g3 = (-1, 1). π(g1) = (1/2, 1/2), π(g2) = 0, π(g3) = (0, 1).
        ("UPGrad", (1 / 6, 1 / 2)),
        # The mean (0, 1/3) hurts nobody.
        ("DualProj", (0.0, 1 / 3)),
        # The hull contains 0.
        ("MGDA", (0.0, 0.0)),
        # π(g1) + π(g3); the zero gradient is passed over.
        ("PCGrad", (1 / 2, 3 / 2)),
        ("Mean", (0.0, 1 / 3)),
        ("Sum", (0.0, 1.0)),
    ],
)
def test_a_zero_gradient_blocks_nothing(name: str, expected: tuple[float, float]) -> None:
    matrix = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(
        METHODS[name].make()(matrix),
        torch.tensor(expected, dtype=torch.float64),
        rtol=1e-12,
        atol=1e-13,
    )


def test_indefinite_gramian() -> None:
    # Cosines above 1 come from rounding; the nearest Gramian is that of two equal gradients.
    gramian = torch.tensor([[1.0, 1.001], [1.001, 1.0]])
    for weighting in (UPGradWeighting(), DualProjWeighting()):
        torch.testing.assert_close(weighting(gramian), torch.tensor([0.5, 0.5]))
    assert MGDAWeighting()(gramian).sum() == pytest.approx(1.0)
