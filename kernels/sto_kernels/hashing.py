"""The fixed hashes: who is in which bucket, sample and arm. Changing a bit here moves every user of every store.

    h(user)          = splitmix64(the 64 id bits), or XXH64(UTF-8 bytes, seed 0) of a string id
    derive(h, tag, n) = splitmix64(h ^ splitmix64(XXH64(tag) + n * GOLDEN))
    bucket(h, K)     = the top log2(K) bits of h

splitmix64 is the output function of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014):
the state advanced once by the golden gamma, then mixed. Test vectors stand in tests/kernels/test_hashing.py.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

HASH_NAME = "splitmix64+xxh64"
HASH_VERSION = 1

U64 = NDArray[np.uint64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def splitmix64(x: Any) -> U64:
    """One splitmix64 step of each element of `x` (anything castable to uint64) -> uint64, same shape."""
    with np.errstate(over="ignore"):
        z = np.asarray(x, dtype=np.uint64) + GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
        return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def hash_integers(ids_U: NDArray[np.uint64] | NDArray[np.int64]) -> U64:
    """h of integer ids, uint64 or int64 [U] (a negative id hashes by its two's complement bits) -> uint64 [U]."""
    return splitmix64(np.ascontiguousarray(ids_U).view(np.uint64))


def hash_strings(ids: Iterable[str]) -> U64:
    """h of string ids: XXH64 with seed 0 of the UTF-8 bytes -> uint64 [U]."""
    digest = xxhash.xxh64_intdigest
    return np.fromiter((digest(text.encode()) for text in ids), dtype=np.uint64)


def tag_key(tag: str, n: int = 0) -> U64:
    """The key of a named stream of hashes, the scalar that `derive` xors into h."""
    with np.errstate(over="ignore"):
        return splitmix64(np.uint64(xxhash.xxh64_intdigest(tag.encode())) + np.uint64(n) * GOLDEN)


def derive(h_U: Any, tag: str, n: int = 0) -> U64:
    """An independent hash of the same users: `tag` names the use (sample, experiment, run), `n` counts within it."""
    return splitmix64(np.asarray(h_U, dtype=np.uint64) ^ tag_key(tag, n))


def unit_interval(h_U: U64) -> NDArray[np.float64]:
    """The top 53 bits of a hash as a float64 in [0, 1)."""
    return np.asarray((h_U >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def bucket_of(h_U: U64, buckets: int) -> NDArray[np.int32]:
    """Bucket of each hash -> int32 [U]; `buckets` is a power of two in 1..8192."""
    if buckets < 1 or buckets > 8192 or buckets & (buckets - 1):
        raise ValueError(f"buckets must be a power of two in 1..8192; found {buckets}")
    return parts_of(h_U, buckets).astype(np.int32)


def parts_of(h_U: U64, parts: int) -> NDArray[np.int64]:
    """Part of each hash by its top bits -> int64 [U]; `parts` is a power of two, of buckets or of finer ranges."""
    if parts == 1:
        return np.zeros(h_U.shape, np.int64)
    return (h_U >> np.uint64(65 - parts.bit_length())).astype(np.int64)
