"""What is known of each recipient besides his events: zone, cohort, provider and the columns of the snapshot."""

import polars as pl

from sto_engine.config import Config
from sto_engine.errors import ConfigError
from sto_engine.history.providers import providers_of
from sto_engine.tables import RECIPIENT_COLUMNS
from sto_engine.zones import is_zone, parse_zone, region_of, standard_offset

_TYPES = {"string": pl.String, "bool": pl.Boolean, "double": pl.Float64, "int16": pl.Int16}


def build_users(
    audience: pl.DataFrame, recipients: pl.DataFrame | None, events: pl.DataFrame, config: Config, origin_ms: int
) -> pl.DataFrame:
    """One row per row of `audience` (h, user_id), in its order, with everything that decides about a user.

    Adds every recipients column (null without a snapshot), `zone` (IANA name, or minutes as text), `region`, `cohort`
    and `provider`. Zone: `timezone.source`; where neither profile nor events name one, `timezone.default`.
    """
    users = audience.select("h", "user_id")
    known = _known(recipients, users)
    seen = _last_seen(events)
    users = users.join(known, on="user_id", how="left", maintain_order="left")
    users = users.join(seen, on="user_id", how="left", maintain_order="left")
    users = users.with_columns(zone=_zone(config))
    users = users.with_columns(region=_region(users["zone"], origin_ms))
    users = users.with_columns(
        cohort=_cohort(users, config),
        provider=providers_of(users["provider"], users["recipient_domain"].fill_null(users["seen_domain"])),
    )
    return users.drop("seen_offset", "seen_domain")


def _known(recipients: pl.DataFrame | None, users: pl.DataFrame) -> pl.DataFrame:
    """Recipients columns by user: of duplicate rows the first counts."""
    if recipients is not None:
        return recipients.drop("h", "row").unique("user_id", keep="first", maintain_order=True)
    types = {name: _polars(str(kind)) for name, kind in RECIPIENT_COLUMNS.items()}
    return users.clear().select("user_id").with_columns(pl.lit(None, kind).alias(n) for n, kind in types.items())


def _polars(kind: str) -> pl.DataType | type[pl.DataType]:
    return pl.Datetime("ms", "UTC") if kind.startswith("timestamp") else _TYPES[kind]


def _last_seen(events: pl.DataFrame) -> pl.DataFrame:
    """Newest offset and domain that the events of each user carry."""
    newest = pl.col("event_ts").arg_max()
    offsets = events.filter(pl.col("tz_offset").is_not_null()).group_by("user_id", maintain_order=True)
    domains = events.filter(pl.col("recipient_domain").is_not_null()).group_by("user_id", maintain_order=True)
    seen = offsets.agg(seen_offset=pl.col("tz_offset").get(newest))
    return seen.join(
        domains.agg(seen_domain=pl.col("recipient_domain").get(newest)), on="user_id", how="full", coalesce=True
    )


def _zone(config: Config) -> pl.Expr:
    profile = pl.coalesce("timezone", pl.col("tz_offset").cast(pl.String))
    event = pl.col("seen_offset").cast(pl.String)
    order = (event, profile) if config.timezone.source == "event" else (profile, event)
    return pl.coalesce(*order, pl.lit(default_zone(config)))


def default_zone(config: Config) -> str:
    """`timezone.default`, checked: ConfigError (78) for a name that is no zone."""
    name = config.timezone.default
    if not is_zone(name):
        raise ConfigError(f'timezone.default must be an IANA zone such as "Europe/Berlin"; found "{name}"')
    return name


def _region(zones: pl.Series, origin_ms: int) -> pl.Series:
    names = zones.unique().sort().to_list()
    regions = {name: region_of(standard_offset(parse_zone(name), origin_ms)) for name in names}
    return zones.replace_strict(regions, return_dtype=pl.String)


def _cohort(users: pl.DataFrame, config: Config) -> pl.Series:
    missing = [name for name in config.cohort.by if name not in users.columns]
    if missing:
        known = ", ".join(sorted(set(users.columns) - {"h", "user_id", "seen_offset", "seen_domain"}))
        raise ConfigError(f"cohort.by names unknown columns {missing}; known: {known}; keep more by recipients.keep")
    parts = [pl.col(name).cast(pl.String).fill_null("unknown") for name in config.cohort.by]
    return users.select(cohort=pl.concat_str(parts, separator="|") if parts else pl.lit("all")).to_series()
