"""Messages over time as bars on a terminal: what is sent when, and what the limits moved away and to where.

04-20 08:00  53.6k → 33.3k  ██████████┊░░░░░
      09:00  12.0k → 32.3k  ████▓▓▓▓▓▓┊
"""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sto_engine.rates import BIN_MINUTES

_MINUTE_MS = 60_000
_HOURS = (1, 2, 3, 4, 6, 8, 12, 24)
_MOST_FINE, _MOST_ROWS = 32, 36
_LEAST_BAR = 10
_FAR = 1.5  # a capacity beyond this many times the highest bar is told and not drawn


@dataclass(frozen=True)
class _Marks:
    stay: str
    gone: str
    come: str
    limit: str
    few: str
    arrow: str


_BLOCKS = _Marks("█", "░", "▓", "┊", "▏", "→")
_ASCII = _Marks("#", ".", "+", "|", ":", ">")


@dataclass(frozen=True)
class _Row:
    """Messages from `start_ms` on, and whether one of its 15-minute bins took more than the capacity before."""

    start_ms: int
    before: int
    after: int
    was_over: bool


def load_histogram(
    before: Mapping[int, int], after: Mapping[int, int], capacity: int | None, width: int, blocks: bool = True
) -> str:
    """A legend and a bar for each hour (each bin of a short load) in at most `width` columns and about 40 lines.

    `before`, `after`: messages by UTC start of the 15-minute bin (ms). `capacity`: messages that such a bin takes.
    `blocks`: whether the terminal can show block characters. "" where nothing is sent.
    """
    used = [ms for ms in before.keys() | after.keys() if before.get(ms, 0) or after.get(ms, 0)]
    if not used:
        return ""
    marks = _BLOCKS if blocks else _ASCII
    minutes = _row_minutes(min(used), max(used))
    rows = _rows(before, after, capacity, minutes * _MINUTE_MS)
    limit = None if capacity is None else capacity * minutes // BIN_MINUTES
    top = max(max(row.before, row.after) for row in rows)
    drawn = limit if limit is not None and limit <= _FAR * top else None
    heads = _heads(rows, marks)
    room = max(_LEAST_BAR, width - len(heads[0]) - 2)
    scale = (room - 1) / max(top, drawn or 0)  # the last column is for a mark right of the longest bar
    bars = [_bar(row, scale, drawn, marks) for row in rows]
    lines = [f"{head}  {bar}".rstrip() for head, bar in zip(heads, bars, strict=True)]
    sign = "" if limit is None else f"{marks.limit + ' ' if drawn is not None else ''}capacity {human(limit)}"
    return "\n".join([*_legend(rows, minutes, sign, width, marks), *lines])


def human(n: int) -> str:
    """A count in at most five characters up to a trillion: 999, 1.2k, 12.3k, 123k, 1.2M."""
    value, unit = float(n), ""
    for unit in ("", "k", "M", "G"):
        if value < 999.5 or unit == "G":
            break
        value /= 1000
    return f"{value:.1f}{unit}" if unit and value < 99.95 else f"{value:.0f}{unit}"


def _row_minutes(first_ms: int, last_ms: int) -> int:
    """Length of a row: a bin where few are used, else the fewest whole hours that give few enough rows."""
    minutes = (last_ms - first_ms) // _MINUTE_MS + BIN_MINUTES
    if minutes <= _MOST_FINE * BIN_MINUTES:
        return BIN_MINUTES
    hours = [hours for hours in _HOURS if minutes / (60 * hours) + 1 <= _MOST_ROWS]
    return 60 * (hours[0] if hours else 24 * (minutes // (1440 * (_MOST_ROWS - 1)) + 1))


def _rows(before: Mapping[int, int], after: Mapping[int, int], capacity: int | None, step_ms: int) -> list[_Row]:
    sums: tuple[Counter[int], Counter[int]] = Counter(), Counter()
    for total, load in zip(sums, (before, after), strict=True):
        for ms, n in load.items():
            total[ms // step_ms] += n
    over = {ms // step_ms for ms, n in before.items() if capacity is not None and n > capacity}
    used = [place for total in sums for place, n in total.items() if n]
    places = range(min(used), max(used) + 1)
    return [_Row(place * step_ms, sums[0][place], sums[1][place], place in over) for place in places]


def _heads(rows: Sequence[_Row], marks: _Marks) -> list[str]:
    """Time and counts of each row, all of one length; the date stands where it changes."""
    heads, day = [], ""
    moved = any(row.before != row.after for row in rows)
    size = max(len(human(n)) for row in rows for n in (row.before, row.after))
    sign = any(row.was_over for row in rows)
    for row in rows:
        date, _, clock = datetime.fromtimestamp(row.start_ms / 1000, UTC).strftime("%m-%d %H:%M").partition(" ")
        flag = "!" if row.was_over else " " * sign
        change = f" {marks.arrow} {human(row.after):>{size}}" if moved else ""
        heads.append(f"{date if date != day else '':5} {clock}  {human(row.before):>{size}}{flag}{change}")
        day = date
    return heads


def _bar(row: _Row, scale: float, limit: int | None, marks: _Marks) -> str:
    cells = [round(row.before * scale), round(row.after * scale)]
    bar = marks.stay * min(cells) + (marks.gone if cells[0] > cells[1] else marks.come) * abs(cells[0] - cells[1])
    if not bar and (row.before or row.after):
        bar = marks.few
    if limit is None:
        return bar
    at = round(limit * scale)
    return f"{bar[:at]:{at}}{marks.limit}{bar[at + 1 :]}"


def _legend(rows: Sequence[_Row], minutes: int, limit: str, width: int, marks: _Marks) -> list[str]:
    hours = minutes // 60
    unit = f"{minutes} minutes" if not hours else "hour" if hours == 1 else f"{hours} hours"
    parts = [f"messages in each {unit} (UTC)"]
    if any(row.before != row.after for row in rows):
        parts += [f"{marks.stay} as wished", f"{marks.gone} moved away", f"{marks.come} moved here"]
    if limit:
        parts.append(limit)
    if any(row.was_over for row in rows):
        parts.append("! a quarter of an hour was over it")
    glued = "  ".join(part.replace(" ", "\0") for part in parts)  # a line may end between parts only
    return [line.replace("\0", " ") for line in textwrap.wrap(glued, max(width, 20), break_on_hyphens=False)]
