"""The best day of the week: who gets his own, who that of his tier, and how long urgent mail may wait."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from histories import DAY, Row, before, column, decide, known, mail, people, store_of
from sto_engine.config import Config, load_config
from sto_engine.console import show
from sto_engine.errors import BadData, ConfigError
from sto_engine.ingest.store import Store
from sto_engine.job import ScoreRequest, ScoreResult, run_score
from sto_engine.models.bundle import Bundle, load_bundle
from sto_engine.models.day_features import (
    OWN,
    OWN_CROSS,
    OWN_SLOT,
    PLAIN,
    PLAIN_SLOT,
    day_counts,
    slot_matrix,
)
from sto_engine.models.day_of_week import DayOfWeek
from sto_engine.models.device import slot_margins
from sto_engine.models.forest import margins, read_forest
from sto_engine.models.registry import make_policy
from sto_engine.progress import Silent
from sto_engine.train.day_rows import day_rows
from sto_engine.train.moments import bucket_moments, span_of
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


def test_threads_and_buckets_change_nothing(world: Path, tmp_path: Path) -> None:
    report = fit(world / "store", tmp_path / "plain", *PLAIN_KEYS, threads=2)
    assert report.bundle_id == bundle_of(world / "plain").bundle_id
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


def night(world: Path, out: Path, *keys: str, day: date = DAY, store: Path | None = None, **more: Any) -> ScoreResult:
    kind = "plain" if any("preset" in key for key in keys) else "own"
    config = load_config(None, [*(PLAIN_KEYS if kind == "plain" else OWN_KEYS), "experiment.control_share=0", *keys])
    request = ScoreRequest(store or world / "store", out, world / kind, day, **{"threads": 1, **more})
    return run_score(request, config, Silent())


def sent(result: ScoreResult) -> pl.DataFrame:
    assert result.run_dir is not None
    return pl.read_parquet(result.run_dir / "assignments" / "*.parquet").sort("user_id")


def test_a_night_sends_on_the_day_of_each_and_tells_the_table(world: Path, tmp_path: Path) -> None:
    result = night(world, tmp_path, dump_scores=True)
    rows = sent(result)
    own = rows.filter(pl.col("reason") == "model")
    wanted = pl.select(pl.when(own["user_id"] % 2 == 1).then(TUESDAY).otherwise(FRIDAY)).to_series()
    assert (own["slot"] == wanted).mean() > 0.97
    ahead = (own["slot"].cast(pl.Int64) - DAY.weekday()) % 7
    assert own["slot_local"].dt.date().to_list() == [DAY + timedelta(days=n) for n in ahead]
    assert set(own["slot_local"].dt.hour()) == {10}
    assert result.summary["by_urgency"] == {"best_day": len(rows)}
    told = result.summary["best_day"]
    assert told == bundle_of(world / "own").card["best_day"]
    assert [row["tier"] for row in told["tiers"]][-1] == "all"
    assert sum(day["sends"] for day in told["tiers"][-1]["days"]) == bundle_of(world / "own").card["rows"]
    assert result.run_dir is not None
    scores = pl.read_parquet(result.run_dir / "scores" / "*.parquet")["p_open"]
    assert set(scores.list.len()) == {7}


def test_threads_change_no_byte_of_a_night_by_the_preset(world: Path, tmp_path: Path) -> None:
    keys = ("model.preset=seed_best_day", "capacity.total=400/day")
    first, second = (night(world, tmp_path / str(n), *keys, threads=n) for n in (1, 2))
    assert sent(first).equals(sent(second))
    assert first.summary["run_id"] == second.summary["run_id"]


def urgent_store(folder: Path) -> Path:
    """Six people who may be lost, three in each of two zones; the third of each is worth little."""
    rows = [row for user in range(1, 7) for row in rows_of(user)]
    zones = ["Europe/Berlin"] * 3 + ["America/New_York"] * 3
    snapshot = people(range(1, 7), clv=[900.0, 900.0, 50.0] * 2, churn_risk=[0.9, 0.5, 0.9] * 2, timezone=zones)
    return store_of(rows, folder, snapshot).path


def test_urgent_mail_waits_no_longer_than_it_must(world: Path, tmp_path: Path) -> None:
    """On 2026-03-29 there is no 02:30 in Berlin, so mail that is to go today goes on Monday there."""
    store, day = urgent_store(tmp_path / "urgent"), date(2026, 3, 29)
    result = night(world, tmp_path / "runs", "experiment.control_time=02:30", day=day, store=store)
    rows = sent(result)
    assert rows["urgency"].to_list() == ["today", "within_24h", "within_24h"] * 2
    found = [(at - day).days for at in rows["slot_local"].dt.date()]
    assert found[:3] == [1, 1, 1], "of the first two days only Monday is there"
    assert found[3] == 0
    assert max(found[4:]) <= 1
    # a later start closes today everywhere
    later_ms = int(datetime(2026, 3, 29, 12, tzinfo=UTC).timestamp() * 1000)
    rows = sent(night(world, tmp_path / "later", day=day, store=store, not_before_ms=later_ms))
    assert rows.filter(pl.col("urgency") == "today")["slot_local"].dt.date().to_list() == [date(2026, 3, 30), day]


def test_urgent_mail_for_which_its_days_have_no_room_is_sent_later(world: Path, tmp_path: Path) -> None:
    store = urgent_store(tmp_path / "urgent")
    one_a_day = ("capacity.total=1/day", "experiment.control_time=12:00")
    result = night(world, tmp_path / "runs", *one_a_day, store=store)
    rows = sent(result)
    assert result.summary["by_urgency"] == {"today": 2, "within_24h": 4}
    assert len(rows) == 6, "nobody is lost"
    days = (rows["slot_local"].dt.date() - DAY).dt.total_days().to_list()
    assert len(set(days)) >= 3


def test_other_policies_leave_urgency_empty(world: Path, tmp_path: Path) -> None:
    request = ScoreRequest(world / "store", tmp_path, None, DAY, threads=1)
    result = run_score(request, load_config(None, ["model.policy=histogram"]), Silent())
    assert sent(result)["urgency"].null_count() == len(sent(result))
    assert "best_day" not in result.summary
    assert result.summary["by_urgency"] == {}


def test_people_are_shown_the_table(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show({"best_day": bundle_of(world / "own").card["best_day"]}, as_json=False)
    text = capsys.readouterr().out
    assert "best day by tier of engagement" in text
    assert text.count("±") >= 7
    assert all(name in text for name in ("Mon", "Sun", "all"))
