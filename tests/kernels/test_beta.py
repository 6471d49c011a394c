"""Beta draws follow their distribution, and belong to a user whoever is drawn beside him."""

import math

import numpy as np
import pytest
from scipy import stats

from sto_kernels.beta import draw_betas
from sto_kernels.hashing import derive

KEYS = derive(np.arange(20_000, dtype=np.uint64), "test")
# a value below this, or as near to 1, is what float32 has none of
EDGE = {"low": 1e-34, "high": 1 - 1e-6}


def drawn(a: float, b: float, slots: int = 2, round: int = 0) -> np.ndarray:
    shape = (len(KEYS), slots)
    return draw_betas(KEYS, np.full(shape, a, np.float32), np.full(shape, b, np.float32), round)


@pytest.mark.parametrize(
    ("a", "b"),
    [(1, 1), (1, 9), (2.5, 1), (40, 160), (1, 3000), (0.5, 0.5), (0.3, 4), (0.1, 1), (6, 0.7), (0.9, 1e4), (1e5, 1e5)],
)
def test_draws_follow_the_distribution(a: float, b: float) -> None:
    law = stats.beta(np.float32(a), np.float32(b))
    draws_US = drawn(a, b).astype(np.float64)
    for slot in range(2):
        assert stats.kstest(draws_US[:, slot], law.cdf).pvalue > 1e-4
    for at in (1e-3, 0.01, 0.99, 0.999):
        below = (draws_US <= law.ppf(at)).mean()
        assert abs(below - at) < 5 * math.sqrt(at * (1 - at) / draws_US.size)
    assert abs(np.corrcoef(draws_US.T)[0, 1]) < 0.05


def test_tiny_shapes_are_as_near_to_0_and_1_as_they_must_be() -> None:
    for a, b in ((0.01, 0.02), (0.02, 0.02), (0.05, 3.0), (1e-6, 3e-6), (1e-38, 1e-38)):
        draws_US = drawn(a, b).astype(np.float64)
        assert np.isfinite(draws_US).all()
        law = stats.beta(max(np.float32(a), 1e-12), max(np.float32(b), 1e-12))
        for share, known in (
            ((draws_US < EDGE["low"]).mean(), law.cdf(EDGE["low"]) if a > 1e-20 else 0.5),
            ((draws_US > EDGE["high"]).mean(), law.sf(EDGE["high"]) if a > 1e-20 else 0.5),
        ):
            assert abs(share - known) < 5 * math.sqrt(max(known * (1 - known), 1e-4) / draws_US.size)


def test_a_users_draws_depend_on_his_key_alone() -> None:
    a, b = (np.random.default_rng(seed).uniform(0.1, 20, (300, 24)).astype(np.float32) for seed in (0, 1))
    whole = draw_betas(KEYS[:300], a, b)
    np.testing.assert_array_equal(whole[100:107], draw_betas(KEYS[100:107], a[100:107], b[100:107]))
    assert (whole != draw_betas(KEYS[1:301], a, b)).mean() > 0.99
    assert (whole != draw_betas(KEYS[:300], a, b, 1)).mean() > 0.99
    assert draw_betas(KEYS[:0], a[:0], b[:0]).shape == (0, 24)
    assert draw_betas(KEYS[:3], a[:3, :0], b[:3, :0]).shape == (3, 0)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_shapes_that_are_no_shapes_are_refused(bad: float) -> None:
    good, wrong = np.ones((1, 24), np.float32), np.full((1, 24), bad, np.float32)
    for shapes in ((good, wrong), (wrong, good)):
        with pytest.raises(ValueError, match="finite and above 0; found"):
            draw_betas(KEYS[:1], *shapes)
    with pytest.raises(ValueError, match="one shape"):
        draw_betas(KEYS[:1], good, np.ones((1, 48), np.float32))
