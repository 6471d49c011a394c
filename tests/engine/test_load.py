import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from sto_engine.output.load import COLUMNS, load_csv, peaks, totals

EIGHT = 1_776_672_000_000  # 2026-04-20 08:00Z
NINE = EIGHT + 3_600_000
BEFORE = {(NINE, "yahoo"): 900, (EIGHT, "yahoo"): 100, (EIGHT, "gmail"): 9_000}
AFTER = {(EIGHT, "gmail"): 4_500, (EIGHT + 900_000, "gmail"): 4_500, (EIGHT, "yahoo"): 100, (NINE, "yahoo"): 900}
LIMITS = {(EIGHT, "total"): 5_000, (EIGHT, "gmail"): 4_500, (NINE, "total"): 5_000, (NINE + 900_000, "total"): 5_000}

Counts = dict[tuple[int, str], int]
loads = st.dictionaries(
    st.tuples(st.integers(0, 3).map(lambda i: EIGHT + i * 900_000), st.text(max_size=4)), st.integers(0, 9)
)


def test_the_report_has_the_total_first_and_the_providers_of_each_bin_after_it() -> None:
    assert load_csv(BEFORE, AFTER, LIMITS).decode() == (
        "bin_utc,provider,before,after,capacity\n"
        "2026-04-20T08:00:00Z,total,9100,4600,5000\n"
        "2026-04-20T08:00:00Z,gmail,9000,4500,4500\n"
        "2026-04-20T08:00:00Z,yahoo,100,100,\n"
        "2026-04-20T08:15:00Z,total,0,4500,\n"
        "2026-04-20T08:15:00Z,gmail,0,4500,\n"
        "2026-04-20T09:00:00Z,total,900,900,5000\n"
        "2026-04-20T09:00:00Z,yahoo,900,900,\n"
    )


def test_without_limits_the_capacity_is_empty() -> None:
    assert load_csv({(EIGHT, "gmail"): 1}, {}).decode().splitlines()[1] == "2026-04-20T08:00:00Z,total,1,0,"


def test_without_mail_only_the_header_is_left() -> None:
    assert load_csv({}, {(EIGHT, "gmail"): 0}, LIMITS).decode() == ",".join(COLUMNS) + "\n"


@given(loads, loads)
def test_names_survive_the_report_and_the_counts_add_up(before: Counts, after: Counts) -> None:
    rows = list(csv.reader(io.StringIO(load_csv(before, after).decode(), newline="")))[1:]
    for side, load in ((2, before), (3, after)):
        named = sorted((row[1], int(row[side])) for row in rows if row[1] != "total")
        assert [pair for pair in named if pair[1]] == sorted((key[1], n) for key, n in load.items() if n)
        assert sum(int(row[side]) for row in rows if row[1] == "total") == sum(load.values())


@given(loads)
def test_the_order_in_which_buckets_are_counted_does_not_matter(load: Counts) -> None:
    turned = dict(reversed(load.items()))
    assert load_csv(load, turned) == load_csv(turned, load)
    assert list(totals(load)) == list(totals(turned))


def test_peaks_are_rates_a_second_of_the_fullest_bin() -> None:
    assert peaks(BEFORE, AFTER) == {
        "total": {"before": 10.111, "after": 5.111},
        "gmail": {"before": 10.0, "after": 5.0},
        "yahoo": {"before": 1.0, "after": 1.0},
    }
    assert peaks({}, {}) == {"total": {"before": 0.0, "after": 0.0}}
