"""Days off by country: which local dates are weekends to whom, whatever their name.

The 48 cells of attention know a weekday from a weekend day and nothing more, and what becomes of a mail within a day
depends on its local date and the next alone. So a date stands for one of four days of the week:

    working, the next working -> Monday     working, the next off -> Friday
    off, the next off         -> Saturday   off, the next working -> Sunday

Moving each local time by whole days to the day it stands for makes every count exactly what it would be if weekends
were counted by this calendar; the hour stays. U users, R rows (a country, or country and region), D dates, S sends, A
acts.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.config_policies import CalendarDay, Context
from sto_engine.files import canonical_json
from sto_engine.history.public_holidays import holidays_of, library_version
from sto_engine.tables import encode
from sto_engine.zones import known_countries
from sto_kernels.journal import Cleaned

DAY_MS = 86_400_000
NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SAME = "sat,sun"
# As the library `holidays` 0.109 has it, and Libya and Palestine; of countries with one day off those where it is no
# Sunday, as elsewhere Saturday is nearly one.
_FRIDAY_SATURDAY = "AF BD BH DJ DZ EG IL IQ JO KW LY MR MV OM PS QA SA SD SY YE"
WEEKENDS = {**dict.fromkeys(_FRIDAY_SATURDAY.split(), "fri,sat"), "BN": "fri,sun", "IR": "fri"}
# dates known before and after a history: a local date may be a day ahead, a horizon is a week
_BEFORE, _AFTER = 3, 16
_EPOCH = date(1970, 1, 1).toordinal()
# Monday 0; [is off, is the next day off]
_STANDS_FOR = np.array([[0, 4], [6, 5]])
_AS_NAMED = np.array([0, 0, 0, 0, 4, 5, 6])


@dataclass(frozen=True)
class Days:
    """`off_RD` says whether a date is a day off, `closed_RD` whether nobody is mailed; row of each user, names of rows.

    Column d is the date `first + d`, in days since the epoch.
    """

    first: int
    names: tuple[str, ...]
    off_RD: NDArray[np.bool_]
    closed_RD: NDArray[np.bool_]
    row_U: NDArray[np.int32]

    def of(self, rows_U: slice | NDArray[np.int64]) -> "Days":
        """The same of some of the users."""
        return replace(self, row_U=self.row_U[rows_U])

    def weekday_U(self, day: date) -> NDArray[np.int64]:
        """The day of the week (Monday 0) that sends on a local date stand for, int64 [U]."""
        column = _number(day) - self.first
        return _stands_for(self.off_RD[:, column], self.off_RD[:, column + 1], day.weekday())[self.row_U]

    def is_closed_U(self, day: date) -> NDArray[np.bool_]:
        """Whether nobody is mailed on a local date, bool [U]."""
        return np.asarray(self.closed_RD[:, _number(day) - self.first][self.row_U])

    def moved(self, cleaned: Cleaned) -> Cleaned:
        """The same history with local times moved by whole days to the days that they stand for."""
        row_S, row_A = self.row_U[cleaned.user_S], self.row_U[cleaned.user_A]
        day_S, day_A = cleaned.local_S // DAY_MS, cleaned.local_A // DAY_MS
        at_S, at_A = day_S - self.first, day_A - self.first
        name_S, name_A = (day_S + 3) % 7, (day_A + 3) % 7  # the epoch was a Thursday
        as_S = _stands_for(self.off_RD[row_S, at_S], self.off_RD[row_S, at_S + 1], name_S)
        off_A = self.off_RD[row_A, at_A]
        as_A = np.where(off_A == (name_A >= 5), name_A, np.where(off_A, 5, 0))
        return replace(
            cleaned,
            local_S=cleaned.local_S + (as_S - name_S) * DAY_MS,
            local_A=cleaned.local_A + (as_A - name_A) * DAY_MS,
        )

    def counts(self, day: date) -> dict[str, int]:
        """How many users have a day off on a date that is no weekend by its name, work on one that is, or are not
        mailed: by "day_off:DE", "work_day:", "no_send:"."""
        column, n_R = _number(day) - self.first, np.bincount(self.row_U, minlength=len(self.names))
        off_R, closed_R, found = self.off_RD[:, column], self.closed_RD[:, column], dict[str, int]()
        named = day.weekday() >= 5
        told = (("no_send", closed_R), ("work_day" if named else "day_off", (off_R != named) & ~closed_R))
        for kind, is_R in told:
            for row in np.flatnonzero(is_R & (n_R > 0)):
                key = f"{kind}:{self.names[row].split('|')[0] or 'unknown'}"
                found[key] = found.get(key, 0) + int(n_R[row])
        return found


def _stands_for(
    off: NDArray[np.bool_], off_next: NDArray[np.bool_], weekday: NDArray[np.int64] | int
) -> NDArray[np.int64]:
    """The day of the week that a date stands for; one that already does keeps its own."""
    wanted = _STANDS_FOR[off.astype(np.int64), off_next.astype(np.int64)]
    return np.asarray(np.where(_AS_NAMED[weekday] == wanted, weekday, wanted))


def weekday_of(days: Days | None, day: date, users: int) -> NDArray[np.int64]:
    """The day of the week that sends on a local date stand for; without a calendar the date's own, int64 [U]."""
    return np.full(users, day.weekday()) if days is None else days.weekday_U(day)


def by_weekday(weekday_U: NDArray[np.int64], found: Callable[[int], NDArray[Any]]) -> NDArray[Any]:
    """What `found` says of each user on his own day of the week, [..., U]; asked once for each that occurs."""
    first, *others = np.unique(weekday_U).tolist() or [0]
    x_U = found(first)
    for weekday in others:
        x_U = np.where(weekday_U == weekday, found(weekday), x_U)
    return x_U


def day_counts(countries: pl.Series, days: Days | None, day: date, config: Config) -> dict[str, int]:
    """`Days.counts` of a date, and how many recipients' countries are told in another spelling."""
    if config.context == Context(weekends="same"):
        return {}
    unknown = unknown_countries(countries)
    found = {"unknown_country:": unknown} if unknown else {}
    return found if days is None else {**found, **days.counts(day)}


def days_of(users: pl.DataFrame, start_ms: int, end_ms: int, config: Config) -> Days | None:
    """The calendar of these users around the history [start, end); None where it is everyone's Saturday and Sunday."""
    context = config.context
    assert context.calendar is None, "with_calendar reads the file"
    tells = context.weekends == "country" or context.holidays != "off"
    if not (tells or context.days) or (not context.days and users["country"].null_count() == len(users)):
        return None
    key = users["country"].fill_null("")
    if context.days:
        key = pl.select(pl.concat_str(key, users["region"].fill_null(""), separator="|")).to_series()
    texts, text_U = encode(key)
    names, row_of_text = np.unique([_named(text) for text in texts], return_inverse=True)
    end = end_ms // DAY_MS
    date_D = np.arange(start_ms // DAY_MS - _BEFORE, end + _AFTER)
    off_RD, closed_RD = np.zeros((2, len(names), len(date_D)), np.bool_)
    by_region = _by_region(context.days)
    for row, name in enumerate(names.tolist()):
        country, _, region = name.partition("|")
        off_RD[row] = _weekend_D(country, date_D, context) | _holiday_D(country, date_D, end, context)
        for listed in ("*", region, country):
            _mark(by_region.get(listed, ()), int(date_D[0]), off_RD[row], closed_RD[row])
    if (off_RD == _weekend_D("", date_D, context)).all() and not closed_RD.any():
        return None
    row_U = row_of_text.astype(np.int32)[text_U]
    return Days(int(date_D[0]), tuple(names.tolist()), off_RD, closed_RD, row_U)


def country_of(text: str) -> str:
    """The ISO code of two letters that the recipients' table writes, case and blanks aside; "" for anything else."""
    code = text.strip().upper()
    return code if code in known_countries() else ""


def unknown_countries(countries: pl.Series) -> int:
    """How many are told, but by no ISO code of two letters."""
    texts, code_U = encode(countries.drop_nulls())
    is_unknown = np.array([not country_of(text) for text in texts], np.bool_)
    return int(is_unknown[code_U].sum())


def _named(text: str) -> str:
    """Code of the country, and the region where rows tell regions apart."""
    country, _, region = text.rpartition("|") if "|" in text else (text, "", "")
    return f"{country_of(country)}|{region}"


def _number(day: date) -> int:
    return day.toordinal() - _EPOCH


def _weekend_D(country: str, date_D: NDArray[np.int64], context: Context) -> NDArray[np.bool_]:
    days = SAME
    if context.weekends == "country":
        days = context.weekend_days.get(country, WEEKENDS.get(country, SAME))
    return np.isin((date_D + 3) % 7, [NAMES.index(name) for name in days.split(",") if name])


def _holiday_D(country: str, date_D: NDArray[np.int64], end: int, context: Context) -> NDArray[np.bool_]:
    if context.holidays == "off" or not country:
        return np.zeros(len(date_D), np.bool_)
    years = range(date.fromordinal(int(date_D[0]) + _EPOCH).year, date.fromordinal(int(date_D[-1]) + _EPOCH).year + 1)
    found = {ordinal - _EPOCH for year in years for ordinal in holidays_of(country, year)}
    past_D = date_D < end
    asked_D = {"both": past_D | ~past_D, "history": past_D, "scoring": ~past_D}[context.holidays]
    return np.isin(date_D, sorted(found)) & asked_D


def _by_region(days: Iterable[CalendarDay]) -> dict[str, list[CalendarDay]]:
    found: dict[str, list[CalendarDay]] = {}
    for day in days:
        found.setdefault(day.region, []).append(day)
    return found


def _mark(days: Iterable[CalendarDay], first: int, off_D: NDArray[np.bool_], closed_D: NDArray[np.bool_]) -> None:
    for day in days:
        place = _number(day.date) - first
        if 0 <= place < len(off_D):
            (off_D if day.treat_as == "weekend" else closed_D)[place] = True


def calendar_facts(config: Config) -> dict[str, Any]:
    """What names the calendar: the hash of its rows, wherever they came from, and the library of holidays."""
    context, facts = config.context, dict[str, Any]()
    if context.days:
        rows = [day.model_dump(mode="json") for day in context.days]
        facts["calendar_sha256"] = hashlib.sha256(canonical_json(rows)).hexdigest()
    if context.holidays != "off":
        facts["holidays"] = library_version()
    return facts
