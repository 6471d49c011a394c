"""Strengths of Beta priors against scipy's likelihood, brute force, and data made with a known one."""

import numpy as np
import pytest
from scipy import special, stats

from sto_engine.models.beta_binomial import LEAST_STRENGTH, MOST_STRENGTH, fit_strength, log_gamma, log_likelihood

Counts = tuple[np.ndarray, np.ndarray, np.ndarray]


def drawn(strength: float, cells: int = 30_000, seed: int = 0) -> Counts:
    """Means, hits and misses of cells whose chances stray from their means by Beta(k m, k (1 - m))."""
    rng = np.random.default_rng(seed)
    mean_N, sends_N = rng.uniform(0.02, 0.4, cells), rng.integers(1, 30, cells)
    hits_N = rng.binomial(sends_N, rng.beta(strength * mean_N, strength * (1 - mean_N)))
    return mean_N, hits_N.astype(float), (sends_N - hits_N).astype(float)


def test_log_gamma_is_that_of_scipy() -> None:
    x = np.concatenate([np.logspace(-6, 7, 400), np.arange(1.0, 30)])
    np.testing.assert_allclose(log_gamma(x), special.gammaln(x), rtol=1e-11, atol=1e-11)


def test_the_likelihood_is_the_beta_binomial_but_for_the_order() -> None:
    mean_N, hits_N, misses_N = drawn(20, 500)
    a_N, b_N = 20 * mean_N, 20 * (1 - mean_N)
    exact = stats.betabinom.logpmf(hits_N, hits_N + misses_N, a_N, b_N).sum()
    ways = np.log(special.comb(hits_N + misses_N, hits_N)).sum()
    assert log_likelihood(a_N, b_N, hits_N, misses_N) == pytest.approx(exact - ways, rel=1e-10)


@pytest.mark.parametrize("strength", [5.0, 30.0, 300.0])
def test_a_known_strength_is_recovered(strength: float) -> None:
    """30,000 cells of up to 29 tries tell a strength of 5 and 30 to 5 %, one of 300 to 25 %."""
    found, _ = fit_strength(*drawn(strength))
    assert found == pytest.approx(strength, rel=0.05 if strength < 100 else 0.25)


def test_brute_force_finds_no_better_strength() -> None:
    mean_N, hits_N, misses_N = drawn(12, 1_000, 1)
    found, value = fit_strength(mean_N, hits_N, misses_N)
    grid = np.exp(np.linspace(np.log(LEAST_STRENGTH), np.log(MOST_STRENGTH), 500))
    values = [log_likelihood(k * mean_N, k * (1 - mean_N), hits_N, misses_N) for k in grid]
    assert value >= max(values) - 1e-6
    assert found == pytest.approx(grid[int(np.argmax(values))], rel=0.03)


def test_what_the_prior_has_seen_makes_the_likelihood_that_of_what_came_later() -> None:
    """The later half of the tries foretold by the earlier one tells the strength as well."""
    rng = np.random.default_rng(3)
    mean_N = rng.uniform(0.05, 0.4, 40_000)
    chance_N = rng.beta(40 * mean_N, 40 * (1 - mean_N))
    old_N, new_N = rng.binomial(12, chance_N).astype(float), rng.binomial(8, chance_N).astype(float)
    found, value = fit_strength(mean_N, new_N, 8 - new_N, (old_N, 12 - old_N))
    assert found == pytest.approx(40, rel=0.1)
    a_N, b_N = found * mean_N, found * (1 - mean_N)
    both = log_likelihood(a_N, b_N, old_N + new_N, 20 - old_N - new_N)
    assert value == pytest.approx(both - log_likelihood(a_N, b_N, old_N, 12 - old_N), abs=1e-6)


def test_cells_that_stray_from_nothing_have_the_most() -> None:
    rng = np.random.default_rng(4)
    hits_N = rng.binomial(20, np.full(20_000, 0.2)).astype(float)
    assert fit_strength(np.full(20_000, 0.2), hits_N, 20 - hits_N)[0] > 2_000
    assert fit_strength(np.zeros(0), np.zeros(0), np.zeros(0)) == (MOST_STRENGTH, 0.0)


def test_a_mean_of_nothing_or_all_breaks_nothing() -> None:
    found, value = fit_strength(np.array([0.0, 1.0]), np.array([1.0, 3.0]), np.array([2.0, 0.5]))
    assert LEAST_STRENGTH <= found <= MOST_STRENGTH
    assert np.isfinite(value)
