"""Days off by country, by construction: what counts as a weekend, to whom, and on which day nobody is mailed."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from histories import DAY, ORIGIN, before, column, decide, known, mail, people, store_of
from sto_engine.config import Config, load_config
from sto_engine.errors import BadData, ConfigError, InputMissing
from sto_engine.history.days import DAY_MS, WEEKENDS, Days, country_of, days_of, unknown_countries
from sto_engine.history.public_holidays import holidays_of
from sto_engine.ingest.calendar_file import with_calendar
from sto_engine.ingest.store import Store
from sto_engine.job import ScoreRequest, run_score
from sto_engine.models.counts import Weights, bucket_counts
from sto_engine.models.features import chances, know
from sto_engine.models.priors import from_tensors
from sto_engine.models.registry import make_policy
from sto_engine.progress import Silent
from sto_engine.train.moments import bucket_moments, span_of
from sto_engine.train.rows import labelled_sends

OFF_HOUR, WORK_HOUR, HOUR_MS = 10, 20, 3_600_000
FRIDAY, SUNDAY, MONDAY = date(2026, 4, 3), date(2026, 4, 5), date(2026, 4, 6)
COUNTRIES = ("EG", "DE", "eg ", "Egypt")


def is_off(country: str, day: date) -> bool:
    return day.weekday() in ((4, 5) if country.strip().upper() == "EG" else (5, 6))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """200 users of four spellings of two weekends, mailed at any hour, who look at 10:00 on days off, else at 20:00."""
    rng, rows = np.random.default_rng(0), []
    for user in range(200):
        for day in range(2, 80):
            sent = before(day, int(rng.integers(0, 24)))
            look = sent
            while look.hour != (OFF_HOUR if is_off(COUNTRIES[user % 4], look.date()) else WORK_HOUR):
                look += timedelta(hours=1)
            wait = (look - sent).total_seconds() / 3600 + rng.uniform(0.05, 0.95)
            rows += mail(user, sent, wait if wait < 24 and rng.random() < 0.7 else None)
    country = [COUNTRIES[user % 4] for user in range(200)]
    return store_of(rows, tmp_path_factory.mktemp("days"), people(range(200), country=country), buckets=2)


def config(*keys: str) -> Config:
    return load_config(None, ["model.policy=attention", "experiment.control_share=0", *keys])


def day_config(path: Path, *rows: str, keys: tuple[str, ...] = ()) -> Config:
    path.write_text("\n".join(["date,region,treat_as", *rows]))
    return config(f"context.calendar={path}", *keys)


def hours(store: Store, by: Config, day: date) -> dict[str, set[int]]:
    """The hours that the people of each spelling get on a day."""
    slots = column(decide(store, by, day=day), "slot")
    return {name: {int(str(slots[u])) for u in range(200) if COUNTRIES[u % 4] == name} for name in COUNTRIES}


EARLY, LATE = {OFF_HOUR - 1, OFF_HOUR}, {WORK_HOUR - 1, WORK_HOUR}


def test_a_friday_is_a_weekend_where_the_weekend_is_friday_and_saturday(store: Store) -> None:
    friday, sunday = hours(store, config(), FRIDAY), hours(store, config(), SUNDAY)
    assert friday["EG"] <= EARLY
    assert friday["eg "] <= EARLY
    assert friday["DE"] <= LATE
    assert sunday["EG"] <= LATE
    assert sunday["DE"] <= EARLY


def test_without_weekends_by_country_the_days_of_the_others_are_taken(store: Store) -> None:
    found = decide(store, config("context.weekends=same"), day=FRIDAY)
    assert set(column(found, "slot")[u] for u in range(0, 200, 4)) - EARLY


def test_a_country_may_be_moved_by_the_configuration(store: Store) -> None:
    bucket = known(store, config=config('context.weekend_days={EG="sat,sun"}'))
    assert bucket.days is None
    bucket = known(store, config=config('context.weekend_days={DE="mon"}'))
    assert bucket.days is not None
    weekday_U, german_U = bucket.days.weekday_U(MONDAY), (bucket.users["country"] == "DE").to_numpy()
    assert set(weekday_U[german_U]) == {6}
    assert set(weekday_U[~german_U]) == {0}


def test_other_spellings_of_a_country_are_told_apart_and_counted() -> None:
    names = pl.Series(["DE", " de", "Germany", "XX", "", None])
    assert [country_of(name) for name in names.drop_nulls()] == ["DE", "DE", "", "", ""]
    assert unknown_countries(names) == 3


def test_the_shipped_weekends_are_those_of_the_library() -> None:
    holidays = pytest.importorskip("holidays")
    names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    for country in set(holidays.list_supported_countries(include_aliases=False)) - {"LY", "PS"}:
        weekend = holidays.country_holidays(country).weekend
        if country in WEEKENDS or 4 in weekend:
            assert WEEKENDS[country] == ",".join(names[day] for day in sorted(weekend)), country


def naive_hours(days: Days, user: int, low: int, high: int) -> np.ndarray:
    """Hours of [low, high), local ms, in each cell by the table of days off itself, float64 [48]."""
    found = np.zeros(48)
    while low < high:
        until = min(low // HOUR_MS * HOUR_MS + HOUR_MS, high)
        off = days.off_RD[days.row_U[user], low // DAY_MS - days.first]
        found[low // HOUR_MS % 24 + 24 * off] += (until - low) / HOUR_MS
        low = until
    return found


def test_counts_are_those_of_a_calendar_walked_hour_by_hour(store: Store) -> None:
    by = config("context.days=[{date='2026-03-04', treat_as='weekend'}, {date='2026-03-06', treat_as='weekend'}]")
    bucket = known(store, config=by).of(slice(0, 12))
    days, cleaned = bucket.days, bucket.cleaned
    assert days is not None
    weights = Weights(*(np.ones(len(bucket.campaign_key_C)) for _ in range(2)), np.ones((3, 24)), np.ones(3))
    counts = bucket_counts(bucket.counted, len(bucket.users), weights, (bucket.start_ms, bucket.end_ms), True, None)
    opens_U48, exposure_U48 = np.zeros((2, len(bucket.users), 48))
    rows = zip(cleaned.user_S, cleaned.utc_S, cleaned.local_S.tolist(), cleaned.latency_S.tolist(), strict=True)
    for user, utc, local, latency in rows:
        assert bucket.end_ms - utc >= DAY_MS
        is_open = 0 <= latency < DAY_MS
        if is_open:
            opens_U48[user] += naive_hours(days, user, local + latency, local + latency + 1) > 0
        # a mail never opened counts as sent at a quarter past
        start = local if is_open else local // HOUR_MS * HOUR_MS + HOUR_MS // 4
        exposure_U48[user] += naive_hours(days, user, start, local + latency if is_open else start + DAY_MS)
    np.testing.assert_array_equal(counts.opens_U48, opens_U48)
    np.testing.assert_allclose(counts.exposure_U48, exposure_U48, rtol=1e-5, atol=1e-5)


def test_only_the_kind_of_a_day_moves(store: Store) -> None:
    bucket = known(store)
    moved, kept = bucket.counted, bucket.cleaned
    assert (moved.local_S != kept.local_S).any()
    for name in ("local_S", "local_A"):
        assert not ((getattr(moved, name) - getattr(kept, name)) % DAY_MS).any()
    german_S = (bucket.users["country"] == "DE").to_numpy()[kept.user_S]
    np.testing.assert_array_equal(moved.local_S[german_S], kept.local_S[german_S])


def test_a_day_off_by_the_calendar_is_a_weekend_in_the_history_and_when_it_is_scored(
    store: Store, tmp_path: Path
) -> None:
    assert hours(store, config(), MONDAY)["DE"] <= LATE
    by = with_calendar(day_config(tmp_path / "c.csv", "2026-04-06,DE,weekend"))
    found = hours(store, by, MONDAY)
    assert found["DE"] <= EARLY
    assert found["EG"] <= LATE
    region = with_calendar(day_config(tmp_path / "r.csv", "2026-04-06,europe,weekend", "2026-04-06,asia,no_send"))
    assert hours(store, region, MONDAY)["EG"] <= EARLY


def test_the_eve_of_a_day_off_is_a_friday_and_its_end_a_sunday() -> None:
    users = people([1], country="DE").with_columns(region=pl.lit("europe"))
    by = config("context.days=[{date='2026-04-08', treat_as='weekend'}]")
    days = days_of(users, int(ORIGIN.timestamp() * 1000) - 9 * DAY_MS, int(ORIGIN.timestamp() * 1000), by)
    assert days is not None
    week = [int(days.weekday_U(date(2026, 4, day))[0]) for day in range(5, 12)]
    assert week == [6, 0, 4, 6, 3, 4, 5]
    assert days.counts(date(2026, 4, 8)) == {"day_off:DE": 1}
    assert days.counts(date(2026, 4, 9)) == {}


@pytest.mark.parametrize(("mode", "past", "future"), [("both", 1, 1), ("history", 1, 0), ("scoring", 0, 1)])
def test_public_holidays_count_where_they_are_asked_for(mode: str, past: int, future: int) -> None:
    users = people([1, 2], country=["DE", "US"]).with_columns(region=pl.lit("europe"))
    at_ms = int(
        datetime(2026, 4, 4, tzinfo=UTC).timestamp() * 1000
    )  # Good Friday was the 3rd, Easter Monday is the 6th
    days = days_of(users, at_ms - 20 * DAY_MS, at_ms, config(f"context.holidays={mode}"))
    assert days is not None
    off_RD = days.off_RD[days.row_U]
    friday, monday = (day.toordinal() - date(1970, 1, 1).toordinal() - days.first for day in (FRIDAY, MONDAY))
    assert off_RD[:, friday].tolist() == [past, 0]
    assert off_RD[:, monday].tolist() == [future, 0]


def test_a_country_that_the_library_does_not_know_has_no_holidays() -> None:
    assert holidays_of("AQ", 2026) == frozenset() or len(holidays_of("AQ", 2026)) > 0
    assert date(2026, 12, 25).toordinal() in holidays_of("DE", 2026)


def run(store: Store, by: Config, out: Path, day: date) -> tuple[dict[str, object], pl.DataFrame]:
    done = run_score(ScoreRequest(store.path, out, date=day, threads=1), by, Silent())
    assert done.run_dir is not None
    files = sorted((done.run_dir / "suppressed").glob("*.parquet"))
    return done.summary, pl.concat([pl.read_parquet(file) for file in files])


def test_nobody_is_mailed_on_a_day_that_the_calendar_closes_and_the_path_names_no_run(
    store: Store, tmp_path: Path
) -> None:
    rows = ("2026-04-06,DE,no_send", "2026-04-06,EG,weekend")
    first, gone = run(store, day_config(tmp_path / "a.csv", *rows), tmp_path / "runs", MONDAY)
    assert set(gone["reason"]) == {"no_send_day"}
    assert sorted(gone["user_id"]) == list(range(1, 200, 4))
    assert first["context"] == {
        "day_off": {"EG": 100},
        "work_day": {},
        "no_send": {"DE": 50},
        "unknown_country": 50,
    }
    pl.DataFrame({"date": [MONDAY] * 2, "region": ["EG", "DE"], "treat_as": ["weekend", "no_send"]}).write_parquet(
        tmp_path / "b.parquet"
    )
    again, _ = run(store, config(f"context.calendar={tmp_path / 'b.parquet'}"), tmp_path / "runs", MONDAY)
    other, _ = run(store, day_config(tmp_path / "a.csv", rows[0]), tmp_path / "runs", MONDAY)
    plain, _ = run(store, config("context.weekends=same"), tmp_path / "runs", MONDAY)
    assert again["run_id"] == first["run_id"]
    assert len({first["run_id"], other["run_id"], plain["run_id"]}) == 3
    assert "context" not in plain


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("2026-13-01,DE,weekend", 'row 2: date must be such as 2026-12-25; found "2026-13-01"'),
        ("2026-12-25,Germany,weekend", 'row 2: region must be .*; found "Germany"'),
        ("2026-12-25,DE,closed", 'row 2: treat_as must be weekend or no_send; found "closed"'),
        (",DE,weekend", "row 2: date"),
        ("2026-12-25,DE", "row 2"),
    ],
)
def test_a_bad_row_of_a_calendar_is_named(tmp_path: Path, row: str, text: str) -> None:
    with pytest.raises(BadData, match=text):
        with_calendar(day_config(tmp_path / "c.csv", "2026-12-24,*,no_send", row))


def test_a_calendar_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissing):
        with_calendar(config(f"context.calendar={tmp_path / 'absent.csv'}"))
    (tmp_path / "c.csv").write_text("date,region\n2026-12-24,DE\n")
    with pytest.raises(BadData, match="lacks treat_as"):
        with_calendar(config(f"context.calendar={tmp_path / 'c.csv'}"))
    for key in ("days=[{date='2026-12-24', region='Germany', treat_as='weekend'}]", 'weekend_days={EG="fr"}', "days=7"):
        with pytest.raises(ConfigError):
            with_calendar(config(f"context.{key}"))


def test_rows_of_training_take_the_features_of_the_day_that_theirs_stands_for(store: Store) -> None:
    by = config()
    span = span_of(ORIGIN.date(), by)
    seen = bucket_moments(store, 0, span, by)
    sends = labelled_sends(seen, span, by)
    egypt_N = (seen.now.users["country"] == "EG").to_numpy()[sends.user_N]
    assert set(zip(sends.weekday_N[egypt_N].tolist(), sends.stands_for_N[egypt_N].tolist(), strict=True)) == {
        *((0, 0), (1, 1), (2, 2)),
        *((3, 4), (4, 5), (5, 6), (6, 0)),
    }
    german_N = (seen.now.users["country"] == "DE").to_numpy()[sends.user_N]
    np.testing.assert_array_equal(sends.weekday_N[german_N], sends.stands_for_N[german_N])


def test_chances_of_a_date_are_those_of_the_day_that_it_stands_for(store: Store) -> None:
    bucket, policy = known(store), make_policy(config(), None)
    priors = from_tensors(policy.reduce([policy.sums(bucket, 1)]), "here")
    seen = know(bucket, priors)
    egypt_U = np.array([country_of(name) == "EG" for name in bucket.users["country"]])
    for own, egypt in ((FRIDAY, 5), (SUNDAY, 0), (DAY, 2)):
        for found, theirs, others in zip(
            chances(seen, own), chances(seen, egypt), chances(seen, own.weekday()), strict=True
        ):
            np.testing.assert_array_equal(found, np.where(egypt_U, theirs, others))
    part = bucket.of(slice(3, 9))
    assert part.days is not None
    np.testing.assert_array_equal(know(part, priors).rate_48U, seen.rate_48U[:, 3:9])
    alone = replace(bucket, days=None)
    assert alone.counted is alone.cleaned
