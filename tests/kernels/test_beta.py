"""Beta draws follow their distribution, and belong to a user whoever is drawn beside him."""

import numpy as np
import pytest
from scipy import stats

from sto_kernels.beta import draw_betas
from sto_kernels.hashing import derive

KEYS = derive(np.arange(20_000, dtype=np.uint64), "test")


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 9), (2.5, 1), (40, 160), (1, 3000)])
def test_draws_follow_the_distribution(a: float, b: float) -> None:
    shape = (len(KEYS), 2)
    draws = draw_betas(KEYS, np.full(shape, a, np.float32), np.full(shape, b, np.float32))
    for slot in range(2):
        assert stats.kstest(draws[:, slot], stats.beta(a, b).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.05


def test_a_users_draws_depend_on_his_key_alone() -> None:
    a, b = (np.random.default_rng(seed).uniform(1, 20, (300, 24)).astype(np.float32) for seed in (0, 1))
    whole = draw_betas(KEYS[:300], a, b)
    np.testing.assert_array_equal(whole[100:107], draw_betas(KEYS[100:107], a[100:107], b[100:107]))
    assert (whole != draw_betas(KEYS[1:301], a, b)).mean() > 0.99
    assert draw_betas(KEYS[:0], a[:0], b[:0]).shape == (0, 24)


def test_parameters_below_the_flat_prior_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        draw_betas(KEYS[:1], np.zeros((1, 24), np.float32), np.ones((1, 24), np.float32))
    with pytest.raises(ValueError, match="one shape"):
        draw_betas(KEYS[:1], np.ones((1, 24), np.float32), np.ones((1, 48), np.float32))
