"""Settings of single policies and of what decides beside them."""

from typing import Annotated, Literal

from pydantic import Field

from sto_engine.config_base import Hours, Section, Share


class Bandit(Section):
    """Thompson sampling on Beta posteriors of each recipient and slot.

    `prior`: where they start: what `attention` or the bundle says (contextual), the cohort's outcomes, or flat.
    `discount`: what a day leaves of an outcome (contextual: of attention's history too); default: what foretells recent
    outcomes best. `sharpen`: how many times as sure as the posterior draws are. `propensity_draws`: draws behind a
    stated propensity.
    """

    prior: Literal["contextual", "cohort", "flat"] = "contextual"
    discount: Annotated[float, Field(gt=0, le=1)] | None = None
    sharpen: Annotated[float, Field(ge=1, le=1e6)] = 4.0
    propensity_draws: Annotated[int, Field(ge=10, le=100_000)] = 100


class BestDay(Section):
    """The best day of the week."""


class ColdStart(Section):
    """Recipients without a history of their own.

    `burst_campaigns`: those with fewer mails than this in the history (0: nobody) explore, `burst_share` of their mail
    at an even draw of their slots. `epsilon`: the share of everyone else's mail in the model arm that does so, drawn
    anew for every night. `b2b_hours`: where mail to offices explores, and where offices without any history get theirs;
    "" for all hours.
    """

    burst_campaigns: Annotated[int, Field(ge=0, le=1_000)] = 0
    burst_share: Share = 1.0
    epsilon: Share = 0.0
    b2b_hours: Hours = "08:00-18:00"


class Channels(Section):
    """Channels that one run chooses from."""


class Context(Section):
    """What the calendar says of a day."""
