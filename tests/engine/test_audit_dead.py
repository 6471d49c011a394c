"""200,000 addresses, 15 % dead: the living are scored as if there were no dead, and the audit counts them."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sto_engine.audit.run import run_audit
from sto_engine.config import load_config
from sto_engine.ingest import ingest
from sto_engine.ingest.store import Store
from sto_engine.job import ScoreRequest, run_score
from sto_engine.models.attention import Attention
from sto_engine.prepare import prepare
from sto_engine.progress import Silent
from sto_engine.slots import grid_of
from sto_engine.view import look
from support import table

USERS, DEAD, CAMPAIGNS = 200_000, 30_000, 12
DAY = date(2026, 4, 1)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
CONFIG = load_config(None, ["store.buckets=4"])


def events() -> pl.DataFrame:
    """The dead get every campaign and give no sign; the living got three, and look when they look."""
    rng = np.random.default_rng(15)
    end_ms = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp() * 1000)
    sent_C = end_ms - (np.arange(CAMPAIGNS)[::-1] * 5 + 4) * DAY_MS + np.array([6, 9, 17, 12] * 3) * HOUR_MS
    dead = np.repeat(np.arange(DEAD), CAMPAIGNS), np.tile(np.arange(CAMPAIGNS), DEAD)
    living = np.repeat(np.arange(DEAD, USERS), 3), np.tile(np.arange(CAMPAIGNS - 3, CAMPAIGNS), USERS - DEAD)
    user, campaign = (np.concatenate(pair) for pair in zip(dead, living, strict=True))
    opened = np.flatnonzero((user >= DEAD) & (rng.random(len(user)) < 0.35))
    habit_U = rng.choice([8, 13, 20], USERS)
    wait = (habit_U[user[opened]] * HOUR_MS - sent_C[campaign[opened]] % DAY_MS) % DAY_MS
    opened_ms = sent_C[campaign[opened]] + wait + rng.integers(0, HOUR_MS, len(opened))
    times = np.concatenate([sent_C[campaign], opened_ms])
    return pl.DataFrame(
        {
            "user_id": pl.Series(np.concatenate([user, user[opened]]).astype(np.uint64)),
            "campaign_id": pl.Series(np.concatenate([campaign, campaign[opened]]).astype(np.uint64)),
            "event_type": ["send"] * len(user) + ["open"] * len(opened),
            "event_ts": pl.Series(times).cast(pl.Datetime("ms", "UTC")),
            "tz_offset": pl.Series((np.concatenate([user, user[opened]]) % 3 * 60 - 60).astype(np.int16)),
        }
    )


def stored(frame: pl.DataFrame, folder: Path) -> Path:
    folder.mkdir()
    frame.write_parquet(folder / "e.parquet")
    ingest([str(folder / "e.parquet")], folder / "store", None, CONFIG, Silent())
    return folder / "store"


def priors(store: Path) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    plan = prepare(ScoreRequest(store, store, date=DAY), CONFIG, Silent()).plan
    policy = Attention(grid_of(24), CONFIG.model)
    buckets = range(Store.open(store).buckets)
    return policy.reduce([policy.sums(look(plan, bucket).known, len(buckets)) for bucket in buckets])


def slots(store: Path, out: Path) -> pl.DataFrame:
    run = run_score(ScoreRequest(store, out, date=DAY), CONFIG, Silent()).run_dir
    assert run is not None
    columns = ("user_id", "slot", "preferred_slot", "p_open", "n_eff", "reason", "propensity")
    return table(run, "assignments").select(columns).filter(pl.col("user_id") >= DEAD).sort("user_id")


@pytest.mark.slow
def test_the_dead_move_neither_priors_nor_slots_of_the_living_and_the_audit_finds_them(tmp_path: Path) -> None:
    everything = events()
    with_dead = stored(everything, tmp_path / "all")
    without = stored(everything.filter(pl.col("user_id") >= DEAD), tmp_path / "living")
    one, two = priors(with_dead), priors(without)
    assert one.keys() == two.keys()
    for name in one:
        # the dead alone got the older campaigns, which weigh no send of the living
        keep = np.isin(one["campaign_key_G"], two["campaign_key_G"]) if name.endswith("_G") else slice(None)
        np.testing.assert_array_equal(one[name][keep], two[name], err_msg=name)
    living = slots(with_dead, tmp_path / "r1")
    assert len(living) == USERS - DEAD
    assert living.equals(slots(without, tmp_path / "r2"))
    assert living["slot"].n_unique() > 1
    report = run_audit(with_dead, DAY, CONFIG, 2_000, 2, Silent())
    assert (report["addresses"]["dead"], report["addresses"]["dead_share"]) == (DEAD, 0.15)
    assert report["checks"]["dead_share"]["level"] == "warn"
    assert report["verdict"] == "warn"
