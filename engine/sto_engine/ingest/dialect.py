"""What a file calls our columns: by the map of the configuration, by our own names, else by names that are well known.

    [ingest.columns]       wins, and must be there where the column is required
    our own name           then
    well-known names       in the order of `names.py`, without regard to case, spaces and underscores

Two columns of one rank (`User ID` and `user_id_` where neither is exact) are an error; of two ranks the first is read
and `notes` says so.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sto_engine.errors import BadData, ConfigError
from sto_engine.ingest.names import EVENT_NAMES, RECIPIENT_NAMES, WIDE_NAMES
from sto_engine.tables import EVENT_COLUMNS, EVENTS_REQUIRED, RECIPIENT_COLUMNS

_NAMES = {"events": {**EVENT_NAMES, **WIDE_NAMES}, "recipients": RECIPIENT_NAMES}
_OURS = {
    "events": (*EVENTS_REQUIRED[:2], *EVENT_COLUMNS),
    "recipients": ("user_id", *RECIPIENT_COLUMNS),
}
_MEANT = {*EVENT_NAMES, *WIDE_NAMES, *RECIPIENT_NAMES, *_OURS["events"], *_OURS["recipients"]}


@dataclass(frozen=True)
class Dialect:
    """`columns`: our name -> the file's, for those it has. `wide`: one row a send, with a time for each event."""

    columns: dict[str, str]
    wide: bool
    notes: tuple[str, ...]


def plain(name: str) -> str:
    """A name without case, spaces and marks: "User-ID" and "userId" are both "userid"."""
    return re.sub(r"[\W_]", "", name.casefold())


def recognise(
    path: Path, table: str, found: Sequence[str], mapped: Mapping[str, str], keep: Sequence[str] = ()
) -> Dialect:
    """The dialect of a file whose columns are `found`; `mapped` is [ingest.columns], `keep` recipients.keep.

    Raises BadData (65) where two columns could equally be one of ours, ConfigError (78) for a map of a name not ours.
    """
    foreign = sorted(set(mapped) - _MEANT - set(keep))
    if foreign:
        raise ConfigError(
            f"[ingest.columns] maps our names to those of files; {', '.join(foreign)} is none of ours: "
            f"{', '.join(sorted(_MEANT))}"
        )
    columns: dict[str, str] = {}
    notes: list[str] = []
    for ours in dict.fromkeys((*_OURS[table], *_NAMES[table], *keep)):
        source, also = _source(path, ours, found, mapped, _NAMES[table].get(ours, ()))
        if source is None:
            continue
        if found.count(source) > 1:
            raise BadData(f"{path} names the column {source} twice; rename one")
        columns[ours] = source
        if source != ours and ours not in mapped:
            notes.append(f"{ours} is read from {source}" + (f" (not from {', '.join(also)})" if also else ""))
    return _laid_out(columns, notes, mapped) if table == "events" else Dialect(columns, False, tuple(notes))


def _source(
    path: Path, ours: str, found: Sequence[str], mapped: Mapping[str, str], known: Sequence[str]
) -> tuple[str | None, list[str]]:
    """The file's name of one column, and others that could have been it."""
    if ours in mapped:
        return (mapped[ours] if mapped[ours] in found else None), []
    if ours in found:
        return ours, []
    taken = {*mapped.values(), *(name for name in found if name in _MEANT)}
    ranks = {name: rank for rank, name in reversed(list(enumerate((plain(ours), *known))))}
    hits = sorted(
        (ranks[plain(name)], position, name)
        for position, name in enumerate(found)
        if name not in taken and plain(name) in ranks
    )
    if not hits:
        return None, []
    same = [name for rank, _, name in hits if rank == hits[0][0]]
    if len(same) > 1:
        raise BadData(
            f"{path}: {ours} must be one column; found {' and '.join(same)}; "
            f'say which in [ingest.columns], {ours} = "{same[0]}"'
        )
    return hits[0][2], [name for _, _, name in hits[1:]]


def _laid_out(columns: dict[str, str], notes: list[str], mapped: Mapping[str, str]) -> Dialect:
    """Wide where a row has the time of a send, or a mapped time, and no type of event."""
    sure = "event_type" in columns and (columns["event_type"] == "event_type" or "event_type" in mapped)
    long = sure or {"event_type", "event_ts"} <= set(columns)
    times = [name for name in WIDE_NAMES if name in columns]
    wide = not long and ("send_ts" in times or any(name in mapped for name in times))
    hidden = ("event_type", "event_ts") if wide else tuple(WIDE_NAMES)
    kept = {ours: source for ours, source in columns.items() if ours not in hidden}
    told = [note for note in notes if note.split()[0] in kept]
    if wide:
        told.append(f"one row a send, with the times {', '.join(columns[name] for name in times)}")
    return Dialect(kept, wide, tuple(told))


def require(path: Path, dialect: Dialect, table: str, found: Sequence[str], mapped: Mapping[str, str]) -> None:
    """BadData (65) for a required column that the file lacks."""
    required = ("user_id",) if table == "recipients" else EVENTS_REQUIRED[: 2 if dialect.wide else 4]
    missing = [name for name in required if name not in dialect.columns]
    if not missing:
        return
    hints = ["add it to the export or map its name in [ingest.columns]"]
    if "campaign_id" in missing:
        hints.append('set ingest.default_campaign = "all" to count mail without campaigns as one')
    if "user_id" in missing and "email" in dialect.columns:
        hints.append(f'set [ingest.columns] user_id = "{dialect.columns["email"]}" to know people by their address')
    names = ", ".join(mapped.get(name, name) for name in missing)
    raise BadData(f"{path} lacks the column {names}; found {', '.join(found)}; {', or '.join(hints)}")
