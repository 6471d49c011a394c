"""Who is not mailed tonight, and why: consent, the address, what the recipient did to earlier mail, duplicates.

Where a run chooses from several channels, also who can be reached on which. U users, C channels.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.errors import ConfigError
from sto_engine.tables import BAD_ADDRESS, EMAIL, EVENT_ENUM, EVENT_TYPES

_MAY_STOP = np.array([name in ("unsubscribe", "complaint", "bounce") for name in EVENT_TYPES])
# kept columns are text; a recipient of whom nothing is said is not reached
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
_NEVER = pl.lit(0).cast(pl.Datetime("ms", "UTC"))
_EVERYWHERE = (
    pl.when(pl.col("user_id") == pl.col("user_id").shift(1))  # equal ids stand together
    .then(pl.lit("duplicate"))
    .when(pl.col("consent") == False)  # noqa: E712
    .then(pl.lit("no_consent"))
)
_ADDRESS = pl.when(pl.col("address_status").is_in(BAD_ADDRESS)).then(pl.lit("invalid_address"))
_STOPPED = pl.when(
    pl.col("stop_ts") >= pl.col("signup_ts").cast(pl.Datetime("ms", "UTC")).fill_null(_NEVER),
).then(pl.col("stop"))


def suppressions(audience: pl.DataFrame, users: pl.DataFrame, events: pl.DataFrame) -> pl.Series:
    """Reason of each row of `users`, which stands in the order of `audience` -> String [U], null where mailed.

    The first row of a user is decided on his data; further rows are `duplicate`. A complaint, an unsubscribe or a hard
    bounce holds until a later opt-in, which is a `signup_ts` after it.
    """
    joined = _with_stops(users, events)
    return joined.select(pl.coalesce(_EVERYWHERE, _ADDRESS, _STOPPED).alias("suppressed")).to_series()


def suppressions_by_channel(
    users: pl.DataFrame, events: pl.DataFrame, channels: Sequence[str], reach: Mapping[str, str]
) -> tuple[pl.Series, NDArray[np.bool_]]:
    """Reason of each row of `users` as `suppressions` tells it, String [U], and who can be reached where, bool [U, C].

    A bad address closes email; an unsubscribe, a complaint or a hard bounce the channel that it came by. Without a
    channel a bounce is email's, and who says stop without saying where is sent nothing anywhere. A channel is there for
    those whom the column of `reach` says, else for whom the events hold a send on it; email is for everyone. Who has no
    channel left is told what closed the first that there was for him, else `no_channel`.
    Raises ConfigError (78) for a column of `reach` that the recipients lack.
    """
    there = [_there(users, events, name, reach.get(name)) for name in channels]
    closed = [_closed(users, events, name) for name in channels]
    frame = pl.DataFrame(
        {f"there_{c}": x for c, x in enumerate(there)} | {f"closed_{c}": x for c, x in enumerate(closed)}
    )
    first = pl.coalesce(pl.when(f"there_{c}").then(f"closed_{c}") for c in range(len(channels)))
    reach_UC = np.stack([(x & y.is_null()).to_numpy() for x, y in zip(there, closed, strict=True)], axis=1)
    none = pl.when(pl.Series(~reach_UC.any(axis=1))).then(pl.coalesce(first, pl.lit("no_channel")))
    joined = pl.concat([users, frame], how="horizontal")
    return joined.select(pl.coalesce(_EVERYWHERE, none).alias("suppressed")).to_series(), reach_UC


def _there(users: pl.DataFrame, events: pl.DataFrame, channel: str, column: str | None) -> pl.Series:
    """Who can be reached on a channel at all, whatever has closed it since, bool [U]."""
    if column is None:
        if channel == EMAIL:
            return pl.Series(np.ones(len(users), np.bool_))
        sent = events.filter((pl.col("event_type") == "send") & (pl.col("channel") == channel))
        return users["user_id"].is_in(sent["user_id"].unique().implode())
    if column not in users.columns:
        raise ConfigError(
            f'channels.reach.{channel} must be a column of true and false of the recipients; found "{column}", which '
            "they do not have; keep it by recipients.keep at ingest"
        )
    words = users[column].cast(pl.String).str.strip_chars().str.to_lowercase().fill_null("")
    strange = words.filter(~words.is_in(list(_WORDS)))
    if len(strange):
        raise ConfigError(
            f"channels.reach.{channel} must be a column of true and false (or 1 and 0, yes and no); found "
            f'"{strange[0]}" in {column}'
        )
    return words.replace_strict(_WORDS, return_dtype=pl.Boolean)


def _closed(users: pl.DataFrame, events: pl.DataFrame, channel: str) -> pl.Series:
    """What closes a channel to each user, String [U], null: nothing."""
    mine = pl.col("channel") == channel
    unsaid = pl.lit(True) if channel == EMAIL else pl.col("event_type") != "bounce"
    joined = _with_stops(users, events.filter(mine | (pl.col("channel").is_null() & unsaid)))
    return joined.select(pl.coalesce(_ADDRESS, _STOPPED) if channel == EMAIL else _STOPPED).to_series()


def _with_stops(users: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """What is asked of each user, and the newest event that forbids mail to him."""
    asked = users.select("user_id", "consent", "address_status", "signup_ts")
    return asked.join(_stops(events), on="user_id", how="left", maintain_order="left")


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
