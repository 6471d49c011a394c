"""Policies on histories whose answer is known by construction, and a bundle that cannot be changed unnoticed."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sto_engine.config import Config, load_config
from sto_engine.errors import BadData, ConfigError, InputMissing
from sto_engine.history.profile import Profile, build_profile
from sto_engine.history.users import build_users
from sto_engine.ingest import ingest
from sto_engine.ingest.store import Store
from sto_engine.models.boosted import Boosted
from sto_engine.models.bundle import load_bundle
from sto_engine.models.histogram import Histogram, ahead, smooth
from sto_engine.models.registry import make_policy
from sto_engine.progress import Silent
from sto_engine.slots import grid_of
from sto_engine.train_job import train

ORIGIN = datetime(2026, 4, 1, tzinfo=UTC)
ORIGIN_MS = int(ORIGIN.timestamp()) * 1000
CONFIG = load_config(None, ["store.buckets=1"])


def store_of(rows: list[tuple[int, str, datetime]], folder: Path, people: pl.DataFrame | None = None) -> Store:
    frame = pl.DataFrame(
        {
            "user_id": pl.Series([r[0] for r in rows], dtype=pl.UInt64),
            "campaign_id": pl.Series(range(len(rows)), dtype=pl.UInt64),
            "event_type": [r[1] for r in rows],
            "event_ts": pl.Series([r[2] for r in rows]).cast(pl.Datetime("ms", "UTC")),
        }
    )
    frame.write_parquet(folder / "e.parquet")
    path = None
    if people is not None:
        path = folder / "r.parquet"
        people.write_parquet(path)
    ingest([str(folder / "e.parquet")], folder / "s", path, CONFIG, Silent())
    return Store.open(folder / "s")


def profile_of(store: Store, config: Config = CONFIG, slots: int = 24, origin_ms: int = ORIGIN_MS) -> Profile:
    events = store.read_events(0)
    audience = events.select("h", "user_id").unique(maintain_order=True)
    users = build_users(audience, store.read_recipients(0), events, config, origin_ms)
    return build_profile(events, users, grid_of(slots), origin_ms, config)


def opens(user: int, hour: float, count: int) -> list[tuple[int, str, datetime]]:
    return [(user, "open", ORIGIN - timedelta(days=d + 1) + timedelta(hours=hour)) for d in range(count)]


def decide(profile: Profile, config: Config = CONFIG) -> tuple[dict[int, int], dict[int, str]]:
    policy = Histogram()
    found = policy.utilities(profile, policy.reduce([policy.sums(profile)]), date(2026, 4, 1))
    ids = profile.users["user_id"].to_list()
    assert found.p_open_US is None
    return dict(zip(ids, found.utility_US.argmax(1).tolist(), strict=True)), dict(zip(ids, found.reason_U, strict=True))


@pytest.mark.parametrize("slots", [24, 48])
def test_who_opens_only_at_one_hour_gets_the_slot_whose_two_hours_hold_it(tmp_path: Path, slots: int) -> None:
    store = store_of(opens(1, 19.25, 20) + opens(2, 7.25, 20), tmp_path)
    slot, reason = decide(profile_of(store, slots=slots))
    per_hour = slots // 24
    assert slot[1] // per_hour in (18, 19)
    assert slot[2] // per_hour in (6, 7)
    assert set(reason.values()) == {"histogram"}


def test_few_opens_fall_back_to_the_cohort_and_none_anywhere_to_the_control_time(tmp_path: Path) -> None:
    people = pl.DataFrame(
        {
            "user_id": pl.Series([1, 2, 3, 4], dtype=pl.UInt64),
            "signup_source": ["web", "web", "web", "shop"],
        }
    )
    sends = [(4, "send", ORIGIN - timedelta(days=2))]
    store = store_of(opens(1, 20.2, 30) + opens(2, 6.2, 4) + opens(3, 6.2, 5) + sends, tmp_path, people)
    slot, reason = decide(profile_of(store))
    assert reason == {1: "histogram", 2: "cohort", 3: "histogram", 4: "global"}
    assert slot[2] in (19, 20)
    assert slot[3] in (5, 6)
    alone = tmp_path / "alone"
    alone.mkdir()
    _, reason = decide(profile_of(store_of([(9, "send", ORIGIN - timedelta(days=1))], alone)))
    assert reason == {9: "fallback"}


def test_machine_opens_and_users_who_refuse_profiling_count_for_nobody(tmp_path: Path) -> None:
    people = pl.DataFrame({"user_id": pl.Series([1], dtype=pl.UInt64), "consent_profiling": [False]})
    profile = profile_of(store_of(opens(1, 20, 9) + opens(2, 6, 9), tmp_path, people))
    row = dict(zip(profile.users["user_id"], profile.acts_US.sum(axis=1), strict=True))
    assert row == {1: 0, 2: 9}


def test_history_ends_before_the_origin_and_begins_history_days_earlier(tmp_path: Path) -> None:
    at = [
        ORIGIN,
        ORIGIN - timedelta(milliseconds=1),
        ORIGIN - timedelta(days=90),
        ORIGIN - timedelta(days=90, milliseconds=1),
    ]
    profile = profile_of(store_of([(1, "open", t) for t in at], tmp_path))
    assert profile.opens_U.tolist() == [2]


def test_acts_fall_into_the_local_slot_of_their_day_across_daylight_saving(tmp_path: Path) -> None:
    people = pl.DataFrame({"user_id": pl.Series([1], dtype=pl.UInt64), "timezone": ["America/New_York"]})
    winter, summer = datetime(2026, 3, 1, 15, tzinfo=UTC), datetime(2026, 3, 20, 15, tzinfo=UTC)
    profile = profile_of(store_of([(1, "open", winter), (1, "open", summer)], tmp_path, people))
    assert np.flatnonzero(profile.acts_US[0]).tolist() == [10, 11]


def test_an_events_own_offset_counts_where_the_profile_has_no_zone(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "user_id": pl.Series([1, 1], dtype=pl.UInt64),
            "campaign_id": pl.Series([1, 2], dtype=pl.UInt64),
            "event_type": ["open", "open"],
            "event_ts": pl.Series([datetime(2026, 3, 1, 12, tzinfo=UTC)] * 2),
            "tz_offset": pl.Series([345, None], dtype=pl.Int16),
        }
    )
    frame.write_parquet(tmp_path / "e.parquet")
    ingest([str(tmp_path / "e.parquet")], tmp_path / "s", None, CONFIG, Silent())
    profile = profile_of(Store.open(tmp_path / "s"))
    assert profile.users["zone"].to_list() == ["345"]
    assert profile.acts_US[0].nonzero()[0].tolist() == [17]
    assert profile.acts_US[0, 17] == 2


def test_smoothing_keeps_the_sum_and_the_centre() -> None:
    counts = np.zeros((1, 24), np.float32)
    counts[0, 23] = 8
    out = smooth(counts)
    assert out.sum() == pytest.approx(8)
    assert out[0].argmax() == 23
    assert out[0, 0] == pytest.approx(out[0, 22])
    np.testing.assert_allclose(ahead(counts.astype(float))[0, [22, 23]], [8, 8])


def test_recency_weights_halve_with_each_half_life(tmp_path: Path) -> None:
    config = load_config(None, ["model.half_life_days=10"])
    profile = profile_of(store_of([(1, "open", ORIGIN - timedelta(days=20))], tmp_path), config)
    assert profile.acts_US.sum() == pytest.approx(0.25)


def test_nothing_after_the_origin_reaches_a_feature(store: Path, small_config: Config, tmp_path: Path) -> None:
    """A leak is planted: later opens at new hours. Features must not move; labels may."""
    source = Store.open(store)
    as_of_ms = int(datetime(2026, 4, 20, tzinfo=UTC).timestamp()) * 1000
    origin_ms = as_of_ms - small_config.train.label_days * 86_400_000

    class Leaky(Store):
        def read_events(self, bucket: int, before_ms: int | None = None, from_ms: int | None = None) -> pl.DataFrame:
            events = super().read_events(bucket, before_ms, from_ms)
            late = pl.col("event_ts").dt.epoch("ms") >= origin_ms
            planted = events.filter(late & (pl.col("event_type").cast(pl.String) == "open")).with_columns(
                event_ts=pl.lit(origin_ms + 1).cast(pl.Datetime("ms", "UTC")), tz_offset=pl.lit(840, pl.Int16)
            )
            return pl.concat([events, planted])

    grid = grid_of(24)
    for bucket in range(source.buckets):
        honest, _, _ = bucket_rows(source, bucket, as_of_ms, grid, small_config)
        leaky, _, _ = bucket_rows(Leaky(source.path, source.manifest), bucket, as_of_ms, grid, small_config)
        np.testing.assert_array_equal(honest.features_NF, leaky.features_NF)
        assert len(honest.label_N) > 500


def test_labels_are_opens_within_two_hours_of_the_last_send_before_them(tmp_path: Path) -> None:
    day = datetime(2026, 3, 20, 8, tzinfo=UTC)
    hours = [("send", 0), ("open", 1.9), ("send", 24), ("open", 26.1), ("send", 48), ("send", 49), ("open", 49.5)]
    frame = pl.DataFrame(
        {
            "user_id": pl.Series([1] * 7, dtype=pl.UInt64),
            "campaign_id": pl.Series([5] * 7, dtype=pl.UInt64),
            "event_type": [kind for kind, _ in hours],
            "event_ts": pl.Series([day + timedelta(hours=h) for _, h in hours]),
        }
    )
    frame.write_parquet(tmp_path / "e.parquet")
    ingest([str(tmp_path / "e.parquet")], tmp_path / "s", None, CONFIG, Silent())
    rows, sends, _ = bucket_rows(Store.open(tmp_path / "s"), 0, ORIGIN_MS, grid_of(24), CONFIG)
    assert rows.label_N.tolist() == [1, 0, 0, 1]
    assert sends == 4


def test_a_bundle_scores_as_it_was_trained(store: Path, bundle: Path, small_config: Config) -> None:
    xgboost = pytest.importorskip("xgboost")
    source, loaded = Store.open(store), load_bundle(bundle)
    profile = profile_of(source, small_config, origin_ms=int(datetime(2026, 4, 20, tzinfo=UTC).timestamp()) * 1000)
    found = Boosted(loaded).utilities(profile, {}, date(2026, 4, 20))
    from sto_engine.models.features import SLOT_FEATURES, slot_matrix, user_features, user_matrix

    user_FU, slot_SG = user_matrix(profile), slot_matrix(profile.grid, date(2026, 4, 20))
    users = user_FU.shape[1]
    rows = np.concatenate([np.repeat(user_FU.T, 24, axis=0), np.tile(slot_SG, (users, 1))], axis=1)
    booster = xgboost.Booster(model_file=bytearray(loaded.forest))
    names = [*user_features(profile.grid), *SLOT_FEATURES]
    truth = booster.predict(xgboost.DMatrix(rows, feature_names=names), output_margin=True).reshape(users, 24)
    np.testing.assert_allclose(found.utility_US, truth, atol=2e-5)
    assert found.p_open_US is not None
    assert ((found.p_open_US > 0) & (found.p_open_US < 1)).all()


def test_training_again_gives_the_same_bytes(store: Path, bundle: Path, small_config: Config, tmp_path: Path) -> None:
    train(store, tmp_path / "b", None, small_config, threads=1, seed=0, if_older_than_days=None, progress=Silent())
    for file in bundle.iterdir():
        assert (tmp_path / "b" / file.name).read_bytes() == file.read_bytes()


def test_a_young_bundle_is_kept(store: Path, bundle: Path, small_config: Config) -> None:
    report = train(store, bundle, None, small_config, threads=1, seed=5, if_older_than_days=7, progress=Silent())
    assert report.skipped


@pytest.mark.parametrize("name", ["forest.ubj", "priors.safetensors", "card.json", "bundle.json"])
def test_a_flipped_bit_anywhere_in_a_bundle_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    for at in (0.1, 0.5, 0.9):
        copy = tmp_path / str(at)
        copy.mkdir()
        for file in bundle.iterdir():
            data = bytearray(file.read_bytes())
            if file.name == name:
                data[int(len(data) * at)] ^= 1
            (copy / file.name).write_bytes(data)
        with pytest.raises(BadData):
            load_bundle(copy)


def test_bundles_of_another_kind_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="sto-engine train"):
        load_bundle(tmp_path)
    for body, text in ((b"\x80\x04\x95", "no JSON"), (json.dumps({"bundle_version": 2}).encode(), "found 2")):
        (tmp_path / "bundle.json").write_bytes(body)
        with pytest.raises(BadData, match=text):
            load_bundle(tmp_path)


def test_a_bundle_of_other_features_is_refused(bundle: Path, store: Path) -> None:
    loaded = load_bundle(bundle)
    profile = profile_of(Store.open(store), slots=48)
    with pytest.raises(BadData, match="does not fit"):
        Boosted(loaded).utilities(profile, {}, date(2026, 4, 20))


def test_histories_that_cannot_be_trained_are_refused(tmp_path: Path) -> None:
    store_of(opens(1, 9, 20), tmp_path)

    def fit(*keys: str) -> None:
        config = load_config(None, list(keys))
        train(
            tmp_path / "s", tmp_path / "b", None, config, threads=1, seed=0, if_older_than_days=None, progress=Silent()
        )

    with pytest.raises(BadData, match="no sends"):
        fit()
    (tmp_path / "e.parquet").unlink()
    more = tmp_path / "more"
    more.mkdir()
    store_of([(1, "send", ORIGIN - timedelta(days=d)) for d in range(1, 10)], more)
    for text, keys in (("14 days", []), ("1000 training rows", ["train.min_label_days=1"])):
        with pytest.raises(BadData, match=text):
            train(more / "s", tmp_path / "b", None, load_config(None, keys), 1, 0, None, Silent())
    config = load_config(None, ["train.min_label_days=1", "train.min_rows=5"])
    with pytest.raises(BadData, match="both outcomes"):
        train(more / "s", tmp_path / "b", None, config, 1, 0, None, Silent())


@pytest.mark.parametrize("name", ["attention", "bandit", "day_of_week", "hour_of_week"])
def test_policies_to_come_exit_as_configuration_errors(name: str) -> None:
    with pytest.raises(ConfigError, match="not available in this version"):
        make_policy(load_config(None, [f"model.policy={name}"]), None)
