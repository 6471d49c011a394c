"""Settings of single policies and of what decides beside them."""

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

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
    sharpen: Annotated[float, Field(ge=1, le=1e6)] = 64.0
    propensity_draws: Annotated[int, Field(ge=10, le=100_000)] = 100


class EngagementWeights(Section):
    """How much each part of a computed engagement score counts, relative to the others (`models.engagement`)."""

    recency: Annotated[float, Field(ge=0)] = 0.4
    frequency: Annotated[float, Field(ge=0)] = 0.3
    clicks: Annotated[float, Field(ge=0)] = 0.3

    @model_validator(mode="after")
    def _something_counts(self) -> "EngagementWeights":
        if not self.recency + self.frequency + self.clicks > 0:
            raise ValueError("best_day.engagement_weights must not all be 0; found 0 for recency, frequency and clicks")
        return self


class BestDay(Section):
    """The best day of the week, policy `day_of_week` and preset `seed_best_day`.

    `clv_threshold`: recipients with at least this customer lifetime value get the day that the model picks for them,
    others (and those without one) the best day of their engagement tier. `engagement_weights`: of the score that is
    computed where recipients bring none. `tiers`: how many tiers of engagement, by quantiles; `min_sends`: a tier with
    fewer mails than this on any day is thin and gets the best day of all.
    `high_churn`, `medium_churn`: from this churn risk on mail is urgent, `high_churn` only with a value of at least
    `high_value` (default: `clv_threshold`): `today` on the first day there is, `within_24h` on the better of the first
    two; everybody else waits for his best day.
    """

    clv_threshold: Annotated[float, Field(ge=0)] = 500.0
    engagement_weights: EngagementWeights = EngagementWeights()
    tiers: Annotated[int, Field(ge=1, le=20)] = 4
    min_sends: Annotated[int, Field(ge=1)] = 200
    high_churn: Share = 0.7
    medium_churn: Share = 0.4
    high_value: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _churn_ascends(self) -> "BestDay":
        if self.medium_churn > self.high_churn:
            raise ValueError(
                f"best_day.medium_churn must be at most best_day.high_churn; found {self.medium_churn:g} above "
                f"{self.high_churn:g}"
            )
        return self

    @property
    def value_of_urgency(self) -> float:
        """The customer lifetime value from which a high churn risk makes mail urgent."""
        return self.clv_threshold if self.high_value is None else self.high_value


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


ChannelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


class Channels(Section):
    """Channels that one run chooses from: `choose` where `score --channel` names none, the first is the default.

    `names`: channels beside email, push, sms and in_app. `reach`: the column of true and false of the recipients
    (kept by recipients.keep) that says who can be reached on a channel; without one, by email everyone, elsewhere those
    whom the history has sent something there.
    """

    choose: tuple[ChannelName, ...] = ()
    names: tuple[ChannelName, ...] = ()
    reach: dict[ChannelName, Annotated[str, Field(min_length=1)]] = {}


class Frequency(Section):
    """At most `cap` messages in any `days` days (recipients.frequency_cap goes before), `min_gap_hours` apart; of each
    channel no more than `channels` says."""

    cap: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    days: Annotated[int, Field(ge=1, le=366)] = 7
    min_gap_hours: Annotated[float, Field(ge=0, le=24 * 366)] = 0.0
    channels: dict[ChannelName, Annotated[int, Field(ge=1, le=1_000_000)]] = {}


class CalendarDay(Section):
    """A local date that is a day off in a region, or on which nobody there is mailed."""

    date: dt.date
    region: Annotated[str, Field(min_length=1)] = "*"
    treat_as: Literal["weekend", "no_send"]


Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
_DAY = "(mon|tue|wed|thu|fri|sat|sun)"
WeekDays = Annotated[str, Field(pattern=rf"^({_DAY}(,{_DAY})*)?$")]


class Context(Section):
    """Which local days are days off, by the recipient's country: history counts them as weekends, and so does a send.

    `weekends`: those of his country, or Saturday and Sunday for all; `weekend_days` adds countries to the shipped table
    or moves them, such as AE = "sat,sun". `holidays`: public holidays are days off in the history, on the day that is
    scored, or in both. `calendar`: a file with the columns date, region and treat_as, rows as those of `days`; a region
    is a country, a region of the cohorts (americas, europe, asia) or "*" for all.
    """

    weekends: Literal["country", "same"] = "country"
    weekend_days: dict[Country, WeekDays] = {}
    holidays: Literal["off", "history", "scoring", "both"] = "off"
    calendar: Path | None = None
    days: tuple[CalendarDay, ...] = ()
