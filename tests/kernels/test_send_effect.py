"""The send-hour kernel against its twin, and its modes against an optimiser that knows nothing of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sto_kernels import naive_attention as naive
from sto_kernels.send_effect import STEPS, harmonics, send_hour_curve, send_hour_modes

SIZES = (0, 1, 63, 64, 65, 130)
Case = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]


def a_case(seed: int, users: int, scale: float = 1.0) -> Case:
    """Opens and sends by hour (a third of the users without any), means of cohorts, a precision and a mean rate."""
    rng = np.random.default_rng(seed)
    sends_U24 = rng.gamma(0.4, 3.0, (users, 24)) * scale
    sends_U24[rng.random(users) < 0.3] = 0
    opens_U24 = rng.binomial(1, 0.5, (users, 24)) * sends_U24 * rng.random((users, 1))
    root = rng.normal(0, 0.4, (5, 5))
    precision = np.linalg.inv(root @ root.T + np.diag([0.5, 0.05, 0.05, 0.05, 0.05]))
    mean_U5 = rng.normal(0, 0.5, (users, 5))
    return opens_U24.astype(np.float32), sends_U24.astype(np.float32), mean_U5, precision, float(rng.uniform(0.01, 0.6))


@pytest.mark.parametrize("users", SIZES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 1.0, 1e2, 1e5]))
def test_curves_are_those_of_the_twin(users: int, seed: int, scale: float) -> None:
    case = a_case(seed, users, scale)
    found, expected = send_hour_curve(*case), naive.send_hour_curve(*case)
    assert found.shape == expected.shape == (24, users)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert ((found >= 1e-5) & (found <= 0.95)).all()


@pytest.mark.parametrize("users", SIZES)
@pytest.mark.parametrize("steps", [1, 4, 7])
def test_modes_and_covariances_are_those_of_the_twin(users: int, steps: int) -> None:
    case = a_case(users, users)
    (theta, covariance), (theta_naive, covariance_naive) = (f(*case, steps) for f in _BOTH)
    assert (theta.shape, covariance.shape) == ((5, users), (25, users))
    np.testing.assert_allclose(theta, theta_naive, rtol=1e-7, atol=1e-9)
    # who no longer moves keeps the curvature of one step before
    np.testing.assert_allclose(covariance, covariance_naive, rtol=1e-7, atol=1e-8)


_BOTH = (send_hour_modes, naive.send_hour_modes)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.tuples(st.integers(0, 130), st.integers(0, 130)))
def test_a_users_curve_is_the_same_bits_in_any_company(seed: int, cut: tuple[int, int]) -> None:
    opens, sends, mean, precision, p0 = a_case(seed, 130)
    first, last = sorted(cut)
    part = send_hour_curve(opens[first:last], sends[first:last], mean[first:last], precision, p0)
    np.testing.assert_array_equal(send_hour_curve(opens, sends, mean, precision, p0)[:, first:last], part)


def test_modes_are_where_an_optimiser_finds_the_top_of_the_posterior() -> None:
    scipy = pytest.importorskip("scipy.optimize")
    opens, sends, mean, precision, p0 = a_case(3, 12)
    theta_5U, _ = send_hour_modes(opens, sends, mean, precision, p0, 40)
    F = harmonics()
    for user in range(12):

        def loss(theta: np.ndarray, user: int = user) -> float:
            log_rate, off = theta @ F.T, theta - mean[user]
            rate = sends[user] * p0 * np.exp(log_rate)
            return float(rate.sum() - opens[user] @ log_rate + 0.5 * off @ precision @ off)

        best = scipy.minimize(loss, mean[user], method="BFGS", options={"gtol": 1e-7}).x
        np.testing.assert_allclose(theta_5U[:, user], best, atol=2e-4)


def test_a_user_without_sends_stays_at_the_mean_of_his_cohort() -> None:
    _, _, mean, precision, p0 = a_case(5, 9)
    nothing = np.zeros((9, 24), np.float32)
    theta_5U, covariance_25U = send_hour_modes(nothing, nothing, mean, precision, p0, STEPS)
    np.testing.assert_allclose(theta_5U, mean.T, atol=1e-12)
    np.testing.assert_allclose(covariance_25U.T.reshape(9, 5, 5), np.tile(np.linalg.inv(precision), (9, 1, 1)))


@pytest.mark.parametrize(("opened", "sent"), [(1e9, 0.0), (1e9, 1e9), (0.0, 1e9), (1e30, 1.0)])
def test_no_count_makes_a_curve_that_is_no_probability(opened: float, sent: float) -> None:
    opens, sends = np.full((3, 24), opened, np.float32), np.full((3, 24), sent, np.float32)
    p = send_hour_curve(opens, sends, np.zeros((3, 5)), np.eye(5), 0.2)
    assert ((p >= 1e-5) & (p <= 0.95)).all()


def test_who_opens_only_what_comes_in_the_evening_has_his_top_in_the_evening() -> None:
    sends, opens = np.full((1, 24), 5, np.float32), np.zeros((1, 24), np.float32)
    opens[0, 18:22] = 5
    curve = send_hour_curve(opens, sends, np.zeros((1, 5)), np.diag([1.0, 6.7, 6.7, 6.7, 6.7]), 0.17)[:, 0]
    assert curve.argmax() in (18, 19, 20, 21)
