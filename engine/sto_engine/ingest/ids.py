"""Ids that people name, on the command line or in a file -> ids as the store has them, by bucket. Ids stay out of logs.

Where the store holds pseudonyms, the sender's own ids are named, and replaced here by the key of the configuration.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sto_engine.config import Config
from sto_engine.errors import BadData, InputMissing, UsageError
from sto_engine.ingest.pseudonyms import check_pseudonyms
from sto_engine.ingest.readers import SUFFIXES, read_ids
from sto_engine.ingest.store import Store
from sto_engine.tables import hash_ids, id_polars
from sto_kernels.hashing import bucket_of

RANGES = {"uint64": (0, 2**64 - 1), "int64": (-(2**63), 2**63 - 1)}
_ID_TEXT = 40  # no integer id is longer
_WHOLE = re.compile(r"0|-?[1-9]\d*", re.ASCII)


@dataclass(frozen=True)
class NamedIds:
    """Distinct ids in the store's type, those of each bucket together."""

    by_bucket: dict[int, pl.Series]

    @property
    def ids(self) -> pl.Series:
        return pl.concat(self.by_bucket.values())


def parse_id(text: str, id_type: str) -> int | str:
    """The id that `text` is in a store of that id type; UsageError (2) for what cannot be one."""
    if id_type == "string":
        return text
    low, high = RANGES[id_type]
    is_whole = len(text) <= _ID_TEXT and _WHOLE.fullmatch(text) is not None  # "007" may be another person than 7
    if is_whole and low <= int(text) <= high:
        return int(text)
    raise UsageError(
        f"--user-id must be a whole number from {low} to {high}, as the store's ids are {id_type}; "
        f"found a text of {len(text)} characters that is none"
    )


def stored_id(text: str, store: Store, config: Config) -> int | str:
    """The id in `store` of the person whom the sender calls `text`: the pseudonym where the store holds those.

    Raises UsageError (2) for a text that is no id, and what `check_pseudonyms` raises for a key that does not fit.
    """
    pseudonyms = check_pseudonyms(store.manifest, store.path, config)
    text = text.strip().lower() if config.ingest.fold_ids else text.strip()  # as ingest has them
    return parse_id(text, store.id_type) if pseudonyms is None else pseudonyms.of_text(text)


def named_ids(texts: Sequence[str], file: Path | None, store: Store, config: Config) -> NamedIds:
    """The ids of `texts` and of `file`: a table with a user_id column, or text with one id a line.

    Raises UsageError (2) for no id at all or one that is none, InputMissing (66) and BadData (65) for the file.
    """
    if not texts and file is None:
        raise UsageError("no user is named; expected --user-id ID (repeatable) or --from FILE")
    typed = [stored_id(text, store, config) for text in texts]
    ids = pl.Series("user_id", typed, dtype=id_polars(store.id_type))
    if file is not None:
        ids = pl.concat([ids, _from_file(file, store, config)])
    ids = ids.unique(maintain_order=True)
    frame = pl.DataFrame({"user_id": ids, "bucket": bucket_of(hash_ids(ids), store.buckets)})
    parts = frame.sort("bucket", maintain_order=True).partition_by("bucket", maintain_order=True)
    return NamedIds({int(part["bucket"][0]): part["user_id"] for part in parts})


def _from_file(path: Path, store: Store, config: Config) -> pl.Series:
    """Ids of a file in the store's type; BadData (65) for a row that holds none: no erasure is forgotten silently."""
    if path.name.endswith(SUFFIXES):
        ids, bad = read_ids(path, store.id_type, config, check_pseudonyms(store.manifest, store.path, config))
        if bad:
            rows = ids.filter(pl.col("user_id").is_null())["row"].head(5).to_list()
            raise BadData(f"{path} must hold an id of type {store.id_type} in each row; found none in rows {rows} ...")
        return ids["user_id"]
    typed = []
    for number, line in enumerate(_lines(path), 1):
        try:
            typed += [stored_id(line.strip(), store, config)] if line.strip() else []
        except UsageError as error:
            raise BadData(f"{path} line {number}: {str(error).removeprefix('--user-id ')}") from error
    return pl.Series("user_id", typed, dtype=id_polars(store.id_type))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadData(f"{path} is not UTF-8 text (byte {error.start}); write one id a line") from error
    except OSError as error:
        raise InputMissing(f"{path} cannot be read: {error.strerror}; check --from") from error
