import numpy as np
import pytest

from jdviz.layers import conflict_shares, pair_shares


def split() -> dict[str, np.ndarray]:
    """A Gramian of three objectives, split over two modules."""
    return {
        # In the sum: (0, 1) is -3 + 1 = -2, (0, 2) is 1 + 1 = 2, (1, 2) is -1 + 0.5 = -0.5.
        "body": np.array([[4.0, -3.0, 1.0], [-3.0, 4.0, -1.0], [1.0, -1.0, 1.0]]),
        "head": np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 0.5], [1.0, 0.5, 4.0]]),
    }


def test_parts_by_hand() -> None:
    found = conflict_shares(split())
    assert found.paths == ("body", "head")
    np.testing.assert_allclose(found.conflict, [-4.0, 1.5])
    np.testing.assert_allclose(found.agreement, [1.0, 1.0])
    np.testing.assert_allclose(found.rates, [2 / 3, 0.0])
    # -3 / √(4·4) in the body; 0.5 / √(2·4) in the head.
    np.testing.assert_allclose(found.least_cosines, [-0.75, 0.5 / np.sqrt(8)])


@pytest.mark.parametrize("seed", range(4))
def test_parts_add_up_to_the_gramian(seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(5, 9, 3))
    shares = {str(place): part @ part.T for place, part in enumerate(rows)}
    whole = sum(shares.values())
    upper = whole[np.triu_indices(9, k=1)]
    found = conflict_shares(shares)
    assert found.conflict.sum() == pytest.approx(upper[upper < 0].sum(), rel=1e-12)
    assert found.agreement.sum() == pytest.approx(upper[upper > 0].sum(), rel=1e-12)
    for i, j in ((0, 1), (3, 3)):
        assert sum(pair_shares(shares, i, j).values()) == pytest.approx(whole[i, j], rel=1e-12)


def test_nothing_split() -> None:
    found = conflict_shares({})
    assert found.paths == ()
    assert found.conflict.shape == found.rates.shape == (0,)
    assert np.isnan(conflict_shares({"a": np.zeros((2, 2))}).least_cosines).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"share of shape \(3, 3\) for b, expected \(2, 2\)"):
        conflict_shares({"a": np.eye(2), "b": np.eye(3)})
    with pytest.raises(ValueError, match="expected a square matrix"):
        pair_shares({"a": np.zeros((2, 3))}, 0, 1)
    for pair in ((0, 3), (-1, 0)):
        with pytest.raises(ValueError, match="expected places from 0 to 2"):
            pair_shares(split(), *pair)
