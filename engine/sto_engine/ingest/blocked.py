"""People who stay erased: keyed hashes of their ids in the store's manifest, and the rows that ingest drops for them.

    entry = first 16 bits of h(user), BLAKE2b(text of the id, key = random bytes of this store, 16 bytes), as hex

The key lies in the manifest beside the entries, so whoever holds the store can try ids one by one: entries are
pseudonymous personal data, kept for the one purpose of not storing these people again.
"""

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from sto_engine.tables import hash_ids

_SHIFT = np.uint64(48)  # of the 64 bits of h the first 16 are kept: few rows need the slow hash


def block_ids(manifest: Mapping[str, Any], ids: pl.Series) -> dict[str, Any]:
    """What `manifest["blocked"]` becomes when `ids` (of the store's type) are blocked too."""
    old = manifest.get("blocked") or {"key": secrets.token_hex(32), "entries": []}
    return {"key": old["key"], "entries": sorted({*old["entries"], *_entries(ids, old["key"])})}


def drop_blocked(manifest: Mapping[str, Any], rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` but for those of blocked people; rows that name nobody stay."""
    blocked = manifest.get("blocked")
    if not blocked or rows.is_empty() or "user_id" not in rows.columns:
        return rows
    prefixes = np.unique(np.array([int(entry[:4], 16) for entry in blocked["entries"]], np.uint64))
    ids = rows["user_id"].drop_nulls().unique()
    suspects = ids.filter(pl.Series(np.isin(hash_ids(ids) >> _SHIFT, prefixes)))
    if suspects.is_empty():
        return rows
    guilty = pl.Series(_entries(suspects, blocked["key"])).is_in(blocked["entries"])
    return rows.filter(~pl.col("user_id").is_in(suspects.filter(guilty).implode()).fill_null(False))


def _entries(ids: pl.Series, key: str) -> list[str]:
    secret = bytes.fromhex(key)
    hashes = [hashlib.blake2b(text.encode(), key=secret, digest_size=16).hexdigest() for text in ids.cast(pl.String)]
    return [f"{int(prefix):04x}{text}" for prefix, text in zip(hash_ids(ids) >> _SHIFT, hashes, strict=True)]
