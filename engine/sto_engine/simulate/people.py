"""Who the simulated recipients are: ids, zones, domains, consent; drawn per chunk of users from the seed alone."""

from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

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
_DOMAINS = ("gmail.com", "outlook.com", "yahoo.com", "icloud.com", "gmx.de", "example.org")
_DOMAIN_SHARES = (0.42, 0.2, 0.14, 0.1, 0.05, 0.09)
_SOURCES = ("web", "store", "referral", "import")


def user_ids(first: int, count: int, seed: int) -> NDArray[np.uint64]:
    """Distinct ids that look random: a bijection of the user number."""
    return derive(np.arange(first, first + count, dtype=np.uint64), "simulated-user", seed)


def draw_people(rng: np.random.Generator, ids: NDArray[np.uint64], end: date) -> pl.DataFrame:
    """The recipients table of a chunk, plus nothing the sender could not know."""
    n = len(ids)
    zone = rng.choice(len(ZONES), n, p=[share for _, share in ZONES.values()])
    b2b = rng.random(n) < 0.15
    domain = rng.choice(len(_DOMAINS), n, p=_DOMAIN_SHARES)
    signup = np.datetime64(end, "ms") - (rng.integers(30, 1500, n) * 86_400_000).astype("timedelta64[ms]")
    return pl.DataFrame(
        {
            "user_id": ids,
            "timezone": pl.Series([list(ZONES)[i] for i in zone]),
            "signup_source": pl.Series([_SOURCES[i] for i in rng.integers(0, len(_SOURCES), n)]),
            "signup_ts": pl.Series(signup).dt.replace_time_zone("UTC"),
            "country": pl.Series([list(ZONES.values())[i][0] for i in zone]),
            "b2b": b2b,
            "consent": rng.random(n) >= 0.02,
            "consent_profiling": rng.random(n) >= 0.01,
            "address_status": pl.Series(
                np.where(rng.random(n) < 0.01, "invalid", "valid").astype(object), dtype=pl.String
            ),
            "recipient_domain": pl.Series(
                [
                    f"company{i % 97}.example" if work else _DOMAINS[d]
                    for i, (work, d) in enumerate(zip(b2b, domain, strict=True))
                ]
            ),
            "clv": _with_nulls(rng, rng.lognormal(4.0, 1.0, n)),
            "churn_risk": _with_nulls(rng, rng.beta(2, 5, n)),
        }
    )


def _with_nulls(rng: np.random.Generator, values: NDArray[np.float64]) -> pl.Series:
    return pl.select(pl.when(pl.Series(rng.random(len(values)) >= 0.1)).then(pl.Series(values))).to_series()
