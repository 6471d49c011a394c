"""Hive partitions: of a path with `event_type=open/date=2026-01-01/`, the keys that are columns of ours are columns.

Only our own names and those of [ingest.columns] count; other keys (date, year, hour) are passed over. A column that the
file itself has is read from the file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from sto_engine.ingest.names import EVENT_NAMES, RECIPIENT_NAMES, WIDE_NAMES
from sto_engine.tables import EVENT_COLUMNS, RECIPIENT_COLUMNS

_OURS = {
    "events": {*EVENT_NAMES, *EVENT_COLUMNS, *WIDE_NAMES},
    "recipients": {*RECIPIENT_NAMES, *RECIPIENT_COLUMNS},
}
_NULL = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(
    path: Path, table: str, columns: Sequence[str], mapped: Mapping[str, str], keep: Sequence[str]
) -> dict[str, str | None]:
    """Keys of the folders above a file that are columns of ours and not in the file -> their values as text."""
    ours = {mapped.get(name, name) for name in {*_OURS[table], *keep}}
    pairs = [folder.partition("=") for folder in path.parent.parts if "=" in folder]
    values = {key: None if value == _NULL else unquote(value) for key, _, value in pairs}
    return {key: value for key, value in values.items() if key in ours and key not in columns}


def constant(value: str | None, rows: int) -> pa.ChunkedArray:
    """A column of one value, as a dictionary."""
    index = pa.array(np.zeros(rows, np.int32))
    return pa.chunked_array([pa.DictionaryArray.from_arrays(index, pa.array([value], pa.string()))])
