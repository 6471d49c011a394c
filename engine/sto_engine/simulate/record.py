"""The tables that are written: events as the sender has them, and the truth behind them. U users, N events."""

from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.simulate.acts import HOUR_MS, Acts
from sto_engine.simulate.columns import Bools, Floats, Ints
from sto_engine.simulate.habits import DAY_H, WEEK_H
from sto_engine.simulate.mailing import Mail
from sto_engine.simulate.people import ZONE_NAMES, People, words
from sto_engine.simulate.scene import Period, Residence, Scene
from sto_engine.zones import event_offsets

DAY_MS = DAY_H * HOUR_MS
# in the order of the codes of acts.py and scene.py
_KINDS, _TYPES, _DEVICES = ("send", "open", "click"), ("promo", "trigger", "transactional"), ("desktop", "mobile")

TRUTH_SCHEMA = pa.schema(
    [
        ("user_id", pa.uint64()),
        ("true_timezone", pa.string()),
        ("true_offset", pa.int16()),
        ("profile_offset", pa.int16()),
        ("eligible", pa.bool_()),
        ("p2h", pa.list_(pa.float32(), DAY_H)),
        ("p24h", pa.list_(pa.float32(), DAY_H)),
        ("p2h_week", pa.list_(pa.float32(), WEEK_H)),
        ("p24h_week", pa.list_(pa.float32(), WEEK_H)),
    ]
)


def offsets_min(zone_N: Ints, utc_ms_N: Ints) -> NDArray[np.int16]:
    """Offset in minutes of each time in its zone (index into ZONE_NAMES), [N]."""
    return event_offsets(ZONE_NAMES, zone_N.astype(np.int32), utc_ms_N)


def events_table(
    acts: Acts,
    mail: Mail,
    people: People,
    residence: Residence,
    ids_U: NDArray[np.uint64],
    is_mobile_U: Bools,
    period: Period,
) -> pa.Table:
    """The acts as rows; those of owners carry the offset of their device, sends and acts of machines the profile's."""
    user_N = mail.user_N[acts.mail_N]
    is_seen_N = (acts.ms_N - period.start_ms) // DAY_MS >= residence.seen_day_U[user_N]
    device_zone_N = np.where(is_seen_N, residence.now_U[user_N], residence.home_U[user_N])
    zone_N = np.where(acts.owner_N, device_zone_N, people.zone_U[user_N])
    return pa.table(
        {
            "user_id": ids_U[user_N],
            "campaign_id": mail.campaign_N[acts.mail_N].astype(np.uint64),
            "event_type": _dictionary(_KINDS, acts.kind_N),
            "event_ts": pa.array(acts.ms_N, pa.timestamp("ms", "UTC")),
            "tz_offset": offsets_min(zone_N, acts.ms_N),
            "device_type": _dictionary(_DEVICES, is_mobile_U[user_N]),
            "campaign_type": _dictionary(_TYPES, mail.type_N[acts.mail_N]),
        }
    )


def _dictionary(names: tuple[str, ...], code_N: Ints | Bools) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(code_N.astype(np.int8)), pa.array(names))


def plain(table: pa.Table) -> pa.Table:
    """Large and view strings of the frame library as plain strings."""
    fields = [
        pa.field(f.name, pa.string()) if "string" in str(f.type) else pa.field(f.name, f.type) for f in table.schema
    ]
    return table.cast(pa.schema(fields))


def truth_table(recipients: pl.DataFrame, scene: Scene, end: date) -> pa.Table:
    """P(open within 2 and 24 h) of each hour of the local day `end` and of the week, Monday first.

    Hours are those where recipients really are. `recipients` is the table as it is written, with the profile's offset.
    """
    first, now_U = end.weekday() * DAY_H, scene.residence.now_U
    midnight_ms = np.datetime64(end, "ms").astype(np.int64)
    p2h_UH, p24h_UH = scene.mechanism.open_probability(2), scene.mechanism.open_probability(24)
    return pa.table(
        [
            recipients["user_id"].to_arrow(),
            words(ZONE_NAMES, now_U).to_arrow().cast(pa.string()),
            offsets_min(now_U, np.full(len(now_U), midnight_ms)),
            recipients["tz_offset"].to_arrow(),
            is_eligible(recipients, scene).to_arrow(),
            *(_lists(p_UH[:, first : first + DAY_H]) for p_UH in (p2h_UH, p24h_UH)),
            *(_lists(p_UH) for p_UH in (p2h_UH, p24h_UH)),
        ],
        schema=TRUTH_SCHEMA,
    )


def is_eligible(recipients: pl.DataFrame, scene: Scene) -> pl.Series:
    """Whether each may be mailed and would ever react."""
    return recipients["consent"] & (recipients["address_status"] == "valid") & ~pl.Series(scene.defects.dead_U)


def _lists(values_US: Floats) -> pa.Array:
    flat = np.ascontiguousarray(values_US, dtype=np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values_US.shape[1])
