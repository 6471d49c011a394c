"""The figures of a model card against plain counting, and the base margin against a general optimiser."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sto_engine.models.ridge import BASE_PRIOR, BASE_RIDGE
from sto_engine.train.base import WEIGHT_KEPT, fit_base
from sto_engine.train.fit import isotonic
from sto_engine.train.quality import auc, auc_error, calibration_error, figures, is_worse, logloss

SCORES = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.5, 0.9]), st.booleans()), min_size=1, max_size=40)


@given(SCORES)
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[float, bool]]) -> None:
    score, label = np.array([s for s, _ in pairs]), np.array([y for _, y in pairs], np.float32)
    up, down = score[label == 1], score[label == 0]
    if not len(up) or not len(down):
        assert auc(score, label) is None
        return
    ordered = [1.0 if a > b else 0.5 if a == b else 0.0 for a in up for b in down]
    assert auc(score, label) == pytest.approx(np.mean(ordered))


def test_the_error_of_an_auc_is_its_spread_over_samples() -> None:
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(400):
        label = (rng.random(600) < 0.3).astype(np.float32)
        score = rng.normal(0, 1, 600) + label
        value = auc(score, label)
        assert value is not None
        values.append(value)
        errors.append(auc_error(value, label))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)


def test_calibration_error_and_logloss_are_those_of_a_count_by_hand() -> None:
    p, label = np.repeat([0.1, 0.3], 50), np.zeros(100, np.float32)
    label[:10], label[50:75] = 1, 1
    # ten bins of ten: the first half has 10 opens in its first bin, the second 25 in its first two and a half
    gaps = [0.9] + [0.1] * 4 + [0.7, 0.7, 0.2, 0.3, 0.3]
    assert calibration_error(p, label) == pytest.approx(np.mean(gaps))
    by_hand = -(10 * np.log(0.1) + 40 * np.log(0.9) + 25 * np.log(0.3) + 25 * np.log(0.7)) / 100
    assert logloss(p, label) == pytest.approx(by_hand)
    assert np.isfinite(logloss(np.array([0.0, 1.0]), np.array([1, 0], np.float32)))
    found = figures(p, label)
    assert (found["rows"], found["mean_p"], found["base_rate"]) == (100, 0.2, 0.35)


def test_a_model_is_worse_only_by_more_than_chance() -> None:
    rng = np.random.default_rng(1)
    label = (rng.random(4000) < 0.3).astype(np.float32)
    good, poor = rng.normal(0, 1, 4000) + 1.5 * label, rng.normal(0, 1, 4000)
    assert is_worse(poor, good, label)
    assert not is_worse(good, poor, label)
    assert not is_worse(good + rng.normal(0, 0.1, 4000), good, label)
    assert not is_worse(poor[:100], good[:100], label[:100])  # too few rows to tell
    assert not is_worse(poor, good, np.ones(4000, np.float32))


def pooled(label: np.ndarray) -> np.ndarray:
    """Pool adjacent violators, one merge at a time."""
    blocks = [[float(y), 1] for y in label]
    at = 0
    while at < len(blocks) - 1:
        if blocks[at][0] > blocks[at + 1][0] + 1e-12:
            (a, n), (b, m) = blocks[at], blocks.pop(at + 1)
            blocks[at] = [(a * n + b * m) / (n + m), n + m]
            at = max(at - 1, 0)
        else:
            at += 1
    return np.concatenate([[value] * n for value, n in blocks])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 60))
def test_the_calibration_curve_is_the_isotonic_regression(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    p = np.sort(rng.random(n))
    label = (rng.random(n) < p).astype(np.float32)
    x, y = isotonic(p, label)
    np.testing.assert_allclose(np.interp(p, x, y), np.clip(pooled(label), 1e-6, 1 - 1e-6), atol=1e-9)
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) >= 0).all()


def test_calibration_mends_chances_that_are_too_high_and_keeps_their_order() -> None:
    rng = np.random.default_rng(3)
    true = rng.uniform(0.02, 0.3, 20_000)
    told, label = np.sqrt(true), (rng.random(20_000) < true).astype(np.float32)
    x, y = isotonic(told[:10_000], label[:10_000])
    late = np.interp(told[10_000:], x, y)
    assert calibration_error(late, label[10_000:]) < 0.1 * calibration_error(told[10_000:], label[10_000:])
    assert (np.diff(late[np.argsort(told[10_000:])]) >= 0).all()


def drawn(seed: int, n: int, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, labels by the given weights, and offsets."""
    rng = np.random.default_rng(seed)
    inputs = np.concatenate([np.ones((n, 1)), rng.normal(-2, 1, (n, 2)), rng.normal(0, 1, (n, 2))], axis=1)
    offset = rng.normal(0, 0.2, n)
    label = (rng.random(n) < 1 / (1 + np.exp(-inputs @ weight - offset))).astype(np.float32)
    return inputs, label, offset


def test_base_weights_are_the_ridge_fit_with_its_shapes_halved() -> None:
    scipy = pytest.importorskip("scipy.optimize")
    inputs, label, offset = drawn(0, 4000, np.array([0.2, 0.8, 0.2, 1.2, 0.4]))

    def loss(weight: np.ndarray) -> float:
        margin = inputs @ weight + offset
        return float((np.logaddexp(0, margin) - label * margin).sum() + BASE_RIDGE @ (weight - BASE_PRIOR) ** 2 / 2)

    best = scipy.minimize(loss, BASE_PRIOR, method="BFGS", options={"gtol": 1e-5}).x
    found = fit_base(inputs, label, offset).weight_5
    np.testing.assert_allclose(found[1:], (best * WEIGHT_KEPT)[1:], atol=1e-4)


def test_the_base_margin_has_the_level_of_the_labels_though_its_shapes_are_halved() -> None:
    for weight in ([0.2, 0.8, 0.2, 1.2, 0.4], [-3.0, 0.5, 0.5, 6.0, 2.0]):
        inputs, label, offset = drawn(1, 3000, np.array(weight))
        p = 1 / (1 + np.exp(-fit_base(inputs, label, offset).margins(inputs) - offset))
        assert p.mean() == pytest.approx(label.mean(), rel=0.01)


def test_no_level_and_no_shape_weighs_against_opens() -> None:
    found = fit_base(*drawn(2, 20_000, np.array([0.0, 1.0, -0.8, 0.8, -1.5]))).weight_5
    assert (found[1:] >= 0).all()
    assert found[2] == found[4] == 0
    assert found[1] > 0.5


@pytest.mark.parametrize("n", [2, 18, 400])
def test_the_fit_of_the_base_ends_where_rows_are_few_or_levels_far_off(n: int) -> None:
    """Newton steps of a logistic fit overshoot from far away: here the first would be hundreds long."""
    inputs = np.concatenate([np.ones((n, 1)), np.full((n, 1), -13.0), np.full((n, 1), -5.0), np.zeros((n, 2))], axis=1)
    label = (np.arange(n) % 2).astype(np.float32)
    found = fit_base(inputs, label, np.zeros(n))
    p = 1 / (1 + np.exp(-found.margins(inputs)))
    np.testing.assert_allclose(p, 0.5, atol=0.02)
