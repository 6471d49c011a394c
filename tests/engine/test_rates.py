from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sto_engine.config import Warmup, load_config
from sto_engine.errors import ConfigError
from sto_engine.rates import MAX_COUNT, Per, Rate, bin_capacity, day_budget, parse_rate, parse_rates

FIRST = date(2026, 4, 20)
RAMP = Warmup(first_day=FIRST, per_day=(1_000, 5_000, 20_000))


@pytest.mark.parametrize(
    ("text", "count", "per"),
    [
        ("100/s", 100, "s"),
        ("6000/min", 6_000, "min"),
        ("500000/h", 500_000, "h"),
        ("500k/h", 500_000, "h"),
        ("500 K / hr", 500_000, "h"),
        ("1.5M/day", 1_500_000, "day"),
        ("1.5m/d", 1_500_000, "day"),
        ("1_000_000/day", 1_000_000, "day"),
        (" 0.5/sec ", Fraction(1, 2), "s"),
        ("2/Second", 2, "s"),
        ("2/minute", 2, "min"),
        ("2/hour", 2, "h"),
    ],
)
def test_a_rate_is_read_as_the_field_writes_it(text: str, count: Fraction, per: Per) -> None:
    assert parse_rate(text) == Rate(Fraction(count), per)


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "100", "/s", "100/", "100s", "100 per s", "1,000/s", "1 000/s", "100/15min", "100/s/s", "100/week"),
        *("0/s", "0.0/day", "-5/s", "+5/s", "nan/s", "inf/s", "1e3/s", "1/0/s", "1.5.2/s", "_1/s", "٣/s", "100/s\x00"),
        *("2000000000000/s", "9999999M/s", "9" * 10_000 + "/s"),
    ],
)
def test_what_is_no_rate_is_refused_with_the_forms_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r'as in "100/s", "6000/min", "500k/h" or "1.5M/day"; found'):
        parse_rate(text)


def test_a_lone_m_is_neither_a_minute_nor_a_month() -> None:
    with pytest.raises(ValueError, match="m may be a minute or a month: write min"):
        parse_rate("100/m")


@given(st.integers(1, MAX_COUNT // 10**6), st.sampled_from(["", "k", "M"]), st.sampled_from(["s", "min", "h", "day"]))
def test_a_rate_that_is_written_is_read_back(number: int, times: str, per: Per) -> None:
    scale = {"": 1, "k": 1_000, "M": 1_000_000}[times]
    assert parse_rate(f"{number:_}{times}/{per}") == Rate(Fraction(number * scale), per)


@pytest.mark.parametrize(
    ("rates", "capacity"),
    [
        ("100/s", 90_000),
        ("6000/min", 90_000),
        ("360000/h", 90_000),
        ("0.29/s", 261),  # 0.29 * 900 is 260.99999999999994 in floats
        ("0.0012/s", 1),
        (("100/s", "1000/min"), 15_000),
        (("100/s", "5/day"), 90_000),
        ("5/day", None),
        (None, None),
    ],
)
def test_a_bin_takes_what_the_least_rate_allows_in_fifteen_minutes(rates: str | None, capacity: int | None) -> None:
    assert bin_capacity(parse_rates(rates)) == capacity


def test_a_longer_bin_takes_more() -> None:
    assert bin_capacity(parse_rates("100/s"), minutes=60) == 360_000


def test_a_day_takes_what_the_least_rate_per_day_and_the_warm_up_allow() -> None:
    rates = parse_rates(("10k/day", "1M/day", "100/s"))
    assert [day_budget(rates, RAMP, FIRST + timedelta(days)) for days in range(4)] == [1_000, 5_000, 10_000, 10_000]


def test_a_warm_up_holds_before_its_first_day_and_ends_with_its_list() -> None:
    days = (FIRST - timedelta(30), FIRST, FIRST + timedelta(2), FIRST + timedelta(3))
    assert [day_budget((), RAMP, day) for day in days] == [1_000, 1_000, 20_000, None]


def test_rates_a_second_leave_the_day_without_a_budget() -> None:
    assert day_budget(parse_rates("100/s"), None, FIRST) is None


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("capacity.total=100/m", r"capacity\.total: .*write min.*found '100/m'"),
        ("capacity.total=100", r"capacity\.total: .*expected a rate such as .*found 100"),
        ("capacity.total=true", r"capacity\.total: .*expected a rate"),
        ("capacity.total=[]", r"capacity\.total: .*list of at least one; found \[\]"),
        ('capacity.total=["1/s", 5]', r"capacity\.total: .*expected a rate"),
        ("capacity.providers.gmail=0/s", r'capacity\.providers\.gmail: .*over 0.*"500k/h".*found "0/s"'),
        ('capacity.providers.gmail=["100/s", "nan/h"]', r'capacity\.providers\.gmail: .*found "nan/h"'),
        ("capacity.providers.gmail=3/h", r'capacity\.providers\.gmail: .*not even one message.*"72/day"'),
        ("capacity.providers.gmail=0.5/day", r"capacity\.providers\.gmail: .*at least one message"),
        ("capacity.providers.total=5/s", r"the limit on all mail is capacity\.total"),
        ('capacity.providers={"" = "5/s"}', r"capacity\.providers.*at least 1 character"),
        ('capacity.warmup.gmail={first_day="soon", per_day=[1]}', r"capacity\.warmup\.gmail\.first_day"),
        ("capacity.warmup.gmail={first_day=2026-04-20, per_day=[]}", r"capacity\.warmup\.gmail\.per_day"),
        ("capacity.warmup.gmail={first_day=2026-04-20, per_day=[0]}", r"capacity\.warmup\.gmail\.per_day\.0"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused_when_the_configuration_is_read(override: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load_config(None, [override])


def test_limits_that_can_be_kept_are_taken_as_they_are_written() -> None:
    config = load_config(None, ["capacity.total=1M/h", 'capacity.providers.gmail=["100/s", "1M/day"]'])
    assert (config.capacity.total, config.capacity.providers) == ("1M/h", {"gmail": ("100/s", "1M/day")})
