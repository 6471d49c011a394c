"""Who is not mailed tonight, and why: consent, the address, what the recipient did to earlier mail, duplicates."""

import numpy as np
import polars as pl

from sto_engine.tables import BAD_ADDRESS, EVENT_ENUM, EVENT_TYPES

_MAY_STOP = np.array([name in ("unsubscribe", "complaint", "bounce") for name in EVENT_TYPES])


def suppressions(audience: pl.DataFrame, users: pl.DataFrame, events: pl.DataFrame) -> pl.Series:
    """Reason of each row of `users`, which stands in the order of `audience` -> String [U], null where mailed.

    The first row of a user is decided on his data; further rows are `duplicate`. A complaint, an unsubscribe or a hard
    bounce holds until a later opt-in, which is a `signup_ts` after it.
    """
    stops = _stops(events)
    joined = users.select("user_id", "consent", "address_status", "signup_ts").join(
        stops, on="user_id", how="left", maintain_order="left"
    )
    opted_in = pl.col("signup_ts").cast(pl.Datetime("ms", "UTC")).fill_null(pl.lit(0).cast(pl.Datetime("ms", "UTC")))
    return joined.select(
        pl.when(pl.col("user_id") == pl.col("user_id").shift(1))  # equal ids stand together
        .then(pl.lit("duplicate"))
        .when(pl.col("consent") == False)  # noqa: E712
        .then(pl.lit("no_consent"))
        .when(pl.col("address_status").is_in(BAD_ADDRESS))
        .then(pl.lit("invalid_address"))
        .when(pl.col("stop_ts") >= opted_in)
        .then(pl.col("stop"))
        .alias("suppressed")
    ).to_series()


def _stops(events: pl.DataFrame) -> pl.DataFrame:
    """The newest event of each user that forbids mail: columns user_id, stop, stop_ts."""
    code_N = events["event_type"].cast(EVENT_ENUM).to_physical().to_numpy()
    few = events.select("user_id", "event_ts", "event_type", "bounce_type").filter(pl.Series(_MAY_STOP[code_N]))
    kind = pl.col("event_type").cast(pl.String)
    hard = pl.col("bounce_type").str.to_lowercase() == "hard"
    return (
        few.filter((kind != "bounce") | hard)
        .group_by("user_id", maintain_order=True)
        .agg(
            stop_ts=pl.col("event_ts").max(),
            stop=kind.sort_by("event_ts").last().replace({"unsubscribe": "unsubscribed", "bounce": "hard_bounce"}),
        )
    )
