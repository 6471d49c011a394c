import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sto_kernels import naive
from sto_kernels.hashing import tag_key
from sto_kernels.spread import spread_offsets_ms

KEYS = st.integers(0, 2**64 - 1)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=50), KEYS, KEYS, st.integers(1, 2**31))
def test_offsets_equal_the_integer_formula(ranks: list[int], provider: int, run: int, window: int) -> None:
    rank_U = np.array(ranks, np.uint64)
    provider_U = np.full(len(ranks), provider, np.uint64)
    found = spread_offsets_ms(rank_U, provider_U, np.uint64(run), window)
    assert found.tolist() == [naive.spread_offset_ms(r, provider, run, window) for r in ranks]
    assert ((found >= 0) & (found < window)).all()


@pytest.mark.parametrize("run", ["a", "b", "c"])
def test_the_peak_second_of_200k_sends_in_15_minutes_is_near_the_mean(run: str) -> None:
    counts = np.zeros(900, np.int64)
    for provider, size in (("gmail", 90_000), ("microsoft", 60_000), ("yahoo", 30_000), ("other", 20_000)):
        keys = np.full(size, tag_key(provider), np.uint64)
        offsets = spread_offsets_ms(np.arange(size, dtype=np.uint64), keys, tag_key(run), 900_000)
        own = np.bincount(offsets // 1000, minlength=900)
        assert own.max() / (size / 900) <= 1.15
        counts += own
    assert counts.max() / (200_000 / 900) <= 1.05


@pytest.mark.parametrize("window", [0, -1, 2**31 + 1])
def test_windows_out_of_range_are_refused(window: int) -> None:
    with pytest.raises(ValueError, match="window_ms"):
        spread_offsets_ms(np.zeros(1, np.uint64), np.zeros(1, np.uint64), np.uint64(0), window)
