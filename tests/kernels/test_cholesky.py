import numpy as np
import pytest

from sto_kernels.cholesky import solve_positive


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 16, 63, 200])
def test_the_solution_is_that_of_lapack(n: int) -> None:
    rng = np.random.default_rng(n)
    half = rng.standard_normal((n, n + 3))
    a, b = half @ half.T + 0.1 * np.eye(n), rng.standard_normal(n)
    np.testing.assert_allclose(solve_positive(a, b), np.linalg.solve(a, b), rtol=1e-8, atol=1e-10)


def test_only_the_upper_half_is_read_and_nothing_is_written() -> None:
    a, b = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0])
    kept = a.copy(), b.copy()
    wrong_below = a.copy()
    wrong_below[1, 0] = np.nan
    assert (solve_positive(wrong_below, b) == solve_positive(a, b)).all()
    assert (a == kept[0]).all()
    assert (b == kept[1]).all()


def test_a_direction_that_does_not_bend_leaves_a_finite_solution() -> None:
    a = np.ones((12, 12))
    assert np.isfinite(solve_positive(a + 1e-9 * np.eye(12), np.ones(12))).all()
    assert np.isfinite(solve_positive(a, np.ones(12))).all()
