"""The calendar table of a sender: local dates that are days off in a region, or on which nobody there is mailed."""

import datetime as dt
from pathlib import Path
from typing import Any

from sto_engine.config import Config
from sto_engine.config_policies import CalendarDay
from sto_engine.errors import BadData, ConfigError
from sto_engine.ingest.readers import enumerate_files, open_schema, read_batches
from sto_engine.zones import REGIONS, known_countries

COLUMNS = ("date", "region", "treat_as")
TREATS = ("weekend", "no_send")


def with_calendar(config: Config) -> Config:
    """The configuration with the rows of `context.calendar` among `context.days`, each once, in order.

    InputMissing (66) for a file that cannot be read; BadData (65) names the row that is no such day; ConfigError (78)
    for a region of `context.days` that is none.
    """
    context = config.context
    if context.calendar is None and not context.days:
        return config
    for day in context.days:
        if not is_region(day.region):
            raise ConfigError(f'context.days must name regions such as {_REGION_HELP}; found "{day.region}"')
    rows = [] if context.calendar is None else read_calendar(context.calendar)
    found = {(day.date, day.region, day.treat_as): day for day in (*context.days, *rows)}
    days = tuple(found[key] for key in sorted(found))
    return config.model_copy(update={"context": context.model_copy(update={"calendar": None, "days": days})})


def read_calendar(path: Path) -> list[CalendarDay]:
    """The rows of a calendar table, in any format that `ingest` reads."""
    (file,) = enumerate_files([str(path)])
    missing = [name for name in COLUMNS if name not in open_schema(file).names]
    if missing:
        raise BadData(f"calendar {path} must have the columns {', '.join(COLUMNS)}; it lacks {', '.join(missing)}")
    rows = (row for batch in read_batches(file, COLUMNS) for row in batch.select(COLUMNS).to_pylist())
    return [_day(row, f"calendar {path}, row {number}") for number, row in enumerate(rows, 1)]


_REGION_HELP = f"DE, {', '.join(REGIONS)} or * for all"


def is_region(name: str) -> bool:
    return name == "*" or name in REGIONS or name in known_countries()


def _day(row: dict[str, Any], where: str) -> CalendarDay:
    day, region, treat_as = (_text(row[name], f"{where}: {name}") for name in COLUMNS)
    try:
        at = dt.date.fromisoformat(day)
    except ValueError:
        raise BadData(f'{where}: date must be such as 2026-12-25; found "{day}"; correct the row') from None
    if not is_region(region):
        raise BadData(f'{where}: region must be such as {_REGION_HELP}; found "{region}"; correct the row')
    if treat_as not in TREATS:
        raise BadData(f'{where}: treat_as must be {" or ".join(TREATS)}; found "{treat_as}"; correct the row')
    return CalendarDay.model_validate({"date": at, "region": region, "treat_as": treat_as})


def _text(value: Any, where: str) -> str:
    if isinstance(value, dt.datetime):
        value = value.date() if value.time() == dt.time() else value
    if isinstance(value, dt.date):
        return value.isoformat()
    try:
        return (value.decode() if isinstance(value, bytes) else str(value if value is not None else "")).strip()
    except UnicodeDecodeError:
        raise BadData(f"{where} must be text in UTF-8; found other bytes; write the file again") from None
