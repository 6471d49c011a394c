"""The best day of the week: who gets his own, who that of his tier, and how long urgent mail may wait."""

from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from histories import DAY, Row, before, column, decide, known, mail, people, store_of
from sto_engine.config import Config, load_config
from sto_engine.config_policies import BestDay, EngagementWeights
from sto_engine.errors import BadData, ConfigError
from sto_engine.ingest.store import Store
from sto_engine.models.best_day import fit_table, wilson
from sto_engine.models.bundle import Bundle, load_bundle
from sto_engine.models.day_features import (
    OWN,
    OWN_CROSS,
    OWN_SLOT,
    PLAIN,
    PLAIN_FEATURES,
    PLAIN_SLOT,
    day_counts,
    plain_users,
    slot_matrix,
)
from sto_engine.models.day_of_week import DayOfWeek, freed
from sto_engine.models.device import slot_margins
from sto_engine.models.engagement import engagement_scores
from sto_engine.models.forest import Batch, fit_forest, margins, read_forest
from sto_engine.models.registry import make_policy
from sto_engine.models.urgency import urgency_codes, with_urgency
from sto_engine.progress import Silent
from sto_engine.tables import URGENCIES
from sto_engine.train.day_rows import day_rows
from sto_engine.train.days import recipe_of, weight_of
from sto_engine.train.moments import bucket_moments, span_of
from sto_engine.train.quality import calibration_error
from sto_engine.train_job import TrainReport, train
from sto_kernels.pack import pack_xgboost

TUESDAY, FRIDAY = 1, 4
OWN_KEYS = ("model.policy=day_of_week", "train.label_days=40", "best_day.min_sends=20")
PLAIN_KEYS = ("model.preset=seed_best_day", *OWN_KEYS[1:])
USERS = range(1, 121)
NAN = float("nan")


def rows_of(user: int) -> list[Row]:
    """A mail a day for 80 days; odd users click those of Tuesdays, even ones of Fridays, but for one in nine."""
    own, found = TUESDAY if user % 2 else FRIDAY, list[Row]()
    for days in range(2, 82):
        sent = before(days, 10)
        clicks = sent.weekday() == own and (user + days // 7) % 9 > 0
        found += mail(user, sent, 0.5 if clicks else None, kind="click")
    return found


def snapshot() -> pl.DataFrame:
    """From user 101 on little value, from 111 on none that is known."""
    clv = [900.0 if user <= 100 else 100.0 if user <= 110 else None for user in USERS]
    refuses = [user not in (7, 9) for user in USERS]
    return people(USERS, clv=pl.Series(clv, dtype=pl.Float64).to_list(), consent_profiling=refuses)


def fit(store: Path, bundle: Path, *keys: str, threads: int = 1) -> TrainReport:
    return train(store, bundle, DAY, load_config(None, list(keys)), threads, 0, None, Silent())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("days")
    store_of((row for user in USERS for row in rows_of(user)), folder, snapshot(), buckets=4)
    fit(folder / "store", folder / "own", *OWN_KEYS)
    fit(folder / "store", folder / "plain", *PLAIN_KEYS)
    return folder


def settings(*keys: str) -> Config:
    return load_config(None, [*OWN_KEYS, *keys])


@cache
def bundle_of(folder: Path) -> Bundle:
    return load_bundle(folder)


def found_in(world: Path, *keys: str) -> pl.DataFrame:
    return decide(Store.open(world / "store"), settings(*keys), bundle_of(world / "own"))


def test_who_clicks_on_one_day_only_gets_that_day(world: Path) -> None:
    found = found_in(world).filter(pl.col("reason") == "model")
    assert set(found["user_id"]) == {user for user in range(1, 101) if user not in (7, 9)}
    own = pl.Series([TUESDAY if user % 2 else FRIDAY for user in found["user_id"]])
    assert (found["slot"].cast(pl.Int64) == own).mean() > 0.97
    # every click was due a week from the last, so the chance on one's day is far above that on others
    p_U7 = np.stack(found["p_open"].to_list())
    assert p_U7[np.arange(len(own)), own.to_numpy()].mean() > 0.5


def test_little_or_unknown_value_and_no_consent_get_the_common_day(world: Path) -> None:
    found, table = found_in(world), DayOfWeek(settings(), bundle_of(world / "own")).table
    others = found.filter(pl.col("user_id").is_in([*range(101, 121), 7, 9]))
    assert set(others["reason"]) <= {"cohort", "global"}
    assert column(found, "reason")[7] == "global", "nothing personal is looked at, engagement included"
    assert set(found_in(world, "best_day.min_sends=100000").filter(pl.col("user_id") > 100)["reason"]) == {"global"}
    assert set(others["slot"]) <= set(table.used(20).argmax(axis=1).tolist())
    assert set(found_in(world, "best_day.clv_threshold=1000")["reason"]) <= {"cohort", "global"}


@pytest.mark.parametrize("kind", ["own", "plain"])
def test_margins_of_the_kernels_are_those_of_xgboost(world: Path, kind: str) -> None:
    bundle, rng = bundle_of(world / kind), np.random.default_rng(3)
    names = (OWN, OWN_SLOT, OWN_CROSS) if kind == "own" else (PLAIN, PLAIN_SLOT, ())
    user_FU = rng.normal(1, 40, (len(names[0]), 200)).astype(np.float32)
    user_FU[rng.random(user_FU.shape) < 0.2] = np.nan
    cross_XSU = rng.normal(0, 1, (len(names[2]), 7, 200)).astype(np.float32)
    forest = pack_xgboost(bundle.forest, *names, slot_matrix(names[1]))
    margin_US = slot_margins(forest, user_FU, cross_XSU if len(cross_XSU) else None)
    for day in range(7):
        slots_NG = np.repeat(slot_matrix(names[1])[day : day + 1], 200, axis=0)
        rows_NF = np.concatenate([user_FU.T, slots_NG, cross_XSU[:, day].T], axis=1)
        np.testing.assert_allclose(margin_US[:, day], margins(read_forest(bundle.forest), rows_NF, None), atol=1e-4)


def test_the_preset_grows_a_random_forest_with_balanced_weights(world: Path) -> None:
    bundle = bundle_of(world / "plain")
    forest = pack_xgboost(bundle.forest, PLAIN, PLAIN_SLOT, [], slot_matrix(PLAIN_SLOT))
    rate = bundle.card["base_rate"]
    assert (len(forest.root_T), bundle.preset, bundle.policy) == (100, "seed_best_day", "day_of_week")
    assert 4 < forest.depth <= 10
    assert bundle.tensors["positive_weight"][0] == pytest.approx((1 - rate) / rate, rel=0.8)
    # balanced margins say that half of all rows click; freed of the weight they say what share does
    assert bundle.card["holdout"]["mean_p"] == pytest.approx(bundle.card["holdout"]["base_rate"], rel=1e-4)


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
    recipe = recipe_of(load_config(None, PLAIN_KEYS), "seed_best_day", 0, float(label_N[early].mean()))
    booster = fit_forest([lambda: Batch(features_NF[early], label_N[early])], recipe)
    margin_N = margins(booster, features_NF, None)
    weight = weight_of(margin_N[later], float(label_N[later].mean()), recipe)
    assert freed(margin_N[later], weight).mean() == pytest.approx(label_N[later].mean(), rel=1e-6)
    weighted = calibration_error(0.5 + margin_N[last] / 4, label_N[last])
    assert calibration_error(freed(margin_N[last], weight), label_N[last]) < 0.015 < 0.2 < weighted


def test_threads_and_buckets_change_nothing(world: Path, tmp_path: Path) -> None:
    for keys, name in ((OWN_KEYS, "own"), (PLAIN_KEYS, "plain")):
        report = fit(world / "store", tmp_path / name, *keys, threads=2)
        assert report.bundle_id == bundle_of(world / name).bundle_id
    store = store_of((row for user in USERS for row in rows_of(user)), tmp_path / "one", snapshot(), buckets=1)
    assert decide(store, settings(), bundle_of(world / "own")).equals(found_in(world))


def test_features_of_rows_know_nothing_of_their_labels(world: Path, tmp_path: Path) -> None:
    """Without any act after the origin the features are the same, and the labels are gone."""
    config = settings("model.label=click")
    span = span_of(DAY, config)
    rows = [row for user in range(1, 21) for row in rows_of(user)]
    early = [row for row in rows if row.kind == "send" or int(row.at.timestamp() * 1000) < span.origin_ms]
    made = []
    for name, some in (("all", rows), ("early", early)):
        store = store_of(some, tmp_path / name, snapshot())
        made.append(day_rows(bucket_moments(store, 0, span, config, "click"), span, config, None))
    np.testing.assert_array_equal(made[0].features_NF, made[1].features_NF)
    assert made[0].label_N.sum() > 0 == made[1].label_N.sum()
    assert set(made[0].hour_N) == set(range(7))


def test_clicks_are_counted_by_the_day_of_the_mail(tmp_path: Path) -> None:
    sent = before(9, 23)  # a Monday; the click comes on Tuesday
    store = store_of([*mail(1, sent, 3, kind="click"), *mail(1, before(8, 10))], tmp_path)
    bucket = known(store)
    assert day_counts(bucket).clicks_U7.sum() == 0, "nobody asked for clicks"
    config = settings()
    seen = bucket_moments(store, 0, span_of(DAY, load_config(None, ["train.label_days=1"])), config, "click")
    counts = day_counts(seen.origin)
    assert counts.sends_U7[0].tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert counts.clicks_U7[0].tolist() == [1, 0, 0, 0, 0, 0, 0]


def test_engagement_is_the_weighted_mean_of_what_is_known() -> None:
    days, acts, clicks = (np.array(x) for x in ([14, 0, NAN, NAN, 28], [1, NAN, 3, NAN, 0], [0.2, NAN, NAN, NAN, 0]))
    found = engagement_scores(days, acts, clicks, EngagementWeights())
    np.testing.assert_allclose(found, [50, 100, 75, NAN, 0.4 * 25])
    only = EngagementWeights(recency=0, frequency=0, clicks=2)
    np.testing.assert_allclose(engagement_scores(days, acts, clicks, only), [50, NAN, NAN, NAN, 0])


def test_the_snapshot_s_engagement_goes_before_the_computed_one(tmp_path: Path) -> None:
    store = store_of(rows_of(1) + rows_of(2), tmp_path, people([1, 2], engagement_score=[12.5, None]))
    bucket = known(store)
    score_U = plain_users(bucket, day_counts(bucket), settings())[0]
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


def test_urgency_stands_beside_the_choice(world: Path, tmp_path: Path) -> None:
    rows = [row for user in range(1, 9) for row in rows_of(user)]
    snapshot = people(range(1, 9), clv=[900.0] * 8, churn_risk=[0.9, 0.5, 0.1, None] * 2)
    store, config = store_of(rows, tmp_path, snapshot), settings()
    policy = make_policy(config, bundle_of(world / "own"))
    found = policy.utilities(known(store, everyone=True), policy.reduce([policy.sums(known(store), 1)]), DAY)
    assert found.urgency_U is not None
    ids = known(store, everyone=True).users["user_id"].to_list()
    told = dict(zip(ids, zip(found.urgency_U, found.utility_US.argmax(axis=1), strict=True), strict=True))
    wednesday = DAY.weekday()
    assert {told[1], told[5]} == {("today", wednesday)}
    assert all(told[user][0] == "within_24h" and told[user][1] in (wednesday, wednesday + 1) for user in (2, 6))
    assert {told[user][0] for user in (3, 4, 7, 8)} == {"best_day"}


REFUSED: dict[str, tuple[str, list[str]]] = {
    "own bundle, hours": ("own", ["model.policy=boosted"]),
    "own bundle, nothing said": ("own", ["model.label=click"]),
    "own bundle, preset": ("own", ["model.preset=seed_best_day"]),
    "plain bundle, preset of hours": ("plain", ["model.preset=seed_boosted"]),
    "another label": ("own", ["model.policy=day_of_week", "model.label=conversion"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bundles_of_another_kind_are_refused(world: Path, case: str) -> None:
    kind, keys = REFUSED[case]
    with pytest.raises(ConfigError, match="was trained for"):
        make_policy(load_config(None, keys), bundle_of(world / kind))


def test_days_need_a_bundle(world: Path) -> None:
    for keys in (OWN_KEYS, PLAIN_KEYS):
        with pytest.raises(ConfigError, match="needs a trained bundle"):
            make_policy(load_config(None, list(keys)), None)
    plain = make_policy(settings(), bundle_of(world / "plain"))
    assert (plain.name, make_policy(settings(), bundle_of(world / "own")).name) == ("seed_best_day", "day_of_week")


@pytest.mark.parametrize("keys", [OWN_KEYS, PLAIN_KEYS])
def test_too_little_to_learn_from_is_refused(world: Path, tmp_path: Path, keys: tuple[str, ...]) -> None:
    few = store_of((row for user in (1, 2) for row in rows_of(user)), tmp_path / "few")
    with pytest.raises(BadData, match="training rows"):
        fit(few.path, tmp_path / "bundle", *keys)
    acts = store_of([Row(1, "click", before(day, 9), day) for day in range(1, 60)], tmp_path / "acts")
    with pytest.raises(BadData, match="no sends to learn from"):
        fit(acts.path, tmp_path / "bundle", *keys)
    short = store_of((Row(user, "send", before(3, 9), 1) for user in range(1500)), tmp_path / "short")
    with pytest.raises(BadData, match="days of sends"):
        fit(short.path, tmp_path / "bundle", *keys)


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
