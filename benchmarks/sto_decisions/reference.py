"""The executable recipe, a script outside this repository, run on the same sender in a process of its own."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl

from sto_decisions.records import Skipped
from sto_engine.evaluate.assignments import Sent, read_sent

NAME = "recipe_ref"
TIMEOUT_S = 3600
DAY_MS = 86_400_000
TYPES = ("promo", "transactional", "trigger")


def decide(script: Path | None, world: Path, folder: Path, day: date) -> Sent:
    """Assignments of the script; Skipped where there is none, RuntimeError with its last words where it fails."""
    if script is None or not script.is_file():
        raise Skipped(f"no script at {script}; pass --ref PATH")
    inputs, out = folder / "recipe", folder / "recipe.parquet"
    convert(world, inputs, day)
    done = subprocess.run(
        [sys.executable, str(script), str(inputs), str(out), "--as-of", day.isoformat(), "--date", day.isoformat()],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script.name} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return on_day(read_sent(out), day)


def convert(world: Path, out: Path, day: date) -> None:
    """The files as the script wants them: no nulls that it cannot take, and only the events that it knows.

    It treats every event but a send as an act of the user, so bounces and the like are left out.
    """
    (out / "events").mkdir(parents=True, exist_ok=True)
    events = pl.read_parquet(world / "events" / "*.parquet")
    events = events.filter(pl.col("event_type").is_in(["send", "open", "click"])).with_columns(
        campaign_type=pl.when(pl.col("campaign_type").is_in(TYPES))
        .then(pl.col("campaign_type"))
        .otherwise(pl.lit("promo"))
    )
    events.write_parquet(out / "events" / "part-0000.parquet")
    people = pl.read_parquet(world / "recipients.parquet").unique("user_id", keep="first", maintain_order=True)
    tenure = (pl.lit(day).cast(pl.Datetime("ms", "UTC")) - pl.col("signup_ts")).dt.total_days()
    people.select(
        "user_id",
        pl.col("timezone").fill_null("UTC"),
        pl.col("tz_offset").fill_null(0),
        pl.col("signup_source").fill_null("unknown"),
        pl.col("b2b").fill_null(False),
        pl.col("consent").fill_null(True),
        "clv",
        "churn_risk",
        tenure_days=tenure.cast(pl.Float64),
    ).write_parquet(out / "recipients.parquet")


def on_day(sent: Sent, day: date) -> Sent:
    """Slots of the day, by the offset that the script found, as times: what the judge takes of everyone else."""
    midnight_ms = (day - date(1970, 1, 1)).days * DAY_MS
    at_ms = midnight_ms + (pl.col("slot") * 60 - pl.col("tz_offset")) * 60_000
    return Sent(sent.name, sent.rows.with_columns(send_at_ms=at_ms), day=day)
