"""Nights under limits: a sender whose recipients live in awkward zones, its runs, and counts from their files alone.

Nothing here asks the engine what it decided: slots, starts and loads are worked out anew from the recipients that went
in and from the Parquet files that came out, by zoneinfo and plain counting.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from sto_engine.config import load_config
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, ScoreResult, run_score
from sto_engine.progress import Silent
from support import table

ORDINARY, GAP_NEW_YORK, GAP_BERLIN, OVERLAP = date(2026, 4, 20), date(2026, 3, 8), date(2026, 3, 29), date(2026, 10, 25)
ZONES = (
    *("Asia/Kathmandu", "Asia/Kolkata", "Australia/Eucla", "America/New_York", "Europe/Berlin", "Pacific/Auckland"),
    *("America/St_Johns", "America/New_York", "Europe/Berlin"),
)
DOMAINS = ("gmail.com", "gmail.com", "gmail.com", "outlook.com", "outlook.com", "yahoo.com", "acme.example")
PROVIDERS = {"gmail.com": "gmail", "outlook.com": "microsoft", "yahoo.com": "yahoo", "acme.example": "other"}
BIN_MS, DAY_MS, TOTAL = 900_000, 86_400_000, "total"
Load = Counter[tuple[int, str]]


def people(users: int, seed: int = 0) -> pl.DataFrame:
    """Recipients: some without consent, some with hours of their own, values of several sizes."""
    rng = np.random.default_rng(seed)
    pick = rng.integers(0, 1_000, (users, 4))
    hours = [None, None, None, None, None, None, "08:00-12:00", "17:00-23:30", "22:00-02:00", None]
    return pl.DataFrame(
        {
            "user_id": pl.Series(np.arange(users) * 7 + 11, dtype=pl.UInt64),
            "timezone": [ZONES[n % len(ZONES)] for n in pick[:, 0]],
            "recipient_domain": [DOMAINS[n % len(DOMAINS)] for n in pick[:, 1]],
            "consent": [n % 40 != 0 for n in pick[:, 2]],
            "allowed_hours": pl.Series([hours[n % len(hours)] for n in pick[:, 3]], dtype=pl.String),
            "clv": np.round(rng.gamma(1.0, 100.0, users), 2),
        }
    )


def histories(recipients: pl.DataFrame, seed: int = 0, months: Iterable[int] = (2, 9)) -> pl.DataFrame:
    """Sends at all hours and opens that pile up: most people look at 19:00 or 20:00 local, a few at noon or at 8:00."""
    rng = np.random.default_rng(seed + 1)
    rows: list[tuple[int, int, str, datetime]] = []
    for user, zone in recipients.select("user_id", "timezone").iter_rows():
        hour = int(rng.choice([19, 20, 12, 8, int(rng.integers(6, 23))], p=[0.35, 0.25, 0.15, 0.1, 0.15]))
        for month in months:
            for n, day in enumerate(rng.choice(27, 7, replace=False).tolist()):
                local = datetime(2026, month, day + 1, hour, int(rng.integers(0, 60)), tzinfo=ZoneInfo(zone))
                look = local.astimezone(UTC)
                sent = look - timedelta(minutes=int(rng.integers(1, 90))) if n % 2 else look - timedelta(hours=7)
                rows.append((user, n, "send", sent))
                if rng.random() < 0.6:
                    rows.append((user, n, "open", look))
    columns = list(zip(*rows, strict=True))
    return pl.DataFrame(
        {
            "user_id": pl.Series(columns[0], dtype=pl.UInt64),
            "campaign_id": pl.Series(columns[1], dtype=pl.UInt64),
            "event_type": pl.Series(columns[2], dtype=pl.String),
            "event_ts": pl.Series(columns[3], dtype=pl.Datetime("us", "UTC")).cast(pl.Datetime("ms", "UTC")),
        }
    )


@dataclass(frozen=True)
class Sender:
    """A store and the recipients that it was made from."""

    store: Path
    recipients: pl.DataFrame

    def by_user(self, column: str) -> dict[int, Any]:
        return dict(self.recipients.select("user_id", column).iter_rows())

    @property
    def provider_of(self) -> dict[int, str]:
        return {user: PROVIDERS[domain] for user, domain in self.by_user("recipient_domain").items()}


def make_sender(folder: Path, recipients: pl.DataFrame, buckets: int = 4, keep: str = "") -> Sender:
    """Written as Parquet and taken in through `ingest`."""
    folder.mkdir(parents=True, exist_ok=True)
    recipients.write_parquet(folder / "recipients.parquet")
    histories(recipients).write_parquet(folder / "events.parquet")
    kept = [f'recipients.keep=["{keep}"]'] if keep else []
    config = load_config(None, [f"store.buckets={buckets}", *kept])
    ingest([str(folder / "events.parquet")], folder / "store", folder / "recipients.parquet", config, Silent())
    return Sender(folder / "store", recipients)


def run_night(sender: Sender, out: Path, *keys: str, day: date = ORDINARY, **fields: Any) -> ScoreResult:
    """`score` with settings; `fields` are those of ScoreRequest."""
    request = replace(ScoreRequest(sender.store, out, date=day), **fields)
    return run_score(request, load_config(None, keys), Silent())


def run_folder(sender: Sender, out: Path, *keys: str, **fields: Any) -> Path:
    run = run_night(sender, out, *keys, **fields).run_dir
    assert run is not None
    return run


def load_of(run: Path) -> Load:
    """Messages of each quarter-hour of UTC by provider, and of all mail, from the assignments as they are written."""
    load: Load = Counter()
    rows = table(run, "assignments").select(pl.col("send_at").dt.epoch("ms"), "provider")
    for ms, provider in rows.iter_rows():
        load[ms // BIN_MS * BIN_MS, provider] += 1
        load[ms // BIN_MS * BIN_MS, TOTAL] += 1
    return load


def by_day(load: Load) -> Load:
    days: Load = Counter()
    for (ms, provider), n in load.items():
        days[ms // DAY_MS * DAY_MS, provider] += n
    return days


def over(load: Load, most: Mapping[str, int]) -> dict[tuple[int, str], int]:
    """Where more is sent than `most` of the provider (or of all mail), which holds everywhere."""
    return {key: n for key, n in load.items() if n > most.get(key[1], n)}


def told_load(run: Path) -> dict[tuple[int, str], tuple[int, int, int | None]]:
    """load.csv: before, after and capacity of each quarter-hour and provider."""
    found = {}
    with (run / "load.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            ms = int(datetime.fromisoformat(row["bin_utc"]).timestamp() * 1000)
            room = int(row["capacity"]) if row["capacity"] else None
            found[ms, row["provider"]] = int(row["before"]), int(row["after"]), room
    return found


def start_of(zone: str, day: date, slot: int, slots: int) -> datetime | None:
    """UTC start of a local slot the first time it happens, None where the clock skips it."""
    wall = datetime(day.year, day.month, day.day) + timedelta(minutes=slot * 1440 // slots)
    utc = wall.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)
    return utc if utc.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall else None


def minutes_of(hours: str) -> set[int]:
    """Minutes of the day of "08:00-12:00", which may cross midnight."""
    start, end = (int(part[:2]) * 60 + int(part[3:]) for part in hours.split("-"))
    return set(range(start, end)) if start < end else {*range(start, 1440), *range(end)}


def open_slots(zone: str, own: str | None, day: date, slots: int, window: str, quiet: str | None = None) -> list[int]:
    """Slots that happen on the day, wholly inside the window and a recipient's own hours, and wholly outside quiet."""
    minutes = minutes_of(window) if window else set(range(1440))
    minutes &= minutes_of(own) if own else minutes
    minutes -= minutes_of(quiet) if quiet else set()
    length = 1440 // slots
    whole = [s for s in range(slots) if minutes.issuperset(range(s * length, (s + 1) * length))]
    return [slot for slot in whole if start_of(zone, day, slot, slots) is not None]
