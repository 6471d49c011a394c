"""What happens after the origin must not move a feature of a training row: leaks are planted, and must be caught."""

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sto_engine.config import Config
from sto_engine.history.parts import campaign_tensors, read_campaigns, read_sample, sample_tensors
from sto_engine.ingest.store import Store
from sto_engine.models.features import Features, build_features, know
from sto_engine.models.fit import fit_priors
from sto_engine.models.priors import Priors
from sto_engine.tables import CAMPAIGN_ENUM, EVENT_ENUM
from sto_engine.train import moments as moments_module
from sto_engine.train.moments import Moments, bucket_moments, span_of
from sto_engine.train.rows import Rows, bucket_rows

AS_OF = date(2026, 4, 20)
MINUTE_MS = 60_000


def opens_at_new_hours(events: pl.DataFrame, origin_ms: int) -> pl.DataFrame:
    """Everyone opens each later mail at another hour, on a phone."""
    sent = later(events, origin_ms, "send")
    return at(sent, "open", 11 * 60).with_columns(device_type=pl.lit("mobile", events["device_type"].dtype))


def clicks_of_scanners(events: pl.DataFrame, origin_ms: int) -> pl.DataFrame:
    """Every later mail is clicked within seconds: the user looks like a link scanner from now on."""
    return at(half(later(events, origin_ms, "send")), "click", 0.1)


def prefetched_mail(events: pl.DataFrame, origin_ms: int) -> pl.DataFrame:
    """Later promos are opened within a minute: the user looks like a prefetching client from now on."""
    return at(half(later(events, origin_ms, "send")), "open", 0.5).with_columns(
        campaign_type=pl.lit("promo", CAMPAIGN_ENUM)
    )


def another_zone(events: pl.DataFrame, origin_ms: int) -> pl.DataFrame:
    """Later acts state an offset nine hours off: a relocation, and the newest offset of who has no zone."""
    return at(later(events, origin_ms, "send"), "open", 7 * 60).with_columns(tz_offset=pl.lit(540, pl.Int16))


def new_campaigns(events: pl.DataFrame, origin_ms: int) -> pl.DataFrame:
    """Many more mails, on new campaigns, to everyone, never opened: hints of a dead address."""
    sent = later(events, origin_ms, "send").unique("user_id", maintain_order=True)
    days = [
        sent.with_columns(
            campaign_id=pl.lit(10**9 + d, pl.UInt64), event_ts=pl.col("event_ts") + pl.duration(days=d % 20, seconds=d)
        )
        for d in range(40)
    ]
    return pl.concat(days).filter(pl.col("event_ts").dt.epoch("ms") >= origin_ms)


def bounces(events: pl.DataFrame, origin_ms: int) -> pl.DataFrame:
    """Later mail bounces, so that it was no exposure."""
    return at(half(later(events, origin_ms, "send")), "bounce", 3)


PLANTS = (opens_at_new_hours, clicks_of_scanners, prefetched_mail, another_zone, new_campaigns, bounces)


def later(events: pl.DataFrame, origin_ms: int, kind: str) -> pl.DataFrame:
    known = pl.col("event_ts").dt.epoch("ms")
    return events.filter((known >= origin_ms) & (pl.col("event_type").cast(pl.String) == kind))


def half(sent: pl.DataFrame) -> pl.DataFrame:
    """Those of every other user, so that rows of the others stay."""
    return sent.filter(pl.col("h") % 2 == 0)


def at(sent: pl.DataFrame, kind: str, minutes: float) -> pl.DataFrame:
    """An act upon each send, so much later."""
    return sent.with_columns(
        event_type=pl.lit(kind, EVENT_ENUM),
        event_ts=pl.col("event_ts") + pl.duration(milliseconds=int(minutes * MINUTE_MS)),
    )


@dataclass(frozen=True)
class Planted(Store):
    """A store whose every reading has later events sown in, in the order of the store."""

    plant: Any = None
    origin_ms: int = 0

    def read_events(self, bucket: int, before_ms: int | None = None, **more: Any) -> pl.DataFrame:
        events = super().read_events(bucket, before_ms=before_ms, **more)
        types = {"event_type": EVENT_ENUM, "campaign_type": CAMPAIGN_ENUM}
        sown = self.plant(events.cast(types), self.origin_ms).cast(dict(events.schema)).select(events.columns)
        both = pl.concat([events, sown])
        if before_ms is not None:
            both = both.filter(pl.col("event_ts").dt.epoch("ms") < before_ms)
        return (
            both.with_columns(kind=pl.col("event_type").cast(EVENT_ENUM))
            .sort("h", "user_id", "campaign_id", "event_ts", "kind", maintain_order=True)
            .drop("kind")
        )


@dataclass(frozen=True)
class Built:
    """What a build makes of a store at the origin: priors, features of everyone at every slot, and the rows."""

    priors: Priors
    features: list[Features]
    rows: Rows


def built(store: Store, config: Config) -> Built:
    span = span_of(AS_OF, config)
    seen = [moments_module.bucket_moments(store, b, span, config) for b in range(store.buckets)]
    parts = [{**campaign_tensors(m.origin), **sample_tensors(m.origin, store.buckets)} for m in seen]
    window_ms = (seen[0].origin.start_ms, seen[0].origin.end_ms)
    priors = fit_priors(read_sample(parts), read_campaigns(parts), window_ms)
    features = [build_features(know(m.origin, priors), day) for m in seen for day in (0, 4, 6)]
    rows = [bucket_rows(m, span, priors, None, config) for m in seen]
    return Built(
        priors, features, Rows(*(np.concatenate([getattr(r, f) for r in rows]) for f in Rows.__dataclass_fields__))
    )


@pytest.fixture(scope="module")
def honest(store: Path, small_config: Config) -> Built:
    return built(Store.open(store), small_config)


def planted(store: Path, plant: Any, config: Config) -> Planted:
    source = Store.open(store)
    return Planted(source.path, source.manifest, plant, span_of(AS_OF, config).origin_ms)


def same_features(a: Built, b: Built) -> bool:
    pairs = zip(a.features, b.features, strict=True)
    return all(
        np.array_equal(getattr(x, name), getattr(y, name), equal_nan=True)
        for x, y in pairs
        for name in ("user_FU", "cross_XSU", "p2_SU", "p24_SU")
    )


@pytest.mark.parametrize("plant", PLANTS)
def test_nothing_later_moves_a_prior_or_a_feature(plant: Any, honest: Built, store: Path, small_config: Config) -> None:
    found = built(planted(store, plant, small_config), small_config)
    for name, array in honest.priors.tensors().items():
        np.testing.assert_array_equal(found.priors.tensors()[name], array, err_msg=name)
    assert same_features(found, honest)


@pytest.mark.parametrize("plant", [p for p in PLANTS if p is not another_zone])
def test_rows_that_stay_keep_their_features_bit_for_bit(
    plant: Any, honest: Built, store: Path, small_config: Config
) -> None:
    """(A later zone says at which local hour an earlier mail really went out: labels may know that.)"""
    found = built(planted(store, plant, small_config), small_config).rows
    (own, first), (theirs, second) = (np.unique(r.order_N, return_index=True) for r in (honest.rows, found))
    _, a, b = np.intersect1d(own, theirs, return_indices=True)
    assert len(a) > 2_000
    np.testing.assert_array_equal(honest.rows.features_NF[first[a]], found.features_NF[second[b]])


@pytest.mark.parametrize("plant", PLANTS)
def test_the_plants_would_be_seen_in_a_build_that_looks_ahead(
    plant: Any, honest: Built, store: Path, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaky(*arguments: Any) -> Moments:
        seen = bucket_moments(*arguments)
        return replace(seen, origin=replace(seen.now, end_ms=seen.origin.end_ms))

    monkeypatch.setattr(moments_module, "bucket_moments", leaky)
    clean = built(Store.open(store), small_config)
    assert not same_features(clean, honest)
    assert not same_features(built(planted(store, plant, small_config), small_config), clean)
