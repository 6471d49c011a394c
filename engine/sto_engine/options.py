"""What command line options parse to, each with a usage error that shows the form it expects."""

import re
from datetime import UTC, date, datetime
from pathlib import Path

import click

_YEARS = range(1990, 2101)  # the years in which events are believed
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PATH = click.Path(path_type=Path)  # inputs that are absent are told by the engine, with their own exit code


def day(text: str) -> date:
    """YYYY-MM-DD; raises click.BadParameter."""
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            raise ValueError
        parsed = date.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f'expected a day as YYYY-MM-DD; found "{text}"') from None
    _check_year(parsed.year, text)
    return parsed


def timestamp_ms(text: str) -> int:
    """ISO 8601 with a zone -> milliseconds since the epoch; raises click.BadParameter."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f'expected an ISO time such as 2026-04-20T08:00:00Z; found "{text}"') from None
    if time.tzinfo is None:
        raise click.BadParameter(f'expected a time with its zone, such as {time.isoformat()}Z; found "{text}"')
    _check_year(time.year, text)
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def duration_days(text: str) -> float:
    """ "7d" or "12h" -> days; raises click.BadParameter."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([dh])", text, re.ASCII)
    if match is None:
        raise click.BadParameter(f'expected days or hours, such as 7d or 12h; found "{text}"')
    return float(match[1]) / (24 if match[2] == "h" else 1)


def _check_year(year: int, text: str) -> None:
    if year not in _YEARS:
        raise click.BadParameter(f'expected a year in {_YEARS.start}..{_YEARS.stop - 1}; found "{text}"')
