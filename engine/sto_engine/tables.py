"""The schema of every table that enters or leaves the engine, and `check`, which holds a table to it.

On disk text is plain strings; in memory closed vocabularies are `polars.Enum` (codes of Categorical are global to the
process and change between runs).
"""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.errors import BadData
from sto_kernels.hashing import hash_integers, hash_strings

TABLES_VERSION = 1
EVENT_TYPES = ("send", "delivered", "open", "click", "bounce", "unsubscribe", "complaint", "conversion")
DEVICE_TYPES = ("desktop", "mobile", "tablet")
CAMPAIGN_TYPES = ("promo", "transactional", "trigger")
EMAIL = "email"
CHANNELS = (EMAIL, "push", "sms", "in_app")
ARMS = ("model", "control", "random", "explore")
REASONS = ("model", "histogram", "cohort", "global", "b2b", "fallback", "control", "random", "explore")
SUPPRESSIONS = (
    "no_consent",
    "invalid_address",
    "unsubscribed",
    "complaint",
    "hard_bounce",
    "no_channel",
    "frequency_cap",
    "min_gap",
    "window_closed",
    "no_slot_left",
    "no_send_day",
    "deferred",
    "no_capacity",
    "duplicate",
)
URGENCIES = ("today", "within_24h", "best_day")
MACHINES = ("human", "prefetch", "scanner", "flood")
ADDRESS_STATUS = ("valid", "invalid", "disposable", "trap", "unknown")
BAD_ADDRESS = ("invalid", "disposable", "trap")

EVENT_ENUM, DEVICE_ENUM = pl.Enum(EVENT_TYPES), pl.Enum(DEVICE_TYPES)
CAMPAIGN_ENUM = pl.Enum(CAMPAIGN_TYPES)

_IDS: dict[str, tuple[pa.DataType, Any]] = {
    "uint64": (pa.uint64(), pl.UInt64),
    "int64": (pa.int64(), pl.Int64),
    "string": (pa.string(), pl.String),
}
_TIME = pa.timestamp("ms", tz="UTC")

EVENT_COLUMNS: dict[str, pa.DataType] = {
    "event_type": pa.string(),
    "event_ts": _TIME,
    "tz_offset": pa.int16(),
    "device_type": pa.string(),
    "campaign_type": pa.string(),
    "is_machine_open": pa.bool_(),
    "recipient_domain": pa.string(),
    "bounce_type": pa.string(),
    "value": pa.float64(),
    "channel": pa.string(),
    "user_agent": pa.string(),
}
EVENTS_REQUIRED = ("user_id", "campaign_id", "event_type", "event_ts")
RECIPIENT_COLUMNS: dict[str, pa.DataType] = {
    "timezone": pa.string(),
    "tz_offset": pa.int16(),
    "signup_source": pa.string(),
    "signup_ts": _TIME,
    "country": pa.string(),
    "b2b": pa.bool_(),
    "consent": pa.bool_(),
    "consent_profiling": pa.bool_(),
    "address_status": pa.string(),
    "recipient_domain": pa.string(),
    "provider": pa.string(),
    "clv": pa.float64(),
    "churn_risk": pa.float64(),
    "engagement_score": pa.float64(),
    "frequency": pa.float64(),
    "frequency_cap": pa.float64(),
    "allowed_hours": pa.string(),
}
_VOCABULARY = {
    "event_type": EVENT_TYPES,
    "device_type": DEVICE_TYPES,
    "campaign_type": CAMPAIGN_TYPES,
    "arm": ARMS,
    "address_status": ADDRESS_STATUS,
}


def id_arrow(id_type: str) -> pa.DataType:
    """Arrow type of an id type ("uint64", "int64" or "string")."""
    return _IDS[id_type][0]


def id_polars(id_type: str) -> Any:
    """Polars type of an id type ("uint64", "int64" or "string")."""
    return _IDS[id_type][1]


def hash_ids(ids: pl.Series) -> NDArray[np.uint64]:
    """h of each id, by the type of the series; ids must not be null -> uint64 [U]."""
    return hash_strings(ids.to_list()) if ids.dtype == pl.String else hash_integers(ids.to_numpy())


def encode(text: pl.Series) -> tuple[list[str], NDArray[np.int32]]:
    """Distinct values in order and, for each row, the index of its value, int32 [N]; `text` must not hold nulls."""
    names = text.unique().sort().to_list()
    return names, text.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int32)


def events_schema(id_type: str, campaign_type: str) -> pa.Schema:
    """The event table of a store whose ids have these types."""
    ids = [("user_id", id_arrow(id_type)), ("campaign_id", id_arrow(campaign_type))]
    return pa.schema([*ids, *EVENT_COLUMNS.items()])


def recipients_schema(id_type: str, keep: dict[str, pa.DataType]) -> pa.Schema:
    """The recipients table: position in the file, every known column, then the kept ones."""
    head = [("user_id", id_arrow(id_type)), ("row", pa.uint64())]
    return pa.schema([*head, *RECIPIENT_COLUMNS.items(), *keep.items()])


def assignments_schema(id_type: str) -> pa.Schema:
    """One row a recipient who is mailed."""
    return pa.schema(
        [
            ("user_id", id_arrow(id_type)),
            ("campaign_id", pa.string()),
            ("channel", pa.string()),
            ("slot", pa.uint8()),
            ("slot_local", pa.timestamp("ms")),
            ("send_at", _TIME),
            ("tz_offset", pa.int16()),
            ("arm", pa.string()),
            ("reason", pa.string()),
            ("propensity", pa.float32()),
            ("p_open", pa.float32()),
            ("p_control", pa.float32()),
            ("preferred_slot", pa.uint8()),
            ("n_eff", pa.float32()),
            ("provider", pa.string()),
            ("urgency", pa.string()),
            ("bundle_id", pa.string()),
        ]
    )


def suppressed_schema(id_type: str) -> pa.Schema:
    """One row a recipient who is not mailed, with the reason."""
    return pa.schema([("user_id", id_arrow(id_type)), ("reason", pa.string())])


def scores_schema(id_type: str) -> pa.Schema:
    """P(open) of every slot, on request."""
    return pa.schema([("user_id", id_arrow(id_type)), ("p_open", pa.list_(pa.float32()))])


def features_schema(id_type: str) -> pa.Schema:
    """What the walks counted of a recipient (journal.Counts), on request; `last_act` is null where there is none."""
    cells, slots = pa.list_(pa.float32(), 48), pa.list_(pa.float32(), 24)
    tables = ("sends2_24", "opens2_24", "sends24_24", "opens24_24", "seen_24", "acts_24")
    return pa.schema(
        [
            ("user_id", id_arrow(id_type)),
            *(("opens_48", cells), ("exposure_48", cells)),
            *((name, slots) for name in tables),
            *((name, pa.float64()) for name in ("sent", "opened", "log_latency", "mobile_acts", "acts")),
            ("last_act", _TIME),
            ("machine", pa.string()),
            ("invalid", pa.bool_()),
            ("shift_min", pa.int16()),
        ]
    )


QUARANTINE = pa.schema(
    [
        ("rule", pa.string()),
        ("file", pa.string()),
        ("row", pa.uint64()),
        ("column", pa.string()),
        ("payload", pa.string()),
    ]
)
_NOT_NULL = {
    "assignments": ("user_id", "slot", "slot_local", "send_at", "reason", "propensity", "provider"),
    "suppressed": ("user_id", "reason"),
    "events": EVENTS_REQUIRED,
    "recipients": ("user_id", "row"),
}
_REASON_OF = {"assignments": REASONS, "suppressed": SUPPRESSIONS}


def check(table: pa.Table, name: str) -> pa.Table:
    """Return `table` if it keeps the contract of `name`; BadData (65) says which column breaks it and how.

    Names: "events", "recipients", "assignments", "suppressed". Checks nulls and closed vocabularies; types are those
    of the schema the caller casts to.
    """
    words: dict[str, tuple[str, ...]] = {**_VOCABULARY, "reason": _REASON_OF.get(name, ())}
    for column in _NOT_NULL[name]:
        nulls = table[column].null_count
        if nulls:
            raise BadData(f"{name}.{column} must not be null; found {nulls} nulls in {table.num_rows} rows")
    for column, known in words.items():
        if known and column in table.column_names:
            found = set(table[column].unique().to_pylist()) - {None, *known}
            if found:
                raise BadData(f"{name}.{column} must be one of {', '.join(known)}; found {sorted(found)[:5]}")
    return table
