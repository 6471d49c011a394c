import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sto_kernels.hashing import bucket_of, derive, hash_integers, hash_strings, splitmix64, unit_interval


def test_splitmix64_gives_the_published_sequence_of_seed_1234567() -> None:
    golden, state, out = 0x9E3779B97F4A7C15, 1234567, []
    for _ in range(5):
        out.append(int(splitmix64(np.uint64(state))))
        state = (state + golden) % 2**64
    assert out == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_strings_hash_by_xxh64_of_their_utf8_bytes() -> None:
    assert [hex(int(h)) for h in hash_strings(["", "a", "abc", "ü@x"])][:3] == [
        "0xef46db3751d8e999",
        "0xd24ec4f1a98c6e5b",
        "0x44bc2cf5ad770999",
    ]


def test_integer_ids_hash_by_their_64_bits() -> None:
    signed, unsigned = np.array([-1, 5], np.int64), np.array([2**64 - 1, 5], np.uint64)
    np.testing.assert_array_equal(hash_integers(signed), hash_integers(unsigned))


def test_derived_hashes_are_fixed_forever() -> None:
    h = hash_integers(np.array([0, 1, 42], np.uint64))
    assert [hex(int(x)) for x in h] == ["0xe220a8397b1dcdaf", "0x910a2dec89025cc1", "0xbdd732262feb6e95"]
    assert [hex(int(x)) for x in derive(h, "experiment:default")] == DERIVED
    assert (derive(h, "experiment:default") != derive(h, "experiment:default", 1)).all()


DERIVED = ["0x20ff3beb4c72e86d", "0x8bc9a2e47b5e8d9a", "0x1edbcf0bd860669b"]


@pytest.mark.parametrize("buckets", [1, 2, 64, 8192])
def test_buckets_cut_the_order_of_h(buckets: int) -> None:
    h = np.sort(hash_integers(np.arange(5000, dtype=np.uint64)))
    bucket = bucket_of(h, buckets)
    assert (np.diff(bucket) >= 0).all()
    assert 0 <= bucket.min() <= bucket.max() < buckets
    np.testing.assert_array_equal(bucket, [int(x) * buckets >> 64 for x in h])


@pytest.mark.parametrize("buckets", [0, 3, 16384, -4])
def test_bucket_counts_are_powers_of_two(buckets: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        bucket_of(np.zeros(1, np.uint64), buckets)


@given(st.integers(0, 2**64 - 1))
def test_unit_interval_is_half_open(h: int) -> None:
    assert 0 <= unit_interval(np.array([h], np.uint64))[0] < 1
