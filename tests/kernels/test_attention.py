"""The attention kernel against its twin: any number of users, any split of them, counts from none to huge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sto_kernels import naive_attention as naive
from sto_kernels.attention import attention_rates
from sto_kernels.lanes import gaussian_taps, share_days, smooth_days

SIZES = (0, 1, 63, 64, 65, 130)
Case = tuple[np.ndarray, ...]


def a_case(seed: int, users: int, shapes: int = 5, cohorts: int = 3, scale: float = 1.0) -> Case:
    """Opens, exposure, cohorts and priors; a third of the users without opens, a third without exposure."""
    rng = np.random.default_rng(seed)
    opens_U48 = (rng.poisson(0.5, (users, 48)) * scale).astype(np.float32)
    exposure_U48 = (rng.gamma(1.0, 3.0, (users, 48)) * scale).astype(np.float32)
    opens_U48[rng.random(users) < 0.3] = 0
    exposure_U48[rng.random(users) < 0.3] = 0
    shape_K48 = rng.gamma(2.0, 0.05, (shapes, 48)) + 1e-4
    log_prior_CK = np.log(rng.dirichlet(np.ones(shapes), cohorts + 1))
    residual_C48 = rng.gamma(9.0, 1 / 9, (cohorts + 1, 48))
    cohort_U = rng.integers(0, cohorts + 1, users).astype(np.int32)
    return opens_U48, exposure_U48, cohort_U, shape_K48, log_prior_CK, residual_C48


@pytest.mark.parametrize("users", SIZES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shapes=st.integers(1, 16), scale=st.sampled_from([0.0, 1.0, 1e3, 1e6]))
def test_rates_are_those_of_the_twin(users: int, seed: int, shapes: int, scale: float) -> None:
    case = a_case(seed, users, shapes, scale=scale)
    found, expected = attention_rates(*case), naive.attention_rates(*case)
    assert found.shape == expected.shape == (48, users)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert np.isfinite(found).all()
    assert (found > 0).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.tuples(st.integers(0, 130), st.integers(0, 130)))
def test_a_users_rates_are_the_same_bits_in_any_company(seed: int, cut: tuple[int, int]) -> None:
    opens, exposure, cohort, *priors = a_case(seed, 130)
    first, last = sorted(cut)
    part = attention_rates(opens[first:last], exposure[first:last], cohort[first:last], *priors)
    np.testing.assert_array_equal(attention_rates(opens, exposure, cohort, *priors)[:, first:last], part)


def test_who_was_never_at_risk_and_never_opened_has_the_mean_curve_of_his_cohort() -> None:
    _, _, _, shape_K48, log_prior_CK, residual_C48 = a_case(7, 0)
    nothing = np.zeros((4, 48), np.float32)
    found = attention_rates(nothing, nothing, np.arange(4, dtype=np.int32), shape_K48, log_prior_CK, residual_C48)
    np.testing.assert_allclose(found.T, np.exp(log_prior_CK) @ shape_K48 * residual_C48, rtol=1e-12)


def test_the_same_opens_after_less_exposure_mean_more_attention_there() -> None:
    opens_U48, exposure_U48 = np.zeros((2, 48), np.float32), np.ones((2, 48), np.float32)
    opens_U48[:, [9, 20]] = 10
    exposure_U48[0, 7:12] = 60
    exposure_U48[1, 18:23] = 60
    flat = np.full((1, 48), 0.1)
    rates = attention_rates(opens_U48, exposure_U48, np.zeros(2, np.int32), flat, np.zeros((1, 1)), np.ones((1, 48)))
    assert rates[20, 0] > 2 * rates[9, 0]
    assert rates[9, 1] > 2 * rates[20, 1]


@pytest.mark.parametrize("width_h", [0.6, 0.8, 1.0, 1.2])
def test_smoothing_keeps_the_counts_of_each_day_and_wraps_at_midnight(width_h: float) -> None:
    counts_N48 = np.zeros((1, 48))
    counts_N48[0, [23, 24 + 5]] = 8.0, 3.0
    near = smooth_days(counts_N48, width_h)[0]
    np.testing.assert_allclose([near[:24].sum(), near[24:].sum()], [8, 3], rtol=1e-6)
    assert near[0] == pytest.approx(near[22])
    # a Gaussian written out: the weight of distance d over that of all distances round the clock
    apart = np.minimum(np.arange(24), 24 - np.arange(24))
    weight = np.exp(-0.5 * (apart / width_h) ** 2)
    np.testing.assert_allclose(near[24 + 5] / 3, weight[0] / weight.sum(), rtol=1e-9)
    np.testing.assert_allclose(gaussian_taps(width_h).sum(), 1)


def test_days_lend_each_other_their_share() -> None:
    x = np.arange(48.0)[None]
    lent = share_days(x, 0.5)[0]
    assert lent[3] == 3 + 0.5 * 27
    assert lent[27] == 27 + 0.5 * 3
