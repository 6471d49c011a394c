"""Rates as the field writes them ("100/s", "500k/h", "1.5M/day") and what they allow in a bin of time or on a day.

A rate per second, minute or hour is a limit of every 15-minute bin of absolute (UTC) time: its count times the length
of the bin. A rate per day is a budget of each UTC day, spent whenever. Where several are given, all of them hold.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Literal, Protocol

Per = Literal["s", "min", "h", "day"]
FORMS = '"100/s", "6000/min", "500k/h" or "1.5M/day"'
BIN_MINUTES = 15
MAX_COUNT = 10**12  # times 900 s it is still an exact float64
_SECONDS: dict[Per, int] = {"s": 1, "min": 60, "h": 3600, "day": 86_400}
_NAMES: dict[str, Per] = {
    **{"s": "s", "sec": "s", "second": "s", "min": "min", "minute": "min"},
    **{"h": "h", "hr": "h", "hour": "h", "d": "day", "day": "day"},
}
_TIMES = {"": 1, "k": 1_000, "m": 1_000_000}
_RATE = re.compile(r"\s*([0-9][0-9_]{0,20}(?:\.[0-9]{1,12})?)\s*([km]?)\s*/\s*([a-z]+)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Rate:
    """`count` messages per second, minute, hour or UTC day; a fraction, so that a product is cut where it should be."""

    count: Fraction
    per: Per


class Ramp(Protocol):
    """Messages allowed on the UTC days from the first on (`config.Warmup`)."""

    @property
    def first_day(self) -> date: ...

    @property
    def per_day(self) -> Sequence[int]: ...


def parse_rate(text: str) -> Rate:
    """The rate that `text` writes; ValueError that names the allowed forms for anything else, zero included."""
    parts = _RATE.fullmatch(text)
    if parts is None:
        raise ValueError(f'a rate is a number over zero, "/" and s, min, h or day, as in {FORMS}; found "{text}"')
    number, times, unit = parts[1], parts[2].lower(), parts[3].lower()
    if unit not in _NAMES:
        known = "m may be a minute or a month: write min" if unit == "m" else "write s, min, h or day"
        raise ValueError(f'"{parts[3]}" is no unit of time ({known}), as in {FORMS}; found "{text}"')
    count = Fraction(number.replace("_", "")) * _TIMES[times]
    if not 0 < count <= MAX_COUNT:
        raise ValueError(f'the number of a rate must be over 0 and at most 1e12, as in {FORMS}; found "{text}"')
    return Rate(count, _NAMES[unit])


def parse_rates(rates: str | Iterable[str] | None) -> tuple[Rate, ...]:
    """The rates of one limit of the configuration: none, one or several that all hold."""
    if rates is None:
        return ()
    return tuple(parse_rate(text) for text in ([rates] if isinstance(rates, str) else rates))


def check_rates(value: object) -> object:
    """`value` as it came if it is a rate, or a list of some, that allows at least a message; else ValueError."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"expected a rate such as {FORMS}, or a list of at least one")
    rates = parse_rates(texts)
    bin_capacity(rates)
    day_budget(rates, None, date.min)
    return value


def bin_capacity(rates: Iterable[Rate], minutes: int = BIN_MINUTES) -> int | None:
    """Messages that a bin of `minutes` takes; None without a rate per second, minute or hour.

    ValueError for a rate that allows not even one message in a bin.
    """
    allowed = []
    for rate in rates:
        if rate.per == "day":
            continue
        allowed.append(int(rate.count * minutes * 60 / _SECONDS[rate.per]))
        if not allowed[-1]:
            day = float(rate.count * _SECONDS["day"] / _SECONDS[rate.per])
            raise ValueError(
                f"{float(rate.count):g}/{rate.per} allows not even one message in {minutes} minutes; write it as a "
                f'budget of the day: "{day:g}/day"'
            )
    return min(allowed, default=None)


def day_budget(rates: Iterable[Rate], warmup: Ramp | None, day: date) -> int | None:
    """Messages that the UTC day `day` takes; None without a rate per day and a warm-up that is still on.

    Before its first day a warm-up allows what it allows on the first. ValueError for a rate under one message a day.
    """
    allowed = [int(rate.count) for rate in rates if rate.per == "day"]
    if 0 in allowed:
        raise ValueError(f"a rate per day must allow at least one message, as in {FORMS}")
    if warmup is not None:
        age = max(0, (day - warmup.first_day).days)
        allowed += warmup.per_day[age : age + 1]
    return min(allowed, default=None)
