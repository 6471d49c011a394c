"""Who the simulated recipients are, and what the sender's own table says of them."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.simulate.columns import Bools, Columns, Floats, Ints
from sto_kernels.hashing import derive

ZONES = {
    "America/New_York": ("US", 0.26),
    "America/Los_Angeles": ("US", 0.14),
    "America/Sao_Paulo": ("BR", 0.08),
    "Europe/London": ("GB", 0.16),
    "Europe/Berlin": ("DE", 0.18),
    "Asia/Kathmandu": ("NP", 0.03),
    "Asia/Tokyo": ("JP", 0.09),
    "Australia/Sydney": ("AU", 0.06),
}
ZONE_NAMES = tuple(ZONES)
ZONE_SHARES = np.array([share for _, share in ZONES.values()])
COUNTRIES = tuple(dict.fromkeys(country for country, _ in ZONES.values()))
COUNTRY_OF_ZONE = np.array([COUNTRIES.index(country) for country, _ in ZONES.values()])
REGIONS = ("americas", "europe", "asia")
_REGION_OF_ZONE = np.array([{"America": 0, "Europe": 1}.get(name.split("/")[0], 2) for name in ZONES])
SOURCES = ("web", "store", "referral", "import")
_DOMAINS = ("gmail.com", "outlook.com", "yahoo.com", "icloud.com", "gmx.de", "example.org")
_DOMAIN_SHARES = (0.42, 0.2, 0.14, 0.1, 0.05, 0.09)
_COMPANIES = tuple(f"company{i}.example" for i in range(97))
_NEW_DAYS = 12


@dataclass(frozen=True)
class People(Columns):
    """Codes of what the sender knows of U people: index into ZONE_NAMES, REGIONS and SOURCES, office address; [U]."""

    zone_U: Ints
    region_U: Ints
    source_U: Ints
    b2b_U: Bools


def user_ids(first: int, count: int, seed: int) -> NDArray[np.uint64]:
    """Distinct ids that look random: a bijection of the user number."""
    return derive(np.arange(first, first + count, dtype=np.uint64), "simulated-user", seed)


def draw_people(rng: np.random.Generator, users: int) -> People:
    """People of the zones, sources and offices that this sender has."""
    zone_U = rng.choice(len(ZONES), users, p=ZONE_SHARES)
    return People(zone_U, _REGION_OF_ZONE[zone_U], rng.integers(0, len(SOURCES), users), rng.random(users) < 0.15)


def recipients_table(
    rng: np.random.Generator, people: People, ids: NDArray[np.uint64], end: date, newcomers: float
) -> pl.DataFrame:
    """What the sender knows, at `end`; a share `newcomers` signed up within the last days and has hardly had mail."""
    n = len(people)
    is_new = rng.random(n) < newcomers
    age_days = np.where(is_new, rng.integers(0, _NEW_DAYS, n), rng.integers(30, 1500, n))
    signup = np.datetime64(end, "ms") - (age_days * 86_400_000).astype("timedelta64[ms]")
    domain = np.where(people.b2b_U, np.arange(n) % 97 + len(_DOMAINS), rng.choice(len(_DOMAINS), n, p=_DOMAIN_SHARES))
    return pl.DataFrame(
        {
            "user_id": ids,
            "timezone": words(ZONE_NAMES, people.zone_U),
            "signup_source": words(SOURCES, people.source_U),
            "signup_ts": pl.Series(signup).dt.replace_time_zone("UTC"),
            "country": words(COUNTRIES, COUNTRY_OF_ZONE[people.zone_U]),
            "b2b": people.b2b_U,
            "consent": rng.random(n) >= 0.02,
            "consent_profiling": rng.random(n) >= 0.01,
            "address_status": words(("valid", "invalid"), (rng.random(n) < 0.01).astype(np.int64)),
            "recipient_domain": words(_DOMAINS + _COMPANIES, domain),
            "clv": _with_nulls(rng, rng.lognormal(4.0, 1.0, n)),
            "churn_risk": _with_nulls(rng, rng.beta(2, 5, n)),
        }
    )


def words(names: tuple[str, ...], code_N: Ints) -> pl.Series:
    """The word of each code, as a column of strings."""
    return pl.Series(names, dtype=pl.String).gather(code_N)


def _with_nulls(rng: np.random.Generator, values: Floats) -> pl.Series:
    return pl.select(pl.when(pl.Series(rng.random(len(values)) >= 0.1)).then(pl.Series(values))).to_series()
