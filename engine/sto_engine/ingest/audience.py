"""The audience of one run: a file of user ids, hashed to the store's buckets in memory (about 24 bytes a row)."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sto_engine.config import Config
from sto_engine.errors import BadData
from sto_engine.files import sha256_file
from sto_engine.ingest.pseudonyms import check_pseudonyms
from sto_engine.ingest.readers import read_ids
from sto_engine.ingest.store import Store
from sto_engine.tables import hash_ids
from sto_kernels.hashing import bucket_of


@dataclass(frozen=True)
class Audience:
    """Ids of a file by bucket; rows without an id are counted in `quarantined`."""

    frames: dict[int, pl.DataFrame]
    empty: pl.DataFrame
    quarantined: dict[str, int]
    sha256: str

    def bucket(self, bucket: int) -> pl.DataFrame:
        """Columns h, user_id, row (position in the file) in (h, user_id, row) order; duplicates included."""
        return self.frames.get(bucket, self.empty)


def read_audience(path: Path, store: Store, config: Config) -> Audience:
    """Read `user_id` of a file in any format that `ingest` reads, typed as the store's ids.

    Raises InputMissing (66) for a file that cannot be read, BadData (65) for one without usable ids, and what
    `check_pseudonyms` raises for a key that does not fit.
    """
    ids, bad = read_ids(path, store.id_type, config, check_pseudonyms(store.manifest, store.path, config))
    frame = ids.filter(pl.col("user_id").is_not_null())
    if frame.is_empty():
        raise BadData(f"audience {path} has no row with a user_id; found {len(ids)} rows")
    frame = frame.with_columns(h=pl.Series(hash_ids(frame["user_id"]), dtype=pl.UInt64))
    frame = frame.with_columns(bucket=pl.Series(bucket_of(frame["h"].to_numpy(), store.buckets)))
    frame = frame.sort("h", "user_id", "row").select("h", "user_id", "row", "bucket")
    parts = frame.partition_by("bucket", maintain_order=True, include_key=True)
    frames = {int(part["bucket"][0]): part.drop("bucket") for part in parts}
    return Audience(frames, frame.clear().drop("bucket"), bad, sha256_file(path))
