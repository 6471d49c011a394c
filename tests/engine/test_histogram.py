import pytest
from hypothesis import given
from hypothesis import strategies as st

from sto_engine.histogram import human, load_histogram

EIGHT = 1_776_672_000_000  # 2026-04-20 08:00Z
BIN, HOUR = 900_000, 3_600_000

loads = st.dictionaries(st.integers(-400, 400).map(lambda i: EIGHT + i * BIN), st.integers(0, 10**7), max_size=40)


def test_a_short_load_is_drawn_by_quarters_of_an_hour() -> None:
    before = {EIGHT: 20_000, EIGHT + BIN: 5_000, EIGHT + 3 * BIN: 10}
    after = {EIGHT: 12_500, EIGHT + BIN: 12_500, EIGHT + 3 * BIN: 10}
    assert load_histogram(before, after, 12_500, 62).splitlines() == [
        "messages in each 15 minutes (UTC)  █ as wished  ░ moved away",
        "▓ moved here  ┊ capacity 12.5k",
        "! a quarter of an hour was over it",
        "04-20 08:00  20.0k! → 12.5k  ████████████████████┊░░░░░░░░░░░",
        "      08:15   5.0k  → 12.5k  ████████▓▓▓▓▓▓▓▓▓▓▓▓┊",
        "      08:30      0  →     0                      ┊",
        "      08:45     10  →    10  ▏                   ┊",
    ]


def test_a_terminal_without_blocks_gets_ascii() -> None:
    text = load_histogram({EIGHT: 200}, {EIGHT: 100, EIGHT + BIN: 100}, 100, 60, blocks=False)
    assert text.isascii()
    assert text.splitlines()[-2:] == [
        "04-20 08:00  200! > 100  #################|................",
        "      08:15    0  > 100  +++++++++++++++++|",
    ]


def test_a_load_that_did_not_move_has_one_count_and_plain_bars() -> None:
    load = {EIGHT: 100, EIGHT + BIN: 50}
    assert load_histogram(load, load, None, 40).splitlines() == [
        "messages in each 15 minutes (UTC)",
        "04-20 08:00  100  " + "█" * 21,
        "      08:15   50  " + "█" * 10,
    ]


def test_a_long_load_is_drawn_by_hours_and_the_date_stands_where_it_changes() -> None:
    load = {EIGHT + i * BIN: 250 for i in range(4 * 17)}
    lines = load_histogram(load, load, None, 60).splitlines()
    assert len(lines) == 18
    assert lines[0] == "messages in each hour (UTC)"
    assert lines[1].startswith("04-20 08:00  1.0k  ██")
    assert lines[2].startswith("      09:00")
    assert lines[17].startswith("04-21 00:00")


def test_two_days_are_drawn_by_two_hours() -> None:
    lines = load_histogram({EIGHT: 1, EIGHT + 49 * HOUR: 1}, {}, None, 60).splitlines()
    assert "each 2 hours" in lines[0]


def test_an_hour_that_fits_tells_of_a_quarter_that_did_not() -> None:
    before = {EIGHT: 300, EIGHT + 10 * HOUR: 100}
    assert "300!" in load_histogram(before, before, 200, 60)
    assert "!" not in load_histogram(before, before, 300, 60)


def test_a_capacity_far_beyond_the_load_is_told_and_not_drawn() -> None:
    text = load_histogram({EIGHT: 100}, {EIGHT: 100}, 1_000_000, 60)
    assert "capacity 1.0M" in text
    assert "┊" not in text


def test_nothing_sent_is_no_histogram() -> None:
    assert load_histogram({}, {}, 5, 80) == ""
    assert load_histogram({EIGHT: 0}, {EIGHT: 0}, None, 80) == ""


@given(loads, loads, st.none() | st.integers(0, 10**7), st.integers(40, 200), st.booleans())
def test_a_histogram_fits_its_width_and_a_screen(
    before: dict[int, int], after: dict[int, int], capacity: int | None, width: int, blocks: bool
) -> None:
    lines = load_histogram(before, after, capacity, width, blocks).splitlines()
    assert all(len(line) <= width for line in lines)
    assert len(lines) <= 41


@pytest.mark.parametrize(
    ("n", "text"),
    [
        *((0, "0"), (999, "999"), (1_000, "1.0k"), (12_345, "12.3k"), (99_949, "99.9k"), (99_950, "100k")),
        *((999_499, "999k"), (999_500, "1.0M"), (12_345_678, "12.3M"), (5_000_000_000, "5.0G")),
    ],
)
def test_counts_are_short(n: int, text: str) -> None:
    assert human(n) == text
