"""A sender known by construction: everyone reads pushes in the morning and mail in the evening, some of them sooner."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl

from sto_engine.config import load_config
from sto_engine.ingest import ingest
from sto_engine.progress import Silent

DAY = date(2026, 4, 20)
DAYS = 60
HOUR_S = 3600
MORNING, EVENING = 8, 20


@dataclass(frozen=True)
class World:
    """`fond` are users whose pushes are opened more than their mail; ids are 1..users, all in UTC."""

    store: Path
    fond: frozenset[int]
    no_push: frozenset[int]
    users: int


def make_world(folder: Path, users: int = 240, buckets: int = 4, seed: int = 5) -> World:
    """Each day a mail and a push to everyone at any hour; a fifth are never sent a push.

    A push is read at 8 if it came within two hours before, a mail at 20 if it came within the twelve before: by the
    fond with .8 and .2, by others with .15 and .6.
    """
    rng = np.random.default_rng(seed)
    id_U = np.arange(1, users + 1)
    fond_U, push_U = rng.random(users) < 0.5, rng.random(users) >= 0.2
    rows = []
    start = int(datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC).timestamp()) - DAYS * 86_400
    for channel, hour, reach, chance_U in (
        ("push", MORNING, 2, np.where(fond_U, 0.8, 0.15)),
        ("email", EVENING, 12, np.where(fond_U, 0.2, 0.6)),
    ):
        for day in range(DAYS):
            midnight = start + day * 86_400
            sent_U = midnight + rng.integers(0, 86_400, users)
            look_U = midnight + hour * HOUR_S + rng.integers(0, HOUR_S // 2, users)
            look_U = np.where(look_U < sent_U, look_U + 86_400, look_U)
            near_U = (look_U - sent_U < reach * HOUR_S) & (rng.random(users) < chance_U)
            there_U = push_U if channel == "push" else np.ones(users, np.bool_)
            for kind, at_U, mine_U in (("send", sent_U, there_U), ("open", look_U, there_U & near_U)):
                n = int(mine_U.sum())
                rows.append(
                    pl.DataFrame(
                        {
                            "user_id": id_U[mine_U].astype(np.uint64),
                            "campaign_id": [f"day-{day}"] * n,
                            "event_type": [kind] * n,
                            "event_ts": pl.Series(at_U[mine_U] * 1000).cast(pl.Datetime("ms", "UTC")),
                            "channel": [channel] * n,
                            "campaign_type": ["promo"] * n,
                        }
                    )
                )
    pl.concat(rows).write_parquet(folder / "events.parquet")
    people = pl.DataFrame({"user_id": id_U.astype(np.uint64), "timezone": ["UTC"] * users})
    people = people.with_columns(push_ok=pl.Series(push_U), signup_source=pl.lit("web"))
    people.write_parquet(folder / "recipients.parquet")
    config = load_config(None, [f"store.buckets={buckets}", 'recipients.keep=["push_ok"]'])
    ingest([str(folder / "events.parquet")], folder / "store", folder / "recipients.parquet", config, Silent())
    fond, lost = (frozenset(id_U[x].tolist()) for x in (fond_U, ~push_U))
    return World(folder / "store", fond, lost, users)
