"""The tensors in Polars: the whole dataset in its streaming engine, or bucket by bucket as the files lie.

The first act of a (user, campaign) is joined to its send; in a sorted bucket it is the row after it, which saves the
join. Exposure is one table of (user, row of the kernel, weight), joined to the kernel's 48 columns and summed in 48
aggregates: the long form, one row a cell, takes five times as long, and 48 gathers instead of the join three times.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars import col

from sto_pipeline.answers import Frames, totals_of_frames
from sto_pipeline.events import DAY_MS, DECAY_24, HOUR_MS, ORIGIN_MS, campaign_weights
from sto_pipeline.kernel import ROWS, kernel_columns

NEVER = 1 << 50


def files_of(store: Path) -> list[Path]:
    return sorted(store.glob("gen-*/*.parquet"))


class WholePolars:
    """One query over all files."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def run(self, store: Path) -> Frames:
        events = _events(pl.scan_parquet(files_of(store)))
        first = events.filter(~col("is_send")).group_by("user_id", "campaign_id").agg(act=col("ts").min())
        joined = events.filter("is_send").join(first, on=["user_id", "campaign_id"], how="left")
        sends = _sends(joined.with_columns(latency=(col("act") - col("ts")).fill_null(NEVER)), "user_id")
        tables = _tables(events, sends.collect(engine="streaming").lazy(), "user_id")
        return dict(zip(tables, pl.collect_all(list(tables.values()), engine="streaming"), strict=True))


class BucketPolars:
    """A query a bucket, `threads` at a time; the process must have POLARS_MAX_THREADS=1."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def run(self, store: Path) -> Frames:
        with ThreadPoolExecutor(self.threads) as pool:
            parts = list(pool.map(_bucket, files_of(store)))
        return {name: pl.concat([part[name] for part in parts], rechunk=False) for name in parts[0]}

    def consume(self, store: Path) -> dict[str, float]:
        """The totals, each bucket's tables let go as soon as they are summed, as ours are."""
        totals: dict[str, float] = {}
        with ThreadPoolExecutor(self.threads) as pool:
            for part in pool.map(lambda path: totals_of_frames(_bucket(path)), files_of(store)):
                for name, value in part.items():
                    totals[name] = totals.get(name, 0.0) + value
        return totals


def _bucket(path: Path) -> Frames:
    events = _events(pl.scan_parquet(path)).collect().lazy()
    same = (col("user_id") == col("user_id").shift(-1)) & (col("campaign_id") == col("campaign_id").shift(-1))
    wait = pl.when(same & ~col("is_send").shift(-1)).then(col("ts").shift(-1) - col("ts")).fill_null(NEVER)
    sends = _sends(events.with_columns(latency=wait).filter("is_send"), "user_id").collect().lazy()
    tables = _tables(events, sends, "user_id")
    return dict(zip(tables, pl.collect_all(list(tables.values())), strict=True))


def _events(rows: pl.LazyFrame) -> pl.LazyFrame:
    ts = col("event_ts").to_physical()
    return rows.filter(ts < ORIGIN_MS, col("event_type").is_in(["send", "open", "click"])).select(
        *("user_id", "campaign_id"),
        is_send=col("event_type") == "send",
        ts=ts,
        local=ts + col("tz_offset").cast(pl.Int64) * 60_000,
        mobile=col("device_type") == "mobile",
    )


def _sends(rows: pl.LazyFrame, user: str) -> pl.LazyFrame:
    weighed = rows.join(campaign_weights().lazy(), on="campaign_id", how="left")
    return weighed.select(user, "local", "latency", "rho2", "rho24", observed=ORIGIN_MS - col("ts"))


def _hour(local: pl.Expr) -> pl.Expr:
    return (local // HOUR_MS % 24).cast(pl.Int8)


def _cell(local: pl.Expr) -> pl.Expr:
    return _hour(local) + pl.when((local // DAY_MS + 3) % 7 >= 5).then(24).otherwise(0)


def _tables(events: pl.LazyFrame, sends: pl.LazyFrame, user: str) -> dict[str, pl.LazyFrame]:
    seen, acts = col("observed") >= 2 * HOUR_MS, events.filter(~col("is_send"))
    short, known = col("latency") < 2 * HOUR_MS, col("latency") < NEVER
    hours = (col("latency") / HOUR_MS).clip(lower_bound=1e-3)
    slots = sends.group_by(user, hour=_hour(col("local"))).agg(
        sends2=col("rho2").filter(seen).sum(),
        opens2=(seen & short).sum(),
        sends24=col("rho24").sum(),
        opens24=(col("latency") < DAY_MS).sum(),
        seen=seen.sum(),
    )
    opened = sends.filter(col("latency") < DAY_MS)
    return {
        "slots": slots,
        "opens": opened.group_by(user, cell=_cell(col("local") + col("latency"))).agg(opens=pl.len()),
        "exposure": _exposure(sends, user),
        "acts": acts.group_by(user, hour=_hour(col("local"))).agg(
            acts=pl.len(), mobile_acts=col("mobile").sum(), last_act=col("ts").max()
        ),
        "profile": sends.group_by(user).agg(
            sent=pl.len(), opened=known.sum(), log_latency=pl.when(known).then(hours.log()).sum()
        ),
    }


def _exposure(sends: pl.LazyFrame, user: str) -> pl.LazyFrame:
    whole = (col("latency") >= DAY_MS) & (col("observed") >= DAY_MS)
    of_week = (col("local") // DAY_MS + 3) % 7 * 24 + _hour(col("local"))
    unopened = sends.filter(whole).select(user, row=of_week.cast(pl.Int32), weight="rho24")
    stop = col("local") + pl.min_horizontal("latency", "observed", pl.lit(DAY_MS))
    hours = pl.int_ranges(col("local") // HOUR_MS, (col("stop") - 1) // HOUR_MS + 1)
    cut = sends.filter(~whole).with_columns(stop=stop).with_columns(at=hours).explode("at")
    cut = cut.with_columns(
        low=pl.max_horizontal("local", col("at") * HOUR_MS), high=pl.min_horizontal((col("at") + 1) * HOUR_MS, "stop")
    )
    age = ((col("low") + col("high") - 2 * col("local")) // (2 * HOUR_MS)).clip(upper_bound=23)
    fades = pl.DataFrame({"age": np.arange(24), "fade": DECAY_24}).lazy()
    weight = (col("high") - col("low")) / HOUR_MS * col("fade") * col("rho24")
    stays = cut.with_columns(age=age).join(fades, on="age").with_columns(weight=weight)
    rows = pl.concat([unopened, stays.select(user, row=168 + _cell(col("low")).cast(pl.Int32), weight="weight")])
    kernel = pl.DataFrame({"row": np.arange(ROWS, dtype=np.int32), **kernel_columns()}).lazy()
    sums: Sequence[Any] = [(col("weight") * col(f"k{c}")).sum().cast(pl.Float32).alias(f"e{c}") for c in range(48)]
    return rows.join(kernel, on="row", how="left").group_by(user).agg(sums)
