"""The newest day that a store's events speak for: a few timestamps far ahead must not set the date of a run."""

from collections.abc import Mapping
from datetime import date, timedelta

GAP_DAYS, TAIL_SHARE = 45, 0.001
_EPOCH = date(1970, 1, 1)


def newest_day(days: Mapping[int, int]) -> tuple[int | None, int]:
    """The newest plausible day (days since the epoch), None without events, and how many events lie after it.

    Events count as far ahead if at most TAIL_SHARE of all, one at least, follow a gap of more than GAP_DAYS.
    """
    order = sorted(days)
    if not order:
        return None, 0
    most, tail, newest, after = max(1, int(TAIL_SHARE * sum(days.values()))), 0, order[-1], 0
    for earlier, day in zip(order[-2::-1], order[:0:-1], strict=True):
        tail += days[day]
        if tail > most:
            break
        if day - earlier > GAP_DAYS:
            newest, after = earlier, tail
    return newest, after


def as_date(day: int) -> date:
    return _EPOCH + timedelta(days=day)
