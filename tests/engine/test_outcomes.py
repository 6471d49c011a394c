"""What counts as an outcome, on histories made by hand."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from histories import CONFIG, ORIGIN, Row, before, known, mail, store_of
from sto_engine.history.bucket import Bucket
from sto_engine.models.outcomes import Outcomes, Terms, count_outcomes

EVERY_TYPE = np.ones(3)
TWO_HOURS = Terms(24, "open_2h", 6)


def bucket_of(rows: list[Row], folder: Path) -> Bucket:
    return known(store_of(rows, folder), config=CONFIG)


def counted(bucket: Bucket, terms: Terms = TWO_HOURS, rate: float = 1.0, discount: float = 1.0) -> Outcomes:
    rate_C = np.full(len(bucket.campaign_key_C), rate)
    return count_outcomes(bucket.cleaned, rate_C, EVERY_TYPE, terms, bucket.end_ms, discount)


def ago(hours: float) -> datetime:
    return ORIGIN - timedelta(hours=hours)


def test_a_send_counts_once_its_window_and_the_lag_are_over(tmp_path: Path) -> None:
    """At 8 hours of age: neither the early hit of a younger one counts nor its miss."""
    rows = [*mail(1, ago(8.0), 0.5), *mail(1, ago(6.9), 0.5), *mail(2, ago(8.1)), *mail(2, ago(7.5))]
    found = counted(bucket_of(rows, tmp_path))
    assert found.sends_US.sum(axis=1).tolist() == [1, 1]
    assert sorted(found.hits_US.sum(axis=1).tolist()) == [0, 1]


def test_hits_stand_at_the_slot_of_the_send(tmp_path: Path) -> None:
    rows = [*mail(1, before(3, 9.6), 1.9), *mail(1, before(2, 9.1), 2.1), *mail(1, before(2, 20.0), 0.1)]
    bucket = bucket_of(rows, tmp_path)
    hours, halves = counted(bucket), counted(bucket, Terms(48, "open_2h", 6))
    assert (hours.sends_US[0, 9], hours.hits_US[0, 9], hours.misses_US[0, 9]) == (2, 1, 1)
    assert (halves.sends_US[0, 18], halves.sends_US[0, 19], halves.hits_US[0, 19]) == (1, 1, 1)
    assert hours.hits_US[0, 20] == halves.hits_US[0, 40] == 1
    day = counted(bucket, Terms(24, "open_24h", 6))
    assert day.hits_US[0, 9] == 2


def test_a_dull_campaign_is_less_of_a_try_and_a_hit_all_the_same(tmp_path: Path) -> None:
    found = counted(bucket_of([*mail(1, before(3, 9), 0.5), *mail(1, before(2, 9))], tmp_path), rate=0.4)
    assert found.sends_US[0, 9] == pytest.approx(0.8)
    assert found.hits_US[0, 9] == 1
    assert found.misses_US[0, 9] == 0


def test_a_day_leaves_its_share_of_an_outcome(tmp_path: Path) -> None:
    found = counted(bucket_of([*mail(1, before(3, 9), 0.5), *mail(1, before(10, 9))], tmp_path), discount=0.9)
    assert found.hits_US[0, 9] == pytest.approx(0.9**2)  # two whole days and 15 hours
    assert found.sends_US[0, 9] == pytest.approx(0.9**2 + 0.9**9)


def test_machines_teach_nothing(tmp_path: Path) -> None:
    """A client that opens everything within a minute."""
    rows = [row for day in range(2, 12) for row in mail(1, before(day, 9), 0.01)]
    bucket = bucket_of([*rows, *mail(2, before(3, 9), 0.5)], tmp_path)
    assert bucket.bad_U.sum() == 1
    found = counted(bucket)
    assert found.sends_US.sum() == found.hits_US.sum() == 1
