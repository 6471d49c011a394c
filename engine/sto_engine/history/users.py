"""What is known of each recipient besides his events: zone, cohort, provider and the columns of the snapshot."""

from collections.abc import Callable

import numpy as np
import polars as pl

from sto_engine.config import Config
from sto_engine.errors import ConfigError
from sto_engine.history.providers import provider_map, providers_of
from sto_engine.tables import RECIPIENT_COLUMNS, encode
from sto_engine.zones import is_zone, parse_zone, region_of, standard_offset
from sto_kernels.newest import newest_rows

_TYPES = {"string": pl.String, "bool": pl.Boolean, "double": pl.Float64, "int16": pl.Int16}


def build_users(
    audience: pl.DataFrame, recipients: pl.DataFrame | None, events: pl.DataFrame, config: Config, origin_ms: int
) -> pl.DataFrame:
    """One row per row of `audience` (h, user_id), in its order, with everything that decides about a user.

    Adds every recipients column (null without a snapshot), `zone` (IANA name, or minutes as text), `region`, `cohort`
    and `provider`. Zone: `timezone.source`; where neither profile nor events name one, `timezone.default`. `events` and
    `recipients` lie in the order of the store: (h, user_id, ...).
    """
    users = _with_known(audience.select("h", "user_id"), recipients)
    users = users.with_columns(zone=_zone(users, events, config))
    names, zone_U = encode(users["zone"])
    regions = [region_of(standard_offset(parse_zone(name), origin_ms)) for name in names]
    users = users.with_columns(region=pl.Series(regions, dtype=pl.String).gather(zone_U))
    domain = _filled(users["recipient_domain"], lambda: _newest(events, users, "recipient_domain"))
    provider = providers_of(users["provider"], domain, provider_map(config))
    return users.with_columns(cohort=_cohort(users, config), provider=provider)


def seen_users(events: pl.DataFrame) -> pl.DataFrame:
    """Columns h and user_id of everyone in `events`, which lie in the order of the store; each once."""
    return events.select("h", "user_id").filter(_first_of_run(events["user_id"]))


def _first_of_run(ids: pl.Series) -> pl.Series:
    return ids.ne_missing(ids.shift(1)) if len(ids) else pl.Series([], dtype=pl.Boolean)


def _with_known(users: pl.DataFrame, recipients: pl.DataFrame | None) -> pl.DataFrame:
    """Recipients columns beside each user: of duplicate rows the first counts."""
    if recipients is None:
        types = {name: _polars(str(kind)) for name, kind in RECIPIENT_COLUMNS.items()}
        return users.with_columns(pl.lit(None, kind).alias(name) for name, kind in types.items())
    first_U = _first_of_run(recipients["user_id"])
    known = (recipients if first_U.all() else recipients.filter(first_U)).drop("h", "row")
    if users["user_id"].equals(known["user_id"]):
        return pl.concat([users, known.drop("user_id")], how="horizontal")
    return users.join(known, on="user_id", how="left", maintain_order="left")


def _polars(kind: str) -> pl.DataType | type[pl.DataType]:
    return pl.Datetime("ms", "UTC") if kind.startswith("timestamp") else _TYPES[kind]


def _newest(events: pl.DataFrame, users: pl.DataFrame, column: str) -> pl.Series:
    """What the newest event that carries `column` says of each user, in the order of `users`; null where none does."""
    carries_N = events[column].is_not_null().to_numpy()
    if not carries_N.any():
        return pl.Series(column, [None] * len(users), dtype=events[column].dtype)
    first_N = _first_of_run(events["user_id"]).to_numpy()
    start_R = np.append(np.flatnonzero(first_N), len(events))
    row_R = newest_rows(start_R, events["event_ts"].to_physical().to_numpy(), carries_N)
    ids, values = events["user_id"].filter(first_N), events[column]
    seen = pl.DataFrame({"user_id": ids, column: values.gather(pl.Series(np.where(row_R >= 0, row_R, 0)))})
    seen = seen.filter(pl.Series(row_R >= 0))
    if seen["user_id"].equals(users["user_id"]):
        return seen[column]
    return users.select("user_id").join(seen, on="user_id", how="left", maintain_order="left")[column]


def _filled(values: pl.Series, others: Callable[[], pl.Series]) -> pl.Series:
    """`values`, its nulls taken from `others`, which is not even computed where there are none."""
    return pl.select(pl.coalesce(values, others())).to_series() if values.null_count() else values


def _zone(users: pl.DataFrame, events: pl.DataFrame, config: Config) -> pl.Series:
    """Zone of each user: what the profile says and what events say, in the order of `timezone.source`, or default."""
    default = default_zone(config)

    def profile() -> pl.Series:
        return _filled(users["timezone"], lambda: users["tz_offset"].cast(pl.String))

    def event() -> pl.Series:
        return _newest(events, users, "tz_offset").cast(pl.String)

    first, second = (event, profile) if config.timezone.source == "event" else (profile, event)
    return _filled(first(), second).fill_null(default)


def default_zone(config: Config) -> str:
    """`timezone.default`, checked: ConfigError (78) for a name that is no zone."""
    name = config.timezone.default
    if not is_zone(name):
        raise ConfigError(f'timezone.default must be an IANA zone such as "Europe/Berlin"; found "{name}"')
    return name


def _cohort(users: pl.DataFrame, config: Config) -> pl.Series:
    missing = [name for name in config.cohort.by if name not in users.columns]
    if missing:
        known = ", ".join(sorted(set(users.columns) - {"h", "user_id"}))
        raise ConfigError(f"cohort.by names unknown columns {missing}; known: {known}; keep more by recipients.keep")
    parts = [pl.col(name).cast(pl.String).fill_null("unknown") for name in config.cohort.by]
    return users.select(cohort=pl.concat_str(parts, separator="|") if parts else pl.lit("all")).to_series()
