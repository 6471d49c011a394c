"""Keyed pseudonyms: the ids of a store made from the sender's ids and a secret that the store does not hold.

    pseudonym = BLAKE2b(text of the id in UTF-8, key = bytes of the key file, digest of 8 or 16 bytes)

The text of an integer is its decimal digits, that of a text is itself without spaces around it: 42 in Parquet and "42"
in CSV are one person. 8 bytes, read little-endian, are a uint64 id; 16 bytes are 32 hex digits. Among n users two share
a pseudonym of 64 bits with a chance of n^2 / 2^65: 2.7 % for a billion, and then of one pair; with 128 bits never.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sto_engine.config import Config
from sto_engine.errors import BadData, ConfigError, InputMissing

MIN_BYTES, MAX_BYTES = 32, hashlib.blake2b.MAX_KEY_SIZE
_TAG = b"sto-engine: fingerprint of a pseudonym key"


@dataclass(frozen=True)
class Pseudonyms:
    """A key, which no message and no repr shows, and how long its pseudonyms are."""

    key: bytes = field(repr=False)
    bits: int

    @property
    def id_type(self) -> str:
        return "uint64" if self.bits == 64 else "string"

    def of(self, ids: pl.Series, where: str) -> pl.Series:
        """Pseudonyms of raw ids (integers or text) in the store's type, each distinct id hashed once; nulls stay.

        Raises BadData (65) for ids of another type; `where` is "file: column", for the message.
        """
        if isinstance(ids.dtype, pl.Categorical | pl.Enum | pl.Null):
            ids = ids.cast(pl.String)
        if ids.dtype != pl.String and not ids.dtype.is_integer():
            raise BadData(f"{where} must be an integer or text; found {ids.dtype}; never export ids as floats")
        texts = ids.cast(pl.String).str.strip_chars().replace("", None)
        names = texts.drop_nulls().unique()
        kind = pl.UInt64 if self.bits == 64 else pl.String
        return texts.replace_strict(names, self._hashed(names), default=None, return_dtype=kind).alias(ids.name)

    def of_text(self, text: str) -> int | str:
        """The pseudonym of one id, as people type it."""
        found: int | str = self._hashed(pl.Series([text.strip()], dtype=pl.String))[0]
        return found

    def _hashed(self, names: pl.Series) -> pl.Series:
        keyed = hashlib.blake2b(key=self.key, digest_size=self.bits // 8)
        digests = []
        for name in names.to_list():
            one = keyed.copy()
            one.update(name.encode())
            digests.append(one.digest())
        if self.bits == 64:
            return pl.Series(np.frombuffer(b"".join(digests), "<u8"), dtype=pl.UInt64)
        return pl.Series([digest.hex() for digest in digests], dtype=pl.String)

    def record(self) -> dict[str, Any]:
        """What the store's manifest keeps: enough to know the key again, useless to find it."""
        tag = hashlib.blake2b(_TAG, key=self.key).digest()
        return {"bits": self.bits, "key_fingerprint": hashlib.sha256(tag).hexdigest()}


def load_pseudonyms(config: Config) -> Pseudonyms | None:
    """The key that the configuration names; None where it names none.

    Raises InputMissing (66) for a file that cannot be read, ConfigError (78) for one that is no key.
    """
    path = config.ingest.pseudonym_key_file
    return None if path is None else _load(path, config.ingest.pseudonym_bits)


@functools.lru_cache(maxsize=8)
def _load(path: Path, bits: int) -> Pseudonyms:
    try:
        key = path.read_bytes()
    except OSError as error:
        raise InputMissing(
            f"key {path} cannot be read: {error.strerror}; check ingest.pseudonym_key_file; a lost key is lost for good"
        ) from error
    if not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise ConfigError(
            f"ingest.pseudonym_key_file must hold {MIN_BYTES} to {MAX_BYTES} random bytes; found {len(key)} in {path}; "
            f"make one with: head -c {MIN_BYTES} /dev/urandom > {path}"
        )
    return Pseudonyms(key, bits)


def check_pseudonyms(manifest: Mapping[str, Any], root: Path, config: Config) -> Pseudonyms | None:
    """The key of the configuration, held to what the store at `root` was made with; None for a store of plain ids.

    Raises ConfigError (78) where the store needs a key and none is named, or the key lies in the store; BadData (65)
    for another key, another length, or a key for a store of plain ids.
    """
    own, kept = load_pseudonyms(config), manifest.get("pseudonyms")
    if own is None and kept is None:
        return None
    if own is None:
        raise ConfigError(f"store {root} holds pseudonyms; found no key; name it in ingest.pseudonym_key_file")
    path = config.ingest.pseudonym_key_file
    if path is not None and path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"ingest.pseudonym_key_file must lie outside of the store; found {path}; move it")
    if config.ingest.id_type not in (None, own.id_type):
        raise ConfigError(
            f"ingest.id_type must be {own.id_type} or absent, as ingest.pseudonym_bits = {own.bits}; "
            f"found {config.ingest.id_type}"
        )
    if kept is None and "id_type" in manifest:
        raise BadData(f"store {root} holds plain ids; found ingest.pseudonym_key_file = {path}; ingest anew elsewhere")
    if kept is not None and kept["bits"] != own.bits:
        raise BadData(f"ingest.pseudonym_bits must be {kept['bits']}, as {root} was made; found {own.bits}")
    if kept is not None and kept != own.record():
        raise BadData(f"ingest.pseudonym_key_file must be the key that {root} was made with; found another in {path}")
    return own
