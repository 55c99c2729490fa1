import numpy as np
import pytest

from jdviz.checks import check_gramian, check_jacobian


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 3), (4, 2), (7, 50), (40, 3)])
def test_every_gramian_passes(shape: tuple[int, int], dtype: type) -> None:
    rows = np.random.default_rng(0).normal(size=shape).astype(dtype)
    report = check_gramian(rows @ rows.T)
    assert report.passed, report.verdicts
    assert report.shape == (shape[0], shape[0])
    assert report.bound == 8 * shape[0] * np.finfo(dtype).eps
    assert report.smallest >= -report.bound


def test_single_precision_has_a_wider_bound() -> None:
    # Off by 1e-6 of the largest entry: rounding in float32 (8 · 2 · 1.19e-7), not in float64.
    matrix = np.array([[1.0, 0.5], [0.5 + 1e-6, 1.0]])
    assert check_gramian(matrix.astype(np.float32)).passed
    report = check_gramian(matrix)
    assert not report.passed
    assert report.asymmetry == pytest.approx(1e-6)
    assert [verdict.passed for verdict in report.verdicts] == [True, True, False, True]


def test_not_symmetric() -> None:
    report = check_gramian([[2.0, 1.0], [0.5, 2.0]])
    assert report.asymmetry == 0.25
    assert report.verdicts[2].sentence == (
        "It is not symmetric: entries (1, 2) and (2, 1) differ by 0.25 of the largest entry "
        "(rounding: at most 3.6e-15)."
    )


def test_not_semidefinite() -> None:
    # Eigenvalues 3 and -1.
    report = check_gramian([[1.0, 2.0], [2.0, 1.0]])
    assert not report.passed
    assert report.smallest == pytest.approx(-1 / 3)
    assert report.verdicts[3].sentence == (
        "It is not positive semi-definite: the smallest eigenvalue is -0.33 of the largest "
        "(rounding: down to -3.6e-15)."
    )
    negative = check_gramian(np.diag([1.0, -2.0])).verdicts[3].sentence
    assert negative.endswith("Entry (2, 2), a squared length, is negative.")


@pytest.mark.parametrize(
    ("matrix", "square", "finite", "words"),
    [
        (np.zeros((2, 3)), False, True, "It is 2 × 3, not square"),
        (np.zeros(4), False, True, "It is 4, not square"),
        (3.0, False, True, "It is one number, not square"),
        (np.zeros((0, 0)), False, True, "It is 0 × 0, not square"),
        ([[1.0, np.nan], [np.inf, 1.0]], True, False, "2 of 4 numbers are not finite."),
        ([[1j, 0], [0, 1]], True, False, "It holds complex128, expected real numbers."),
        ([["a", "b"], ["c", "d"]], True, False, "It holds <U1, expected real numbers."),
    ],
)
def test_what_later_checks_need(matrix: object, square: bool, finite: bool, words: str) -> None:
    report = check_gramian(matrix)
    assert (report.square, report.finite, report.passed) == (square, finite, False)
    assert np.isnan(report.smallest)
    assert np.isnan(report.asymmetry)
    assert any(verdict.sentence.startswith(words) for verdict in report.verdicts)
    assert len(report.verdicts) == 2


def test_nothing_is_repaired_and_scale_does_not_matter() -> None:
    for scale in (1e-300, 1e300):
        matrix = scale * np.array([[1.0, 0.5], [0.5, 1.0]])
        before = matrix.copy()
        assert check_gramian(matrix).passed
        np.testing.assert_array_equal(matrix, before)
    assert check_gramian(np.zeros((2, 2))).passed
    assert check_gramian([[2, 1], [1, 2]]).passed


def test_jacobian() -> None:
    report = check_jacobian([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    assert report.passed
    assert report.zero_rows == (1,)
    assert [verdict.passed for verdict in report.verdicts] == [True, True, True, False]
    assert report.verdicts[3].sentence == (
        "The gradient of row 2 is zero and has no angle to others."
    )
    many = check_jacobian(np.zeros((7, 9)))
    assert many.verdicts[3].sentence == (
        "The gradients of rows 1, 2, 3, 4, 5 and 2 more are zero and have no angle."
    )


def test_more_objectives_than_parameters_are_said_and_allowed() -> None:
    report = check_jacobian(np.ones((3, 2)))
    assert report.passed
    assert not report.verdicts[2].passed
    assert "so some gradients are sums of others" in report.verdicts[2].sentence


@pytest.mark.parametrize(
    "matrix", [np.zeros(3), np.zeros((0, 3)), np.zeros((2, 2, 2)), 1.0, [[np.nan, 1.0]]]
)
def test_no_jacobian(matrix: object) -> None:
    report = check_jacobian(matrix)
    assert not report.passed
    assert report.zero_rows == ()
    assert len(report.verdicts) == 2
