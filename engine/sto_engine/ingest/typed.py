"""A batch of raw columns -> the columns of a table in their types, before the row rules.

    columns typed -> ids final -> rules (`rows.py`) -> what follows from times (`finished`)

Closed vocabularies become `polars.Enum`, columns that a file lacks nulls of their type.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from sto_engine.config import Config
from sto_engine.errors import BadData
from sto_engine.ingest.columns import raw_ids, stored_ids, typed_ids, typed_value
from sto_engine.ingest.dialect import plain
from sto_engine.ingest.geo import IP, load_places
from sto_engine.ingest.names import WIDE_NAMES
from sto_engine.ingest.pseudonyms import Pseudonyms
from sto_engine.ingest.text import Typed, coded, is_text, text_of
from sto_engine.ingest.times import TIME, TimeRules, typed_time
from sto_engine.ingest.words import bounce_type, campaign_code, device_code, event_code
from sto_engine.tables import CAMPAIGN_ENUM, DEVICE_ENUM, EVENT_ENUM, events_schema, recipients_schema
from sto_engine.zones import event_offsets

_ENUMS = {"event_type": EVENT_ENUM, "device_type": DEVICE_ENUM, "campaign_type": CAMPAIGN_ENUM}
_BOUNCE = _ENUMS["event_type"].categories.to_list().index("bounce")


@dataclass(frozen=True)
class Types:
    """What the store keeps: types of its ids and, of recipients, the further columns that are kept.

    `id_type` is that of stored ids: of pseudonyms where the ids of people are replaced by them.
    """

    id_type: str
    campaign_type: str
    keep: tuple[str, ...] = ()
    pseudonyms: Pseudonyms | None = None

    def schema(self, table: str) -> pa.Schema:
        if table == "events":
            return events_schema(self.id_type, self.campaign_type)
        return recipients_schema(self.id_type, dict.fromkeys(self.keep, pa.string()))


@dataclass(frozen=True)
class Context:
    """Where a batch comes from: its file, what that calls our columns, whether all of it is text, its first row, the
    units of whole numbers, and the columns that are the same in every row."""

    path: Path
    table: str
    config: Config
    names: Mapping[str, str]
    wide: bool
    from_text: bool
    first_row: int
    units: Mapping[str, str | None]
    constants: Sequence[str] = ()
    words: Counter[str] = field(default_factory=Counter)

    def where(self, name: str) -> str:
        """ "file: column" for messages."""
        source = self.names.get(name, name)
        return f"{self.path}: {name}" + (f" (column {source})" if source != name else "")


def typed_columns(batch: pa.Table, types: Types, context: Context) -> dict[str, Typed]:
    """Every column of the table's schema in its type; of events also the `timezone` that an offset follows from.

    In the wide layout without event_type and event_ts. Words that are no event type are counted in `context.words`.
    """
    out: dict[str, Typed] = {}
    for each in types.schema(context.table):
        name = each.name
        if context.wide and name in ("event_type", "event_ts"):
            continue
        if name == "row":
            first = context.first_row
            out[name] = Typed(pl.int_range(first, first + batch.num_rows, dtype=pl.UInt64, eager=True))
        elif name not in batch.column_names or batch[name].null_count == batch.num_rows:
            out[name] = Typed(pl.repeat(None, batch.num_rows, dtype=_kind(name, each.type), eager=True))
        else:
            out[name] = _typed(batch[name], each, types, context)
    if context.table == "events":
        out |= _derived(batch, out, context)
    elif "email" in batch.column_names:
        out["recipient_domain"] = _domain(batch["email"])
    return out


def typed_times(batch: pa.Table, context: Context) -> dict[str, Typed]:
    """The times of a row of the wide layout, each in ms UTC, null where it did not happen."""
    naive = context.config.ingest.naive_timestamps
    return {
        name: typed_time(batch[name], TimeRules(naive, context.where(name), context.units.get(name), never=True))
        for name in WIDE_NAMES
        if name in batch.column_names
    }


def _kind(name: str, kind: pa.DataType) -> Any:
    """Polars type of a column."""
    if name in _ENUMS:
        return _ENUMS[name]
    if pa.types.is_timestamp(kind):
        return TIME
    small = {pa.bool_(): pl.Boolean, pa.int16(): pl.Int16, pa.float64(): pl.Float64}
    whole = {pa.uint64(): pl.UInt64, pa.int64(): pl.Int64}
    return {**small, **whole}.get(kind, pl.String)


def _typed(column: pa.ChunkedArray, each: pa.Field, types: Types, context: Context) -> Typed:
    name, where = each.name, context.where(each.name)
    if name in ("user_id", "campaign_id"):
        return Typed(_ids(column, name, types, context))
    if name in _ENUMS:
        return _word_codes(column, name, context)
    if pa.types.is_timestamp(each.type):
        naive = context.config.ingest.naive_timestamps
        rules = TimeRules(naive, where, context.units.get(name), days=name == "signup_ts")
        return typed_time(column, rules)
    return typed_value(column, name, each.type, where)


def _ids(column: pa.ChunkedArray, name: str, types: Types, context: Context) -> pl.Series:
    where, from_text = context.where(name), context.from_text or name in context.constants
    ids = raw_ids(column, where, context.config.ingest.fold_ids)
    if name == "user_id":
        return stored_ids(ids, types.id_type, where, from_text, types.pseudonyms)
    return typed_ids(ids, types.campaign_type, where, from_text)


def _word_codes(column: pa.ChunkedArray, name: str, context: Context) -> Typed:
    mapped = {plain(word): kind for word, kind in context.config.ingest.event_types.items()}
    of: dict[str, Callable[[str], int | None]] = {
        "event_type": lambda word: event_code(word, mapped),
        "device_type": device_code,
        "campaign_type": campaign_code,
    }
    found = coded(column, of[name])
    if name == "event_type":
        context.words.update(found.unknown)
    return Typed(found.codes.cat.to(_ENUMS[name]), found.lost)


def _derived(batch: pa.Table, out: Mapping[str, Typed], context: Context) -> dict[str, Typed]:
    """What other columns of events tell: the domain of an address, the kind of a bounce, the zone of an offset."""
    more = {}
    if "email" in batch.column_names:
        more["recipient_domain"] = _domain(batch["email"])
    if "timezone" in batch.column_names:
        more["timezone"] = text_of(batch["timezone"])
    if IP in batch.column_names:
        more[IP] = _addresses(batch[IP], context.where(IP))
    if not context.wide and "event_type" in batch.column_names:
        codes = out["event_type"].values.to_physical()
        if (codes == _BOUNCE).any():
            said = _looked_up(text_of(batch["event_type"]).values, bounce_type)
            more["bounce_type"] = Typed(out["bounce_type"].values.fill_null(said), out["bounce_type"].lost)
    return more


def _looked_up(words: pl.Series, meaning: Callable[[str], str | None]) -> pl.Series:
    names = words.unique().drop_nulls()
    means = pl.Series([meaning(word) for word in names.to_list()], dtype=pl.String)
    return words.replace_strict(names, means, default=None, return_dtype=pl.String)


def _domain(emails: pa.ChunkedArray) -> Typed:
    """What follows the last @ of addresses, without case."""
    return Typed(text_of(emails).values.str.extract(r"@([^@\s>]+)>?$").str.to_lowercase())


def _addresses(column: pa.ChunkedArray, where: str) -> Typed:
    if is_text(column.type) or pa.types.is_null(column.type):
        return text_of(column)
    raise BadData(f"{where} must be text such as 192.0.2.1 or 2001:db8::1; found {column.type}")


def finished(good: pl.DataFrame, names: Sequence[str], context: Context) -> tuple[pl.DataFrame, Counter[str]]:
    """Good rows in the columns of the table. Offsets that events lack are worked out at their times, from their zone or
    their address; counted is of how many addresses nothing is known."""
    untold = Counter[str]()
    if context.table == "events" and "timezone" in good.columns:
        good = good.with_columns(tz_offset=_offsets(good["timezone"], good["event_ts"], good["tz_offset"]))
    places = load_places(context.config) if IP in good.columns else None
    if places is not None:
        offset, unknown = places.fill(good["tz_offset"], good[IP], good["event_ts"], context.where(IP))
        good, untold = good.with_columns(tz_offset=offset), +Counter({IP: unknown})
    return good.select(names), untold


def _offsets(zone: pl.Series, time: pl.Series, given: pl.Series) -> pl.Series:
    zones = zone.drop_nulls().unique().sort()
    known = zone.is_not_null()
    if not len(zones):
        return given
    index = zone.filter(known).replace_strict(zones, pl.int_range(len(zones), dtype=pl.Int32, eager=True))
    minutes = event_offsets(zones.to_list(), index.to_numpy(), time.to_physical().filter(known).to_numpy())
    spread = np.zeros(len(zone), np.int16)
    spread[known.to_numpy()] = minutes
    steps = pl.Series(spread).set(~known, None)
    return given.fill_null(steps.set((steps % 15 != 0).fill_null(False), None))
