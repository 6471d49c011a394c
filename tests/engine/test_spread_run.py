"""How evenly whole runs spread what they send, counted from the times that they wrote."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from sto_engine import job
from sto_engine.config import load_config
from sto_engine.errors import ConfigError
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, run_score
from sto_engine.prepare import prepare
from sto_engine.progress import Silent
from support import table

DAY = date(2026, 4, 20)
USERS = 20_000
SHARES = {"gmail.com": 0.5, "outlook.com": 0.3, "gmx.de": 0.15, "seznam.cz": 0.05}
ALL_AT_TEN = "experiment.control_share=1"
QUARTER_MS = 900_000


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """20,000 recipients of one zone, in 1, 4 and 16 buckets."""
    folder, rng = tmp_path_factory.mktemp("spread"), np.random.default_rng(5)
    ids = pl.Series("user_id", rng.permutation(10 * USERS)[:USERS], dtype=pl.UInt64)
    people = pl.DataFrame(
        [ids, pl.Series("recipient_domain", rng.choice(list(SHARES), USERS, p=list(SHARES.values())))]
    )
    people.with_columns(timezone=pl.lit("Europe/Berlin")).write_parquet(folder / "r.parquet")
    sent = pl.DataFrame([ids.head(500), pl.Series("campaign_id", [1] * 500, dtype=pl.UInt64)]).with_columns(
        event_type=pl.lit("send"), event_ts=pl.lit("2026-04-18T08:00:00Z").str.to_datetime(time_zone="UTC")
    )
    opened = sent.with_columns(event_type=pl.lit("open"), event_ts=pl.col("event_ts") + pl.duration(minutes=20))
    pl.concat([sent, opened]).write_parquet(folder / "e.parquet")
    for buckets in (1, 4, 16):
        config = load_config(None, [f"store.buckets={buckets}"])
        ingest([str(folder / "e.parquet")], folder / str(buckets), folder / "r.parquet", config, Silent())
    return {buckets: folder / str(buckets) for buckets in (1, 4, 16)}


def sends(store: Path, out: Path, keys: Iterable[str]) -> pl.DataFrame:
    """The rows of a run in the order of the users."""
    run = run_score(ScoreRequest(store, out, date=DAY), load_config(None, [*keys]), Silent()).run_dir
    assert run is not None
    return table(run, "assignments").sort("user_id")


def offsets_ms(rows: pl.DataFrame) -> NDArray[np.int64]:
    """Milliseconds after ten o'clock in Berlin."""
    start = pl.datetime(2026, 4, 20, 8, time_unit="ms", time_zone="UTC")
    return rows.select((pl.col("send_at") - start).dt.total_milliseconds()).to_series().to_numpy()


def usable(minutes: int, avoid: int) -> NDArray[np.bool_]:
    """Which seconds of a window that begins at a full hour may be used."""
    return np.arange(minutes * 60) // 60 % 30 >= avoid


@pytest.mark.parametrize("minutes", [15, 30, 60])
@pytest.mark.parametrize("avoid", [0, 5])
def test_a_window_of_20000_is_even_in_total_and_for_every_provider(
    stores: dict[int, Path], tmp_path: Path, minutes: int, avoid: int
) -> None:
    keys = [ALL_AT_TEN, f"spread.min_minutes={minutes}", f"spread.avoid_minutes={avoid}"]
    rows, open_S = sends(stores[4], tmp_path, keys), usable(minutes, avoid)
    assert len(rows) == USERS
    at_U = offsets_ms(rows)
    assert 0 <= at_U.min() <= at_U.max() < minutes * 60_000
    assert not np.bincount(at_U // 1000, minlength=minutes * 60)[~open_S].any()
    quarters = np.bincount(at_U // QUARTER_MS)
    assert quarters.max() - quarters.min() <= 1
    for provider, mine in rows.with_columns(at=pl.Series(at_U)).group_by("provider"):
        second_U = mine["at"].to_numpy() // 1000
        n_QS, open_QS = (each.reshape(-1, 900) for each in (np.bincount(second_U, minlength=minutes * 60), open_S))
        assert np.ptp(n_QS.sum(axis=1)) <= 1
        for n_S, usable_S in zip(n_QS, open_QS, strict=True):
            # ten seconds have their share of a provider's quarter-hour, give or take less than three
            tens = n_S[usable_S].reshape(-1, 10).sum(axis=1)
            assert abs(tens - tens.mean()).max() < 3, provider


@pytest.mark.parametrize("minutes", [15, 30, 60])
def test_the_busiest_ten_seconds_are_hardly_above_the_mean(
    stores: dict[int, Path], tmp_path: Path, minutes: int
) -> None:
    at_U = offsets_ms(sends(stores[1], tmp_path, [ALL_AT_TEN, f"spread.min_minutes={minutes}"]))
    tens = np.bincount(at_U // 10_000, minlength=minutes * 6)
    rng = np.random.default_rng(0)
    drawn = np.bincount(rng.integers(0, minutes * 6, USERS), minlength=minutes * 6)
    peak, by_chance = (n.max() / n.mean() for n in (tens, drawn))
    assert peak < 1 + 6 / tens.mean()
    assert by_chance > 1 + 2 * (peak - 1)


def test_any_beginning_of_the_window_that_was_sent_is_even_too(stores: dict[int, Path], tmp_path: Path) -> None:
    rows = sends(stores[1], tmp_path, [ALL_AT_TEN]).with_columns(pl.col("user_id").alias("id"))
    first = offsets_ms(rows.sort("send_at").head(USERS // 4))
    assert abs(first.max() - 15 * 60_000 / 4) < 2_000


@pytest.mark.parametrize(
    "keys",
    [
        ["spread.min_minutes=15"],
        ["spread.min_minutes=45", "spread.avoid_minutes=7", "experiment.random_share=0.5"],
        ["spread.min_minutes=7", "slots.grid=48", "experiment.explore_share=0.5"],
    ],
)
def test_the_number_of_buckets_does_not_move_a_message(
    stores: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: list[str]
) -> None:
    # stores are named by what they hold, runs by their store, and the name of a run turns its windows round
    monkeypatch.setattr(job, "prepare", lambda *asked: replace(prepare(*asked), run_id="same"))
    first, *others = [sends(store, tmp_path / str(buckets), keys) for buckets, store in stores.items()]
    for other in others:
        assert other.select("user_id", "slot", "arm").equals(first.select("user_id", "slot", "arm"))
        assert other["send_at"].equals(first["send_at"])


def test_avoided_minutes_are_free_in_every_slot(stores: dict[int, Path], tmp_path: Path) -> None:
    keys = ["spread.min_minutes=60", "spread.avoid_minutes=14", "experiment.random_share=0.9"]
    rows = sends(stores[4], tmp_path, keys)
    minute = rows["send_at"].dt.minute().cast(pl.Int64) % 30
    assert minute.min() == 14
    assert rows["slot"].n_unique() == 24
    local = rows["send_at"].dt.convert_time_zone("Europe/Berlin").dt.hour()
    assert (local == rows["slot"].cast(pl.Int8)).all()


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (["spread.min_minutes=50", "spread.max_minutes=40"], "spread.min_minutes"),
        (["spread.min_minutes=10", "spread.avoid_minutes=10"], "spread.avoid_minutes"),
        (["spread.max_minutes=61"], "spread.max_minutes"),
    ],
)
def test_windows_that_cannot_be_are_refused_before_anything_is_written(
    stores: dict[int, Path], tmp_path: Path, keys: list[str], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        sends(stores[1], tmp_path / "out", keys)
    assert not (tmp_path / "out").exists()
