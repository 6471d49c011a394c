"""What the best day is made of: engagement, tiers, intervals, urgency, chances of weighted rows, settings."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histories import CONFIG, before, known, mail, people, store_of
from sto_engine.config import load_config
from sto_engine.config_policies import BestDay, EngagementWeights
from sto_engine.errors import ConfigError
from sto_engine.models.best_day import fit_table, wilson
from sto_engine.models.day_features import (
    PLAIN_FEATURES,
    day_counts,
    plain_users,
)
from sto_engine.models.day_of_week import freed
from sto_engine.models.engagement import engagement_scores
from sto_engine.models.forest import Batch, fit_forest, margins
from sto_engine.models.urgency import urgency_codes, with_urgency
from sto_engine.tables import URGENCIES
from sto_engine.train.days import recipe_of, weight_of
from sto_engine.train.quality import calibration_error

TUESDAY, FRIDAY = 1, 4
NAN = float("nan")


def test_a_margin_of_weighted_rows_is_freed_of_the_weight() -> None:
    share_N, weight = np.array([0.01, 0.1, 0.5, 0.9]), 19.0
    weighted_N = share_N * weight / (share_N * weight + 1 - share_N)
    np.testing.assert_allclose(freed(4 * (weighted_N - 0.5), weight), share_N)


def test_chances_of_the_preset_are_calibrated_although_its_weights_are_balanced() -> None:
    rng = np.random.default_rng(5)
    features_NF = rng.random((35_000, len(PLAIN_FEATURES))).astype(np.float32)
    features_NF[:, -1] = rng.integers(0, 7, len(features_NF))
    true_N = 0.01 + 0.05 * features_NF[:, 0] + 0.03 * (features_NF[:, -1] == TUESDAY)
    label_N = (rng.random(len(true_N)) < true_N).astype(np.float32)
    early, later, last = slice(0, 20_000), slice(20_000, 25_000), slice(25_000, None)
    recipe = recipe_of(
        load_config(None, ["model.preset=seed_best_day"]), "seed_best_day", 0, float(label_N[early].mean())
    )
    booster = fit_forest([lambda: Batch(features_NF[early], label_N[early])], recipe)
    margin_N = margins(booster, features_NF, None)
    weight = weight_of(margin_N[later], float(label_N[later].mean()), recipe)
    assert freed(margin_N[later], weight).mean() == pytest.approx(label_N[later].mean(), rel=1e-6)
    weighted = calibration_error(0.5 + margin_N[last] / 4, label_N[last])
    assert calibration_error(freed(margin_N[last], weight), label_N[last]) < 0.015 < 0.2 < weighted


def test_engagement_is_the_weighted_mean_of_what_is_known() -> None:
    days, acts, clicks = (np.array(x) for x in ([14, 0, NAN, NAN, 28], [1, NAN, 3, NAN, 0], [0.2, NAN, NAN, NAN, 0]))
    found = engagement_scores(days, acts, clicks, EngagementWeights())
    np.testing.assert_allclose(found, [50, 100, 75, NAN, 0.4 * 25])
    only = EngagementWeights(recency=0, frequency=0, clicks=2)
    np.testing.assert_allclose(engagement_scores(days, acts, clicks, only), [50, NAN, NAN, NAN, 0])


def test_the_snapshot_s_engagement_goes_before_the_computed_one(tmp_path: Path) -> None:
    store = store_of(
        [row for user in (1, 2) for row in mail(user, before(3, 9), 1.0)],
        tmp_path,
        people([1, 2], engagement_score=[12.5, None]),
    )
    bucket = known(store)
    score_U = plain_users(bucket, day_counts(bucket), CONFIG)[0]
    by_user = dict(zip(bucket.users["user_id"].to_list(), score_U.tolist(), strict=True))
    assert by_user[1] == 12.5
    assert 0 < by_user[2] <= 100


def test_tiers_are_quantiles_and_thin_ones_follow_everybody() -> None:
    engagement = np.repeat(np.array([10, 20, 30, 40], np.float32), 700)
    day = np.tile(np.arange(7), 400)
    hit = np.where(engagement == 40, day == FRIDAY, day == TUESDAY)
    table = fit_table(engagement, day, hit, 4)
    assert table.edge_E.tolist() == [17.5, 25, 32.5]
    assert table.tiers_of(np.array([0, 17.5, 26, 99, NAN])).tolist() == [0, 1, 2, 3, 4]
    assert table.sends_R7[:4].tolist() == [[100] * 7] * 4
    assert table.used(100).argmax(axis=1).tolist() == [TUESDAY, TUESDAY, TUESDAY, FRIDAY, TUESDAY]
    assert table.used(101).argmax(axis=1).tolist() == [TUESDAY] * 5
    told = table.told(101)["tiers"]
    assert [(row["tier"], row["thin"], row["best_day"]) for row in told][3:] == [
        ("4", True, "Tuesday"),
        ("all", False, "Tuesday"),
    ]
    assert told[-1]["confidence"] > 0.99
    same = fit_table(np.full(70, 5, np.float32), day[:70], hit[:70], 4)
    assert same.sends_R7.shape == (3, 7), "equal scores make fewer tiers"


def test_intervals_are_wilson_s() -> None:
    from scipy.stats import binomtest

    low, high = wilson(np.array([0.0, 3, 50, 0]), np.array([10.0, 40, 50, 0]))
    for at, (hits, n) in enumerate([(0, 10), (3, 40), (50, 50)]):
        wanted = binomtest(hits, n).proportion_ci(method="wilson")
        assert (low[at], high[at]) == (pytest.approx(wanted.low, abs=1e-9), pytest.approx(wanted.high, abs=1e-9))
    assert (low[3], high[3]) == (0, pytest.approx(1))


def test_urgency_needs_risk_and_for_today_value_too() -> None:
    settings = BestDay(clv_threshold=500)
    churn = np.array([0.9, 0.9, 0.9, 0.5, 0.1, NAN])
    value = np.array([900, 100, NAN, 900, 900, 900])
    names = [URGENCIES[code] for code in urgency_codes(churn, value, settings)]
    assert names == ["today", "within_24h", "within_24h", "within_24h", "best_day", "best_day"]
    assert urgency_codes(churn[:2], value[:2], BestDay(high_value=50)).tolist() == [0, 0]


@pytest.mark.parametrize("day", [date(2026, 3, 27) + timedelta(days=n) for n in range(7)])  # clocks change in it
def test_urgent_mail_goes_in_time_and_late_days_keep_their_order(day: date) -> None:
    ahead_7 = (np.arange(7) - day.weekday()) % 7
    worth = np.random.default_rng(day.toordinal()).random((3, 7)) * 0.05
    found = with_urgency(worth, np.array([0, 1, 2], np.uint8), ahead_7)
    assert ahead_7[np.argsort(-found[0])].tolist() == list(range(7)), "the first day that is left"
    soon, late = np.flatnonzero(ahead_7 <= 1), np.flatnonzero(ahead_7 > 1)
    assert found[1][soon].min() > found[1][late].max()
    assert np.array_equal(np.argsort(found[1][late]), np.argsort(worth[1][late]))
    assert np.array_equal(found[2], worth[2])
    assert np.array_equal(found[1][soon], worth[1][soon])


BAD: dict[str, Any] = {
    "best_day.engagement_weights.recency=-1": "greater than or equal",
    "best_day.medium_churn=0.9": "medium_churn must be at most",
    "best_day.tiers=0": "greater than or equal",
    "best_day.threshold=1": "clv_threshold",
}


@pytest.mark.parametrize("key", BAD)
def test_settings_that_cannot_be_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=BAD[key]):
        load_config(None, [key])
    zero = [f"best_day.engagement_weights.{name}=0" for name in ("recency", "frequency", "clicks")]
    with pytest.raises(ConfigError, match="must not all be 0"):
        load_config(None, zero)
