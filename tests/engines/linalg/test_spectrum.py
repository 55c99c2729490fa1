"""The rank of a Gramian, and a factor of it that keeps the digits of short gradients."""

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.errors import NonFiniteGradientError, SolverError
from engines.linalg.spectrum import cosine_spectrum, graded_factor, lapack
from tests.support.matrices import SampledMatrix, gramian_of, sampled_matrices

Array = NDArray[np.float64]
MATRICES = sampled_matrices()


def expected_rank(sampled: SampledMatrix) -> int:
    """A stationary square one loses one rank to the row that balances the others."""
    lost = sampled.conflict == "stationary" and 1 < len(sampled.matrix) == sampled.rank
    return sampled.rank - lost


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sampled", MATRICES, ids=lambda s: s.name)
def test_the_rank_survives_rounding(sampled: SampledMatrix, dtype: type[np.floating]) -> None:
    matrix = sampled.matrix.astype(dtype).astype(np.float64)
    spectrum = cosine_spectrum(gramian_of(matrix))
    assert len(spectrum.values) == expected_rank(sampled)
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    rebuilt = (spectrum.vectors * spectrum.values) @ spectrum.vectors.T
    np.testing.assert_allclose(rebuilt, unit @ unit.T, atol=1e-12)


@pytest.mark.parametrize("sampled", MATRICES, ids=lambda s: s.name)
def test_the_factor_keeps_the_digits_of_each_gradient(sampled: SampledMatrix) -> None:
    gramian = gramian_of(sampled.matrix)
    spectrum = cosine_spectrum(gramian)
    q, r, lengths = graded_factor(spectrum)
    rank = len(spectrum.values)
    np.testing.assert_allclose(q.T @ q, np.eye(rank), atol=1e-14)
    np.testing.assert_allclose(r, np.triu(r), rtol=0)
    # Each entry is as exact as the lengths of its two gradients allow.
    factor = q @ r * spectrum.norms.max()
    relative = (factor @ factor.T - gramian) / np.outer(spectrum.norms, spectrum.norms)
    assert float(np.abs(relative).max()) < 1e-12
    np.testing.assert_allclose(lengths, spectrum.norms / spectrum.norms.max())


def test_zero_gradients_are_left_out() -> None:
    spectrum = cosine_spectrum(np.diag([4.0, 0.0, 9.0]))
    assert spectrum.rows.tolist() == [0, 2]
    assert spectrum.norms.tolist() == [2.0, 3.0]
    assert spectrum.values.tolist() == [1.0, 1.0]
    for m in (0, 3):
        empty = cosine_spectrum(np.zeros((m, m)))
        assert (len(empty.rows), len(empty.values)) == (0, 0)


def test_eigenvalues_below_zero_measure_the_rounding() -> None:
    # The cosine 1.001 gives the eigenvalues 2.001 and -0.001; one of 0.0015 is no larger than
    # twice that, one of 0.3 is.
    gramian = np.eye(4)
    gramian[0, 1] = gramian[1, 0] = 1.001
    gramian[2, 3] = gramian[3, 2] = 0.9985
    assert len(cosine_spectrum(gramian).values) == 2
    gramian[2, 3] = gramian[3, 2] = 0.7
    assert len(cosine_spectrum(gramian).values) == 3


def test_what_is_no_gramian_is_refused() -> None:
    with pytest.raises(NonFiniteGradientError, match="rows 1"):
        cosine_spectrum(np.diag([1.0, np.nan]))
    with pytest.raises(ValueError, match="positive semidefinite"):
        cosine_spectrum(np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="row 1"):
        cosine_spectrum(np.diag([1.0, -1.0]))


def test_a_decomposition_that_fails_says_so() -> None:
    def failing(matrix: Array) -> Array:
        raise np.linalg.LinAlgError("SVD did not converge")

    with pytest.raises(SolverError, match=r"got SVD did not converge from failing of .*\[3, 3\]"):
        lapack(failing, np.eye(3))
