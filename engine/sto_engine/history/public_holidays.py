"""Public holidays of a country, from the library `holidays`, which is read only where `context.holidays` asks.

Those of the whole country alone: where a recipient lives inside it is not known. Days in lieu count, as the library
knows them.
"""

import functools
from importlib.metadata import PackageNotFoundError, version

from sto_engine.errors import Unavailable


@functools.cache
def library_version() -> str:
    """Version of the library: the next may know other days. Raises Unavailable (69) where it is not installed."""
    try:
        return version("holidays")
    except PackageNotFoundError as error:
        raise Unavailable(
            "context.holidays needs the library holidays; install it with: pip install 'sto-engine[holidays]'"
        ) from error


@functools.cache
def holidays_of(country: str, year: int) -> frozenset[int]:
    """Ordinals (`date.toordinal`) of the holidays of a country (ISO 3166, two letters); none where it is not known.

    Raises Unavailable (69) where the library is not installed.
    """
    library_version()
    import holidays

    if country not in holidays.list_supported_countries(include_aliases=False):
        return frozenset()
    return frozenset(day.toordinal() for day in holidays.country_holidays(country, years=year))
