"""Times as text and as whole numbers, held to Python's own datetime."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inputs import read, write
from sto_engine.ingest.text_times import text_times

AT = datetime(2026, 3, 1, 10, tzinfo=UTC)
SECONDS = int(datetime(2026, 1, 1, 10, tzinfo=UTC).timestamp())

ZONES = {"Z": 0, " UTC": 0, "+00:00": 0, "+0545": 345, " -03:30": -210, "+02": 120, "": 0, " GMT": 0, "UTC+01:00": 60}
FRACTIONS = {"": 0, ".5": 500_000, ".123": 123_000, ".123456": 123_456, ",999999999": 999_999}


@given(
    st.datetimes(datetime(1990, 1, 2), datetime(2099, 12, 30)),
    st.sampled_from(sorted(ZONES)),
    st.sampled_from(sorted(FRACTIONS)),
    st.sampled_from("T "),
)
@settings(max_examples=200, deadline=None)
def test_times_are_what_python_makes_of_them(at: datetime, zone: str, fraction: str, mark: str) -> None:
    at = at.replace(microsecond=0)
    written = at.isoformat(mark) + fraction + zone
    expected = at.replace(tzinfo=UTC) + timedelta(microseconds=FRACTIONS[fraction]) - timedelta(minutes=ZONES[zone])
    expected = expected.replace(microsecond=expected.microsecond // 1000 * 1000)
    found, naive = text_times(pl.Series(["2026-01-01 10:00:00.25Z", written, None]), days=False)
    assert found.to_list()[1:] == [expected, None]
    assert naive == (zone == "")


@pytest.mark.parametrize(
    "text",
    ["2026-02-30 10:00:00Z", "01/02/2026 10:00:00Z", "2026-03-01", "2026-03-01 10:00:00 CET", "soon", "10:00:00Z",
     "2026-03-01 25:00:00Z", "2026-03-01T10:00:00+99:00", "2026-03-01 10:00:00 UTC x"],
)  # fmt: skip
def test_what_is_no_time_is_none(text: str) -> None:
    assert text_times(pl.Series([text]), days=False)[0].to_list() == [None]


def test_times_without_seconds_and_with_slashes_are_read(tmp_path: Path) -> None:
    found, _ = text_times(pl.Series(["2026-03-01 10:00Z", "2026/03/01 10:00:00+00:00", "2026-03-01T10:00"]), days=False)
    assert found.to_list() == [AT] * 3


@pytest.mark.parametrize(("per", "unit"), [(1, "s"), (10**3, "ms"), (10**6, "us"), (10**9, "ns")])
@pytest.mark.parametrize("kind", ["int64", "text", "float"])
def test_whole_numbers_are_times_in_the_unit_that_they_fit(tmp_path: Path, per: int, unit: str, kind: str) -> None:
    numbers = [(SECONDS + 60 * i) * per for i in range(4)]
    frame = pl.DataFrame({"user_id": [1] * 4, "campaign_id": [1] * 4, "event_type": ["open"] * 4, "event_ts": numbers})
    if kind == "float":
        if unit == "ns":
            pytest.skip("floats do not hold nanoseconds")
        frame = frame.with_columns(pl.col("event_ts").cast(pl.Float64))
    found = read(write(frame, tmp_path / ("e.csv" if kind == "text" else "e.parquet")))
    assert [at.timestamp() for at in found.good["event_ts"]] == [SECONDS + 60 * i for i in range(4)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_times_of_another_unit_than_most_go_to_quarantine(tmp_path: Path, suffix: str) -> None:
    numbers = [SECONDS, SECONDS * 1000, SECONDS + 1, 0, -5, 2**62, None]
    frame = pl.DataFrame({"user_id": 1, "campaign_id": 1, "event_type": "open", "event_ts": numbers})
    found = read(write(frame, tmp_path / f"e{suffix}"))
    assert [at.timestamp() for at in found.good["event_ts"]] == [SECONDS, SECONDS + 1]
    assert found.rules == {"bad_ts": 5}
