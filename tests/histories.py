"""Hand-made histories: rows of events in words, the store that holds them, and what a policy makes of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from sto_engine.choose import reason_codes
from sto_engine.config import Config, load_config
from sto_engine.history.bucket import Bucket, build_journal, window_start
from sto_engine.history.users import build_users, seen_users
from sto_engine.ingest import ingest
from sto_engine.ingest.store import Store
from sto_engine.models.bundle import Bundle
from sto_engine.models.policy import history_act
from sto_engine.models.registry import make_policy
from sto_engine.progress import Silent
from sto_engine.tables import REASONS

DAY = date(2026, 4, 1)  # a Wednesday
ORIGIN = datetime(2026, 4, 1, tzinfo=UTC)
CONFIG = load_config(None, ["store.buckets=1"])


@dataclass(frozen=True)
class Row:
    """One event; `machine` is the sender's own flag, `offset` the recipient's minutes that the row states."""

    user: int
    kind: str
    at: datetime
    campaign: int = 1
    offset: int | None = None
    type: str | None = "promo"
    machine: bool = False


def before(days: float, hour: float = 0.0) -> datetime:
    """An hour of the UTC day that began `days` before the origin."""
    return ORIGIN - timedelta(days=days) + timedelta(hours=hour)


def mail(user: int, sent: datetime, opened_after_h: float | None = None, kind: str = "open") -> list[Row]:
    """A send of the campaign of that hour, and the act upon it."""
    campaign = int(sent.timestamp()) // 3600
    rows = [Row(user, "send", sent, campaign)]
    if opened_after_h is not None:
        rows.append(Row(user, kind, sent + timedelta(hours=opened_after_h), campaign))
    return rows


def opens(user: int, hour: float, count: int) -> list[Row]:
    """Opens of nobody knows which mail, one a day."""
    return [Row(user, "open", before(day, hour), day) for day in range(1, count + 1)]


def people(ids: Iterable[int], **columns: object) -> pl.DataFrame:
    """A recipients snapshot; a scalar holds for everyone."""
    frame = pl.DataFrame({"user_id": pl.Series(list(ids), dtype=pl.UInt64)})
    given = {name: value if isinstance(value, list) else [value] * len(frame) for name, value in columns.items()}
    return frame.with_columns(pl.Series(name, value) for name, value in given.items())


def frame_of(rows: Iterable[Row]) -> pl.DataFrame:
    """The rows as an events file has them."""
    rows = list(rows)
    return pl.DataFrame(
        {
            "user_id": pl.Series([r.user for r in rows], dtype=pl.UInt64),
            "campaign_id": pl.Series([r.campaign for r in rows], dtype=pl.UInt64),
            "event_type": pl.Series([r.kind for r in rows], dtype=pl.String),
            "event_ts": pl.Series([r.at for r in rows], dtype=pl.Datetime("ms", "UTC")),
            "tz_offset": pl.Series([r.offset for r in rows], dtype=pl.Int16),
            "campaign_type": pl.Series([r.type for r in rows], dtype=pl.String),
            "is_machine_open": pl.Series([r.machine for r in rows], dtype=pl.Boolean),
        }
    )


def store_of(
    rows: Iterable[Row] | pl.DataFrame, folder: Path, recipients: pl.DataFrame | None = None, buckets: int = 1
) -> Store:
    """A store of the rows, and of the recipients, under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (rows if isinstance(rows, pl.DataFrame) else frame_of(rows)).write_parquet(folder / "events.parquet")
    if recipients is not None:
        recipients.write_parquet(folder / "people.parquet")
    snapshot = folder / "people.parquet" if recipients is not None else None
    config = load_config(None, [f"store.buckets={buckets}"])
    ingest([str(folder / "events.parquet")], folder / "store", snapshot, config, Silent())
    return Store.open(folder / "store")


def known(
    store: Store,
    bucket: int = 0,
    config: Config = CONFIG,
    everyone: bool = False,
    at: datetime = ORIGIN,
    act: str = "none",
) -> Bucket:
    """A bucket at a moment: who has events, or with `everyone` the recipients; `act`: what history_act asks for."""
    at_ms = int(at.timestamp() * 1000)
    start_ms = window_start(at_ms, config)
    events = store.read_events(bucket, before_ms=at_ms, from_ms=start_ms)
    recipients = store.read_recipients(bucket)
    audience = recipients if everyone and recipients is not None else seen_users(events)
    users = build_users(audience.select("h", "user_id"), recipients, events, config, at_ms)
    return build_journal(events, users, config).at(start_ms, at_ms, act)


def decide(
    store: Store, config: Config = CONFIG, bundle: Bundle | None = None, day: date = DAY, at: datetime = ORIGIN
) -> pl.DataFrame:
    """What the policy says of every recipient (without a snapshot, of everyone with events).

    Columns user_id, slot (of the highest utility), reason, n_eff, p_open (of every slot) and utility.
    """
    policy, buckets = make_policy(config, bundle), range(store.buckets)
    priors = policy.reduce([policy.sums(known(store, b, config, at=at), store.buckets) for b in buckets])
    frames = []
    for bucket in (known(store, b, config, True, at, history_act(policy)) for b in buckets):
        found = policy.utilities(bucket, priors, day)
        assert np.isfinite(found.utility_US).all()
        slots = found.utility_US.shape[1]
        p_US = [None] * len(bucket.users) if found.p_open_US is None else list(found.p_open_US)
        frames.append(
            pl.DataFrame(
                {
                    "user_id": bucket.users["user_id"],
                    "slot": found.utility_US.argmax(axis=1) if len(bucket.users) else [],
                    "reason": pl.Series([REASONS[code] for code in reason_codes(found.reason_U)], dtype=pl.String),
                    "n_eff": found.n_eff_U,
                    "p_open": pl.Series(p_US, dtype=pl.Array(pl.Float32, slots)),
                    "utility": pl.Series(list(found.utility_US), dtype=pl.Array(pl.Float32, slots)),
                }
            )
        )
    return pl.concat(frames).sort("user_id")


def column(found: pl.DataFrame, name: str) -> dict[int, object]:
    """One column by user."""
    return dict(found.select("user_id", name).iter_rows())
