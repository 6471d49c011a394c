"""`simulate`: a sender's history and the truth behind it, in the fixed format, from a seed.

    DIR/events/part-0000.parquet ..   send, open, click; one file a chunk of users
    DIR/recipients.parquet            what the sender knows
    DIR/truth.parquet                 P(open | user, slot) on the first day after the history

Mail goes out as many senders do it: each campaign at one of a few local hours. Each chunk draws from (seed, chunk).
"""

import difflib
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.errors import CannotCreate, ConfigError, UsageError
from sto_engine.files import write_parquet
from sto_engine.progress import Progress
from sto_engine.simulate.attention import Readers, draw_opens, draw_readers, open_probability
from sto_engine.simulate.people import draw_people, user_ids
from sto_engine.tables import encode
from sto_engine.zones import event_offsets

WORLDS = ("attention",)
CHUNK_USERS = 10_000
CAMPAIGNS_PER_DAY = 0.5
SEND_HOURS, SEND_HOUR_SHARES = (8, 10, 13, 18), (0.2, 0.45, 0.15, 0.2)
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
END = date(2026, 4, 20)
_DICTIONARY = ["event_type", "device_type", "campaign_type", "timezone", "country", "signup_source", "address_status"]


@dataclass(frozen=True)
class SimulationReport:
    """What was written; times are UTC midnights."""

    world: str
    users: int
    days: int
    events: int
    sends: int
    opens: int
    first_day: str
    truth_day: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Campaigns:
    """Every campaign of the history: its day, local hour, appeal and type; [C]."""

    day_C: NDArray[np.int64]
    hour_C: NDArray[np.int64]
    appeal_C: NDArray[np.float64]
    type_C: NDArray[Any]


def simulate(
    out: Path, world: str, users: int, days: int, seed: int, progress: Progress, end: date = END
) -> SimulationReport:
    """Simulate `users` recipients over the `days` before `end` and write them to `out`.

    Raises ConfigError (78) for an unknown world, UsageError (2) for counts below 1, CannotCreate (73) where `out` holds
    other files.
    """
    if world not in WORLDS:
        near = difflib.get_close_matches(world, WORLDS, n=1, cutoff=0.0)[0]
        raise ConfigError(f'--world must be one of {", ".join(WORLDS)}; found "{world}"; nearest: "{near}"')
    if users < 1 or days < 1:
        raise UsageError(f"--users and --days must be at least 1; found {users} and {days}")
    _prepare(out)
    campaigns = _draw_campaigns(np.random.default_rng([seed, 0]), days)
    chunks = range(-(-users // CHUNK_USERS))
    progress.start("simulate", len(chunks))
    people, truths, counts = [], [], np.zeros(3, np.int64)
    for chunk in chunks:
        size = min(CHUNK_USERS, users - chunk * CHUNK_USERS)
        rng = np.random.default_rng([seed, 1 + chunk])
        recipients = draw_people(rng, user_ids(chunk * CHUNK_USERS, size, seed), end)
        readers = draw_readers(rng, size)
        events = _draw_events(rng, recipients, readers, campaigns, end, days)
        write_parquet(out / "events" / f"part-{chunk:04d}.parquet", _plain(events.to_arrow()), 131_072, _DICTIONARY)
        kinds = events["event_type"]
        counts += np.array([len(events), int((kinds == "send").sum()), int((kinds == "open").sum())])
        recipients = _with_offset(recipients, end)
        people.append(recipients)
        truths.append(_truth(recipients, readers, end))
        progress.advance("simulate")
    write_parquet(out / "recipients.parquet", _plain(pl.concat(people).to_arrow()), 131_072, _DICTIONARY)
    write_parquet(out / "truth.parquet", pa.concat_tables(truths), 131_072, _DICTIONARY, arrow_types=True)
    first = date.fromordinal(end.toordinal() - days)
    rows, sends, opens = counts.tolist()
    return SimulationReport(world, users, days, rows, sends, opens, first.isoformat(), end.isoformat())


def _prepare(out: Path) -> None:
    if out.exists() and any(out.iterdir()) and not (out / "truth.parquet").exists():
        raise CannotCreate(f"{out} holds other files; name a new folder or an old simulation in --out")
    try:
        (out / "events").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreate(f"{out} cannot be created: {error.strerror}; check --out") from error
    for old in (out / "events").glob("part-*.parquet"):
        old.unlink()


def _plain(table: pa.Table) -> pa.Table:
    """Large and view strings of the frame library as plain strings."""
    fields = [
        pa.field(f.name, pa.string()) if "string" in str(f.type) else pa.field(f.name, f.type) for f in table.schema
    ]
    return table.cast(pa.schema(fields))


def _draw_campaigns(rng: np.random.Generator, days: int) -> Campaigns:
    n = max(1, round(days * CAMPAIGNS_PER_DAY))
    return Campaigns(
        day_C=np.sort(rng.integers(0, days, n)),
        hour_C=rng.choice(SEND_HOURS, n, p=SEND_HOUR_SHARES),
        appeal_C=rng.lognormal(-0.06, 0.35, n),
        type_C=np.where(rng.random(n) < 0.15, "trigger", "promo").astype(object),
    )


def _draw_events(
    rng: np.random.Generator, people: pl.DataFrame, readers: Readers, campaigns: Campaigns, end: date, days: int
) -> pl.DataFrame:
    users, n_campaigns = len(people), len(campaigns.day_C)
    keen_U = rng.uniform(0.4, 0.9, users)
    user_N, campaign_N = np.nonzero(rng.random((users, n_campaigns)) < keen_U[:, None])
    start_ms = _midnight_ms(end) - days * DAY_MS
    minute_N = rng.integers(0, 15 * 60_000, len(user_N))
    local_N = start_ms + campaigns.day_C[campaign_N] * DAY_MS + campaigns.hour_C[campaign_N] * HOUR_MS + minute_N
    zones, zone_U = encode(people["timezone"])
    zone_N = zone_U[user_N]
    near_N = event_offsets(zones, zone_N, local_N)
    sent_N = local_N - event_offsets(zones, zone_N, local_N - near_N.astype(np.int64) * 60_000) * np.int64(60_000)
    week_hour_N = (local_N / HOUR_MS + 72) % 168  # the epoch was a Thursday
    age_N = draw_opens(rng, readers, user_N, week_hour_N, campaigns.appeal_C[campaign_N])
    opened_N = np.flatnonzero(np.isfinite(age_N))
    open_ms = sent_N[opened_N] + np.maximum((age_N[opened_N] * HOUR_MS).astype(np.int64), 1_000)
    clicked = np.flatnonzero(rng.random(len(opened_N)) < 0.15)
    click_ms = open_ms[clicked] + rng.integers(5_000, 180_000, len(clicked))
    index = np.concatenate([np.arange(len(user_N)), opened_N, opened_N[clicked]])
    time_ms = np.concatenate([sent_N, open_ms, click_ms])
    kind = ["send"] * len(user_N) + ["open"] * len(opened_N) + ["click"] * len(clicked)
    mobile_U = rng.random(users) < 0.6
    frame = pl.DataFrame(
        {
            "user_id": people["user_id"].to_numpy()[user_N[index]],
            "campaign_id": (campaign_N[index] + 1).astype(np.uint64),
            "event_type": pl.Series(kind, dtype=pl.String),
            "event_ts": pl.Series(time_ms).cast(pl.Datetime("ms", "UTC")),
            "tz_offset": event_offsets(zones, zone_N[index], time_ms),
            "device_type": pl.Series(
                np.where(mobile_U[user_N[index]], "mobile", "desktop").astype(object), dtype=pl.String
            ),
            "campaign_type": pl.Series(campaigns.type_C[campaign_N[index]], dtype=pl.String),
        }
    )
    return frame.filter(pl.col("event_ts") < datetime(end.year, end.month, end.day, tzinfo=UTC)).sort(
        "event_ts", "user_id", "event_type", maintain_order=True
    )


def _with_offset(people: pl.DataFrame, end: date) -> pl.DataFrame:
    zones = people["timezone"].unique().sort().to_list()
    offsets = {z: int(event_offsets([z], np.zeros(1, np.int32), np.array([_midnight_ms(end)]))[0]) for z in zones}
    offset = people["timezone"].replace_strict(offsets, return_dtype=pl.Int16)
    return people.insert_column(2, offset.alias("tz_offset"))


def _midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _truth(people: pl.DataFrame, readers: Readers, end: date) -> pa.Table:
    """P(open within 2 and 24 h) of each slot on the local day `end` and over the week, Monday first."""
    first = end.weekday() * 24
    columns: dict[str, pa.Array] = {}
    for name, hours in (("p2h", 2), ("p24h", 24)):
        p_UH = open_probability(readers, hours).astype(np.float32)
        columns[name] = _lists(p_UH[:, first : first + 24])
        columns[f"{name}_week"] = _lists(p_UH)
    eligible = people["consent"] & (people["address_status"] == "valid")
    return pa.table(
        {
            "user_id": people["user_id"].to_arrow(),
            "true_timezone": people["timezone"].to_arrow().cast(pa.string()),
            "true_offset": people["tz_offset"].to_arrow(),
            "profile_offset": people["tz_offset"].to_arrow(),
            "eligible": eligible.to_arrow(),
            "p2h": columns["p2h"],
            "p24h": columns["p24h"],
            "p2h_week": columns["p2h_week"],
            "p24h_week": columns["p24h_week"],
        }
    )


def _lists(values_US: NDArray[np.float32]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values_US).reshape(-1)), values_US.shape[1])
