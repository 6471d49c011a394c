"""Zone, cohort and provider of each user, from events and recipients written for the case."""

from datetime import UTC, datetime

import polars as pl
import pytest

from sto_engine.config import load_config
from sto_engine.history.providers import providers_of
from sto_engine.history.users import build_users, seen_users
from sto_engine.ingest.decode import hash_column
from sto_engine.tables import RECIPIENT_COLUMNS

ORIGIN_MS = int(datetime(2026, 4, 20, tzinfo=UTC).timestamp()) * 1000


def in_store_order(frame: pl.DataFrame) -> pl.DataFrame:
    frame = frame.with_columns(pl.col("user_id").cast(pl.UInt64))
    return frame.with_columns(hash_column(frame["user_id"])).sort("h", maintain_order=True)


def events(rows: list[tuple[int, int, int | None, str | None]]) -> pl.DataFrame:
    """Rows of (user, day of March, offset, domain)."""
    times = [datetime(2026, 3, row[1], tzinfo=UTC) for row in rows]
    frame = pl.DataFrame(
        {
            "user_id": [row[0] for row in rows],
            "event_ts": pl.Series(times, dtype=pl.Datetime("ms", "UTC")),
            "tz_offset": pl.Series([row[2] for row in rows], dtype=pl.Int16),
            "recipient_domain": pl.Series([row[3] for row in rows], dtype=pl.String),
        }
    )
    return in_store_order(frame)


def recipients(rows: dict[str, list[object]]) -> pl.DataFrame:
    n = len(rows["user_id"])
    columns = {name: rows.get(name, [None] * n) for name in RECIPIENT_COLUMNS}
    kinds = {"timezone": pl.String, "tz_offset": pl.Int16, "recipient_domain": pl.String, "provider": pl.String}
    frame = pl.DataFrame({"user_id": rows["user_id"], **columns}, schema_overrides=kinds)
    return in_store_order(frame.with_row_index("row"))


EVENTS = events(
    [(1, 1, 60, "gmail.com"), (1, 3, 120, None), (1, 2, 180, "yahoo.com"), (2, 1, None, None), (4, 5, -300, None)]
)


def zones(people: pl.DataFrame | None, *keys: str) -> dict[int, str]:
    audience = in_store_order(pl.DataFrame({"user_id": [1, 2, 3, 4]}))
    users = build_users(audience, people, EVENTS, load_config(None, keys), ORIGIN_MS)
    assert users.select("h", "user_id").equals(audience.select("h", "user_id"))
    return dict(users.select("user_id", "zone").iter_rows())


def test_without_a_profile_the_newest_offset_counts_and_then_the_default() -> None:
    found = zones(None, "timezone.default=Asia/Tokyo")
    assert found == {1: "120", 2: "Asia/Tokyo", 3: "Asia/Tokyo", 4: "-300"}


def test_a_profile_goes_before_events_unless_the_config_says_otherwise() -> None:
    people = recipients({"user_id": [1, 2, 4], "timezone": ["Europe/Berlin", None, None], "tz_offset": [0, 345, None]})
    assert zones(people, "timezone.default=UTC") == {1: "Europe/Berlin", 2: "345", 3: "UTC", 4: "-300"}
    found = zones(people, "timezone.default=UTC", "timezone.source=event")
    assert found == {1: "120", 2: "345", 3: "UTC", 4: "-300"}


def test_of_duplicate_recipients_the_first_row_counts() -> None:
    people = recipients({"user_id": [1, 1, 2, 3, 4], "timezone": ["Asia/Tokyo", "Europe/Paris", *["UTC"] * 3]})
    assert zones(people) == {1: "Asia/Tokyo", 2: "UTC", 3: "UTC", 4: "UTC"}


def test_a_domain_that_the_profile_lacks_is_the_newest_of_events() -> None:
    people = recipients({"user_id": [2, 3], "recipient_domain": ["GMX.de ", None], "provider": [None, "own"]})
    users = build_users(in_store_order(pl.DataFrame({"user_id": [1, 2, 3]})), people, EVENTS, load_config(None), 0)
    assert dict(users.select("user_id", "provider").iter_rows()) == {1: "yahoo", 2: "gmx", 3: "own"}


def test_everyone_seen_in_events_is_listed_once_in_their_order() -> None:
    assert seen_users(EVENTS).equals(EVENTS.select("h", "user_id").unique(maintain_order=True))
    assert seen_users(EVENTS.clear()).is_empty()


@pytest.mark.parametrize("domains", [[], [None, None], ["gmail.com", None]])
def test_domains_that_are_not_there_belong_to_other(domains: list[str | None]) -> None:
    nobody = pl.Series([None] * len(domains), dtype=pl.String)
    expected = ["gmail" if domain else "other" for domain in domains]
    assert providers_of(nobody, pl.Series(domains, dtype=pl.String)).to_list() == expected
