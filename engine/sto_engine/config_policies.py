"""Settings of single policies and of what decides beside them."""

from typing import Annotated, Literal

from pydantic import Field

from sto_engine.config_base import Section


class Bandit(Section):
    """Thompson sampling. `prior`: where the Beta posteriors start; `discount`: what a day leaves of an outcome."""

    prior: Literal["contextual", "cohort", "flat"] = "contextual"
    discount: Annotated[float, Field(gt=0, le=1)] | None = None


class BestDay(Section):
    """The best day of the week."""


class ColdStart(Section):
    """Recipients and accounts without a history of their own."""


class Channels(Section):
    """Channels that one run chooses from."""


class Context(Section):
    """What the calendar says of a day."""
