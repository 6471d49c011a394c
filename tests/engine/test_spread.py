"""Ranks and times of sends over all buckets, against a loop that counts; how long spread windows are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sto_engine.assign.spread import Ranking, Ranks, SpreadKey, SpreadPlan, plan_spread, send_times
from sto_engine.assign.spread_window import window_minutes
from sto_engine.config import Spread
from sto_engine.errors import ConfigError
from sto_kernels import naive
from sto_kernels.hashing import tag_key

QUARTER, MINUTE = 900_000, 60_000
NINE = int(datetime(2026, 4, 20, 9, tzinfo=UTC).timestamp() * 1000)
SENDS = st.lists(st.tuples(st.integers(-2, 3), st.sampled_from(["b", "a", "c"])), max_size=40)


def planned(
    counts: Sequence[Mapping[SpreadKey, int]], minutes: int, bins: int = 1, avoid: int = 0
) -> tuple[SpreadPlan, list[Ranks]]:
    """The plan of all buckets, and the ranks of each."""
    total: Counter[SpreadKey] = Counter()
    for bucket in counts:
        total.update(bucket)
    plan = plan_spread(total, minutes, bins, avoid)
    ranking = Ranking(plan, counts.__getitem__)
    return plan, [ranking.of(bucket) for bucket in range(len(counts))]


def times_of(
    sends: list[tuple[int, str]],
    cuts: list[int],
    minutes: int = 15,
    bins: int = 1,
    avoid: int = 0,
    turned: bool = False,
) -> list[int]:
    """Times of all sends in order, cut into buckets, each bucket with its own list of providers."""
    parts = [sends[a:b] for a, b in zip([0, *cuts], [*cuts, len(sends)], strict=True)]
    counts = [Counter((start * QUARTER, name) for start, name in part) for part in parts]
    plan, ranks = planned(counts, minutes, bins, avoid)
    found: dict[int, list[int]] = {}
    for bucket in reversed(range(len(parts))) if turned else range(len(parts)):
        part = parts[bucket]
        names = [*dict.fromkeys(name for _, name in part), "nobody"]
        starts = np.array([start * QUARTER for start, _ in part], np.int64)
        provider = np.array([names.index(name) for _, name in part], np.uint32)
        found[bucket] = send_times(plan, ranks[bucket], starts, provider, names, "run").tolist()
    return [time for bucket in range(len(parts)) for time in found[bucket]]


def expected_times(sends: list[tuple[int, str]], minutes: int, bins: int, avoid: int) -> list[int]:
    total, seen, times = Counter(sends), Counter[tuple[int, str]](), []
    for start, name in sends:
        turn = sum(n for (other, before), n in total.items() if other == start and before < name)
        keys = int(tag_key(f"provider:{name}")), int(tag_key("run:run"))
        offset = naive.spread_offset_ms(
            seen[start, name], *keys, minutes * MINUTE, bins, turn, start * QUARTER, avoid * MINUTE
        )
        times.append(start * QUARTER + offset)
        seen[start, name] += 1
    return times


@given(
    SENDS, st.lists(st.integers(0, 40), max_size=5), st.sampled_from([(15, 1), (60, 4), (50, 1)]), st.integers(0, 14)
)
def test_times_are_those_of_one_walk_over_all_sends_however_they_lie_in_buckets(
    sends: list[tuple[int, str]], cuts: list[int], window: tuple[int, int], avoid: int
) -> None:
    cuts = sorted(min(cut, len(sends)) for cut in cuts)
    expected = expected_times(sends, *window, avoid)
    assert times_of(sends, cuts, *window, avoid) == expected
    assert times_of(sends, [], *window, avoid) == expected
    assert times_of(sends, cuts, *window, avoid, turned=True) == expected


def test_each_quarter_hour_gets_its_share_of_a_start_and_of_its_providers() -> None:
    rng = np.random.default_rng(0)
    sends = [
        (int(start), name)
        for start, name in zip(rng.integers(0, 2, 999), rng.choice(["x", "y", "z"], 999), strict=True)
    ]
    times = np.array(times_of(sends, [300, 301, 600], 45, 3))
    frame = pl.DataFrame(sends, schema=["start", "name"], orient="row").with_columns(
        bin=pl.Series(times // QUARTER) - pl.col("start")
    )
    assert sorted(frame["bin"].unique()) == [0, 1, 2]
    for keys in (["start"], ["start", "name"]):
        n = frame.group_by([*keys, "bin"]).len().group_by(keys).agg(least=pl.col("len").min(), most=pl.col("len").max())
        assert (n["most"] - n["least"]).max() <= 1  # type: ignore[operator]


def test_buckets_share_one_count_of_each_key() -> None:
    counts: list[dict[SpreadKey, int]] = [{(0, "a"): 2, (0, "b"): 1}, {}, {(0, "a"): 3}, {(0, "a"): 1, (1, "a"): 1}]
    plan, ranks = planned(counts, 15)
    # keys: (0, a), (0, b), (1, a), (1, b)
    expected = [[0, 0, -1, -1], [-1, -1, -1, -1], [2, -1, -1, -1], [5, -1, 0, -1]]
    assert [own.first_rank_K(4).tolist() for own in ranks] == expected
    # a run that goes on asks for the buckets that are left
    ranking = Ranking(plan, counts.__getitem__)
    assert [ranking.of(bucket).first_rank_K(4).tolist() for bucket in (2, 3)] == expected[2:]
    with pytest.raises(AssertionError, match="passed"):
        ranking.of(2)
    assert plan.first_turn_K.tolist() == [0, 6, 0, 1]


def test_a_run_without_sends_has_no_times() -> None:
    plan, ranks = planned([{}, {}], 15)
    assert send_times(plan, ranks[1], np.zeros(0, np.int64), np.zeros(0, np.uint32), [], "run").tolist() == []


def test_a_send_that_was_not_counted_is_no_send() -> None:
    plan, ranks = planned([{(0, "a"): 1, (QUARTER, "b"): 1}], 15)
    for start, name in ((0, "c"), (0, "b"), (1, "a"), (2 * QUARTER, "a")):
        with pytest.raises(AssertionError, match="not counted"):
            send_times(plan, ranks[0], np.array([start]), np.zeros(1, np.uint32), [name], "run")


@pytest.mark.parametrize(
    ("n", "rate", "minutes"),
    [
        (1, 1000, 15),
        (1000, 1000, 15),
        (1001, 1000, 30),
        (2733, 1000, 45),
        (4000, 1000, 60),
        (9999, 1000, 60),
        (1, 0, 60),
    ],
)
def test_a_window_is_as_long_as_its_rate_asks_for_within_the_limits(n: int, rate: int, minutes: int) -> None:
    assert window_minutes({(NINE, "gmail"): n}, {"gmail": rate}, Spread(), 60)[0] == minutes
    assert window_minutes({(NINE, None): n}, {None: rate}, Spread(), 60)[0] == minutes
    assert window_minutes({(NINE, "gmail"): n}, {"yahoo": rate, None: rate}, Spread(), 60) == (15, None)


def test_the_sentence_names_who_made_the_window_longer() -> None:
    need: dict[tuple[int, str | None], int] = {(NINE, "gmail"): 2700, (NINE, None): 3000, (NINE + QUARTER, "gmail"): 5}
    assert window_minutes(need, {"gmail": 1000}, Spread(), 60) == (
        45,
        "spread window widened from 15 to 45 minutes: gmail 2026-04-20 09:00Z needs 41 minutes at its rate",
    )
    minutes, why = window_minutes(need, {"gmail": 1000, None: 700}, Spread(max_minutes=50), 60)
    assert minutes == 45
    assert why == (
        "spread window widened from 15 to 45 minutes: all providers together 2026-04-20 09:00Z needs more than 45 "
        "minutes at its rate, the longest allowed"
    )


@pytest.mark.parametrize(
    ("spread", "slot", "minutes"),
    [
        (Spread(), 60, 15),
        (Spread(min_minutes=50), 60, 50),
        (Spread(min_minutes=60), 30, 30),
        (Spread(max_minutes=20), 60, 15),
    ],
)
def test_without_rates_a_window_is_the_shortest(spread: Spread, slot: int, minutes: int) -> None:
    assert window_minutes({(NINE, "gmail"): 10**9}, {}, spread, slot) == (minutes, None)


@pytest.mark.parametrize(("least", "minutes"), [(1, 15), (15, 15), (16, 30), (50, 60)])
def test_under_capacity_windows_are_whole_quarter_hours(least: int, minutes: int) -> None:
    assert window_minutes({}, {None: 1}, Spread(min_minutes=least), 60) == (minutes, None)


@pytest.mark.parametrize(
    ("spread", "rates", "text"),
    [
        (Spread(max_minutes=90), {}, r"spread.max_minutes must be at most the length of a slot, 60 minutes; found 90"),
        (Spread(min_minutes=30, max_minutes=20), {}, "found 30 and 20"),
        (Spread(min_minutes=20, max_minutes=29), {"gmail": 5}, "whole quarter-hours.*found 20 and 29"),
        (Spread(min_minutes=1, max_minutes=14), {"gmail": 5}, "whole quarter-hours.*found 1 and 14"),
        (Spread(min_minutes=10, avoid_minutes=10), {}, "spread.avoid_minutes .* found 10 and a window of 10 minutes"),
    ],
)
def test_limits_that_leave_no_window_are_refused(spread: Spread, rates: dict[str | None, int], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        window_minutes({(NINE, "gmail"): 1}, rates, spread, 60)
    assert caught.value.exit_code == 78
