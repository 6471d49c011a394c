"""What prices came to, as plain JSON values: to go on from, to replay, to start from tomorrow."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sto_engine.assign.book import Outcome
from sto_engine.assign.market import Market
from sto_engine.assign.resources import Resource, describe
from sto_engine.errors import ConfigError
from sto_kernels.prices import Floats

Told = Sequence[Sequence[Any]]


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """Floats are written so that they read back the same."""
    body = asdict(outcome)
    body["price_R"], body["load_R"] = outcome.price_R.tolist(), outcome.load_R.tolist()
    body["none"] = None if not np.isfinite(outcome.none) else outcome.none
    return body


def outcome_from_json(body: dict[str, Any]) -> Outcome:
    none = -np.inf if body["none"] is None else body["none"]
    price_R, load_R = np.array(body["price_R"], np.float64), np.array(body["load_R"], np.int64)
    return Outcome(**{**body, "none": none, "price_R": price_R, "load_R": load_R})


def prices_to_json(market: Market, outcome: Outcome) -> list[list[Any]]:
    """Kind, provider, time and price of each resource that has one."""
    rows = zip(market.resources, outcome.price_R.tolist(), strict=True)
    return [[r.kind, r.provider, r.at_ms, price] for r, price in rows if price > 0]


def prices_of(told: Told, market: Market, strict: bool) -> Floats:
    """Prices of the market's resources; `strict`: every price must have its resource (ConfigError)."""
    price = {Resource(kind, provider, at): float(value) for kind, provider, at, value in told}
    unknown = [resource for resource in price if resource not in set(market.resources)]
    if strict and unknown:
        raise ConfigError(
            f"--prices-from has prices for limits that this run does not have: {describe(unknown)}; use the run's own "
            "date, recipients and [capacity]"
        )
    return np.array([price.get(resource, 0.0) for resource in market.resources])
