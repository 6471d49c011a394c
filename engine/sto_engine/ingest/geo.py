"""Where a row states no offset: the offset of the place that its IP address belongs to, by a MaxMind DB of the user's.

The address is looked up, once a distinct address of a batch, while the row is typed; it is in no column that is kept.
"""

import functools
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sto_engine.config import Config
from sto_engine.errors import BadData, InputMissing, Unavailable
from sto_engine.zones import event_offsets, is_zone

if TYPE_CHECKING:
    from maxminddb import Reader

IP = "ip"
_FIRST_MS, _LAST_MS = 631_152_000_000, 4_102_444_800_000  # 1990 and 2100: the years in which events are believed


@dataclass(frozen=True)
class Places:
    """An open database of places by address."""

    path: Path
    reader: "Reader"

    def zone(self, address: str) -> str | None:
        """The IANA zone of an address; None for text that is none, or one that the database or tzdata does not know.

        Raises BadData (65) for a damaged database.
        """
        from maxminddb import InvalidDatabaseError

        try:
            place = self.reader.get(_plain(address))
        except ValueError:  # no address, or one of version 6 in a database of version 4
            return None
        except InvalidDatabaseError as error:
            raise BadData(f"timezone.mmdb {self.path} is damaged ({error}); download it again") from error
        location = place.get("location") if isinstance(place, dict) else None
        zone = location.get("time_zone") if isinstance(location, dict) else None
        return zone if isinstance(zone, str) and is_zone(zone) else None

    def fill(self, offset: pl.Series, ip: pl.Series, event_ts: pl.Series, where: str) -> tuple[pl.Series, int]:
        """`offset` (minutes) with its nulls filled where the address tells, and how many addresses told nothing.

        `ip` is text, `event_ts` Datetime(ms, UTC); `where` is "file: column". Raises BadData (65) for other addresses.
        """
        if ip.dtype not in (pl.String, pl.Null) and not isinstance(ip.dtype, pl.Categorical | pl.Enum):
            raise BadData(f"{where} must be text such as 192.0.2.1 or 2001:db8::1; found {ip.dtype}")
        time = event_ts.dt.epoch("ms")
        open_N = offset.is_null() & ip.is_not_null() & time.is_between(_FIRST_MS, _LAST_MS, "left").fill_null(False)
        if not open_N.any():
            return offset, 0
        texts = ip.cast(pl.String).filter(open_N)
        names = texts.unique()
        zones = pl.Series([self.zone(name) for name in names.to_list()], dtype=pl.String)
        zone_N = texts.replace_strict(names, zones, return_dtype=pl.String)
        rows = open_N.arg_true().filter(zone_N.is_not_null())
        found = _offsets(zone_N.drop_nulls(), time.gather(rows))
        return offset.scatter(rows, found.cast(offset.dtype)), int(zone_N.null_count())


def _plain(address: str) -> str | ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as the library takes it: IPv4 as text, which it parses faster; ValueError for what is none."""
    text = address.strip()
    if text.count(".") == 3 and ":" not in text:
        return text
    parsed = ipaddress.IPv6Address(text)
    return parsed.ipv4_mapped or parsed


def _offsets(zones: pl.Series, time: pl.Series) -> pl.Series:
    known = zones.unique().sort()
    index_N = zones.replace_strict(known, pl.int_range(len(known), dtype=pl.Int32, eager=True), return_dtype=pl.Int32)
    utc_ms_N = time.to_numpy().astype(np.int64)
    return pl.Series(event_offsets(known.to_list(), index_N.to_numpy(), utc_ms_N))


def load_places(config: Config) -> Places | None:
    """The database that the configuration names; None where it names none.

    Raises Unavailable (69) without the library, InputMissing (66) for a file that cannot be read, BadData (65) for one
    that is no such database.
    """
    path = config.timezone.mmdb
    return None if path is None else _load(path)


@functools.lru_cache(maxsize=4)
def _load(path: Path) -> Places:
    try:
        import maxminddb
    except ImportError as error:
        raise Unavailable(
            "timezone.mmdb needs the library maxminddb; install it with: pip install 'sto-engine[geo]'"
        ) from error
    try:
        with path.open("rb") as file:
            file.read(1)
        return Places(path, maxminddb.open_database(path, maxminddb.MODE_AUTO))
    except OSError as error:
        raise InputMissing(f"{path} cannot be read: {error.strerror}; check timezone.mmdb") from error
    except (maxminddb.InvalidDatabaseError, ValueError) as error:
        raise BadData(f"timezone.mmdb {path} must be a MaxMind DB ({error}); download it again") from error
