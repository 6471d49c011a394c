"""The wide layout: a row is a send with a time for each thing that became of it; each time becomes an event.

    user_id, campaign_id, sent_at, delivered_at, opened_at, clicked_at ...

Zero (1970-01-01, "0000-00-00") in a time column means that it did not happen. Events made = sum over good rows of
their times. What a row says of a device, of a bounce, of a value goes to the events that it can be about.
"""

from collections.abc import Sequence

import polars as pl

from sto_engine.tables import EVENT_ENUM, EVENT_TYPES

TIME_OF = {
    "send_ts": "send",
    "delivered_ts": "delivered",
    "open_ts": "open",
    "click_ts": "click",
    "bounce_ts": "bounce",
    "unsubscribe_ts": "unsubscribe",
    "complaint_ts": "complaint",
    "conversion_ts": "conversion",
}
_ACTS = ("open", "click", "conversion")
_ABOUT = {
    "device_type": _ACTS,
    "user_agent": _ACTS,
    "is_machine_open": ("open",),
    "bounce_type": ("bounce",),
    "value": ("conversion",),
}


def events_of(sends: pl.DataFrame, times: Sequence[str]) -> pl.DataFrame:
    """Events of good rows: all sends in file order, then all deliveries, and so on; columns of `sends` less its times,
    and event_type and event_ts."""
    parts = []
    for name in times:
        kind = TIME_OF[name]
        rows = sends.filter(pl.col(name).is_not_null())
        void = [column for column, kinds in _ABOUT.items() if column in sends.columns and kind not in kinds]
        parts.append(
            rows.with_columns(
                *(pl.lit(None, rows.schema[column]).alias(column) for column in void),
                event_type=pl.lit(EVENT_TYPES.index(kind), pl.UInt8),
                event_ts=pl.col(name),
            ).drop(times)
        )
    events = pl.concat(parts)
    return events.with_columns(event_type=events["event_type"].cat.to(EVENT_ENUM))
