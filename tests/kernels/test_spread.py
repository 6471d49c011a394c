"""The spread of sends over their windows: against integers without a limit, and how even it is, counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sto_kernels import naive
from sto_kernels.hashing import tag_key
from sto_kernels.spread import bin_counts, spread_offsets_ms

KEYS = st.integers(0, 2**64 - 1)
MINUTE, QUARTER = 60_000, 900_000
# gmail has 45 %, the smallest of twenty 0.6 %
SHARES = np.array([0.45, 0.18, 0.09, *np.linspace(0.03, 0.006, 17)])
Ints = NDArray[np.int64]


def provider_counts(total: int) -> Ints:
    n_P = np.floor(SHARES / SHARES.sum() * total).astype(np.int64)
    n_P[0] += total - n_P.sum()
    return n_P


def laid_out(n_P: Ints, window: int, bins: int, run: str, start: int = 0, avoid: int = 0) -> tuple[Ints, Ints]:
    """Provider and offset of every send of one start, rank by rank."""
    provider = np.repeat(np.arange(len(n_P)), n_P)
    rank = np.concatenate([np.arange(n, dtype=np.uint64) for n in n_P] or [np.zeros(0, np.uint64)])
    keys = np.array([tag_key(f"provider:{p}") for p in range(len(n_P))], np.uint64)[provider]
    first = (np.cumsum(n_P) - n_P)[provider]
    starts = np.full(len(rank), start)
    return provider, spread_offsets_ms(rank, keys, np.uint64(tag_key(run)), window, bins, first, starts, avoid)


def peak(offsets: Ints, window: int, cell_s: int) -> float:
    """Fullest cell over the mean."""
    n = np.bincount(offsets // (cell_s * 1000), minlength=window // (cell_s * 1000))
    return float(n.max() / n.mean())


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=50), KEYS, KEYS, st.integers(1, 2**31))
def test_offsets_equal_the_integer_formula(ranks: list[int], provider: int, run: int, window: int) -> None:
    rank_U = np.array(ranks, np.uint64)
    provider_U = np.full(len(ranks), provider, np.uint64)
    found = spread_offsets_ms(rank_U, provider_U, np.uint64(run), window)
    assert found.tolist() == [naive.spread_offset_ms(r, provider, run, window) for r in ranks]
    assert ((found >= 0) & (found < window)).all()


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 500), KEYS, st.integers(-200, 200)), max_size=20),
    KEYS,
    st.integers(1, 5),
    st.integers(15, 100),
    st.integers(0, 14),
)
def test_offsets_in_bins_and_around_avoided_minutes_equal_the_plain_walk(
    sends: list[tuple[int, int, int, int]], run: int, bins: int, bin_minutes: int, avoid: int
) -> None:
    window = bins * bin_minutes * MINUTE
    rank, first, keys, quarter = (np.array([send[i] for send in sends], object) for i in range(4))
    starts = (quarter * QUARTER).astype(np.int64)
    found = spread_offsets_ms(
        *(rank.astype(np.uint64), keys.astype(np.uint64), np.uint64(run), window, bins),
        *(first.astype(np.int64), starts, avoid * MINUTE),
    )
    expected = [
        naive.spread_offset_ms(r, key, run, window, bins, f, q * QUARTER, avoid * MINUTE) for r, f, key, q in sends
    ]
    assert found.tolist() == expected
    assert ((starts + found) % (30 * MINUTE) >= avoid * MINUTE).all()


@given(st.lists(st.integers(0, 90), max_size=7), st.integers(1, 9))
def test_bins_get_the_same_number_of_sends_of_a_start_and_of_each_of_its_providers(sizes: list[int], bins: int) -> None:
    n_P = np.array(sizes, np.int64)
    provider, offsets = laid_out(n_P, bins * QUARTER, bins, "run")
    counts = np.zeros((len(n_P), bins), np.int64)
    np.add.at(counts, (provider, offsets // QUARTER), 1)
    assert np.array_equal(counts, bin_counts(n_P, bins))
    for row, n in zip([*counts, counts.sum(axis=0)], [*sizes, sum(sizes)], strict=True):
        assert sorted(row) == sorted(n // bins + (turn < n % bins) for turn in range(bins))


def test_counts_of_many_starts_are_those_of_each() -> None:
    n_JP = np.random.default_rng(0).integers(0, 50, (6, 4))
    assert np.array_equal(bin_counts(n_JP, 4), np.stack([bin_counts(n_P, 4) for n_P in n_JP]))
    assert bin_counts(n_JP, 1).tolist() == n_JP[..., None].tolist()


def test_one_bin_is_the_whole_window_whatever_was_sent_before() -> None:
    rank, keys = np.arange(1000, dtype=np.uint64), np.full(1000, tag_key("a"), np.uint64)
    plain = spread_offsets_ms(rank, keys, np.uint64(7), QUARTER)
    first, starts = np.full(1000, 123), np.full(1000, 45 * MINUTE)
    assert np.array_equal(spread_offsets_ms(rank, keys, np.uint64(7), QUARTER, 1, first, starts, 0), plain)


@pytest.mark.parametrize("run", ["a", "b", "c"])
@pytest.mark.parametrize(("total", "bins"), [(200_000, 1), (800_000, 4)])
def test_the_peak_second_ten_seconds_and_minute_are_near_the_mean(run: str, total: int, bins: int) -> None:
    """222 sends a second, of which gmail has 100."""
    provider, offsets = laid_out(provider_counts(total), bins * QUARTER, bins, run)
    for cell_s in (1, 10, 60):
        assert peak(offsets, bins * QUARTER, cell_s) <= 1.05
        assert peak(offsets[provider == 0], bins * QUARTER, cell_s) <= 1.05


def test_an_hour_with_56_sends_a_second_is_uneven_by_a_handful_of_sends_only() -> None:
    for bins in (1, 4):
        _, offsets = laid_out(provider_counts(200_000), 4 * QUARTER, bins, "a")
        n_second = np.bincount(offsets // 1000, minlength=3600)
        assert np.abs(n_second - n_second.mean()).max() < 9
        assert peak(offsets, 4 * QUARTER, 10) <= 1.03
        assert peak(offsets, 4 * QUARTER, 60) <= 1.01


@pytest.mark.parametrize("start", [0, QUARTER])
@pytest.mark.parametrize("avoid", [1, 5, 14])
def test_what_is_left_of_a_window_is_used_as_evenly(start: int, avoid: int) -> None:
    window, usable = 2 * QUARTER, 2 * QUARTER - avoid * MINUTE
    _, offsets = laid_out(provider_counts(400_000), window, 1, "a", start, avoid * MINUTE)
    n_second = np.bincount(offsets // 1000, minlength=window // 1000)
    free = (start // 1000 + np.arange(window // 1000)) % 1800 >= avoid * 60
    assert n_second[~free].sum() == 0
    assert free.sum() == usable // 1000
    assert n_second[free].max() / (400_000 / free.sum()) <= 1.05
    assert n_second[free].min() / (400_000 / free.sum()) >= 0.95


def test_every_quarter_hour_is_even_over_its_usable_minutes() -> None:
    _, offsets = laid_out(provider_counts(400_000), 2 * QUARTER, 2, "b", 0, 5 * MINUTE)
    for begin_s, end_s in ((300, 900), (900, 1800)):
        n_second = np.bincount(offsets // 1000, minlength=1800)[begin_s:end_s]
        assert n_second.sum() == 200_000
        assert n_second.max() / n_second.mean() <= 1.05


@pytest.mark.parametrize("window", [0, -1, 2**31 + 1])
def test_windows_out_of_range_are_refused(window: int) -> None:
    with pytest.raises(ValueError, match="window_ms"):
        spread_offsets_ms(np.zeros(1, np.uint64), np.zeros(1, np.uint64), np.uint64(0), window)


@pytest.mark.parametrize(
    ("window", "bins", "starts", "avoid", "text"),
    [
        (QUARTER, 7, None, 0, "multiple of its bins"),
        (QUARTER, 0, None, 0, "multiple of its bins"),
        (QUARTER, 1, None, MINUTE, "needs start_ms_U"),
        (5 * MINUTE, 1, np.zeros(1, np.int64), 5 * MINUTE, "leave nothing"),
    ],
)
def test_windows_that_cannot_be_filled_are_refused(
    window: int, bins: int, starts: Ints | None, avoid: int, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        spread_offsets_ms(
            np.zeros(1, np.uint64), np.zeros(1, np.uint64), np.uint64(0), window, bins, None, starts, avoid
        )
