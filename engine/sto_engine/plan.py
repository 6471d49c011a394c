"""What a run decides for every bucket alike."""

import datetime as dt
from dataclasses import dataclass

from sto_engine.config import Config
from sto_engine.history.bucket import window_start
from sto_engine.ingest.audience import Audience
from sto_engine.ingest.store import Store
from sto_engine.models.policy import Policy
from sto_engine.slots import SlotGrid, parse_clock


@dataclass(frozen=True)
class Plan:
    """The inputs of a run, opened, and its settings."""

    store: Store
    config: Config
    policy: Policy
    grid: SlotGrid
    date: dt.date
    origin_ms: int
    not_before_ms: int | None = None
    campaign: str | None = None
    channel: str = "email"
    audience: Audience | None = None
    seed: int = 0
    dump_features: bool = False

    @property
    def start_ms(self) -> int:
        """Events before this are no longer history."""
        return window_start(self.origin_ms, self.config)

    @property
    def control_slot(self) -> int:
        return parse_clock(self.config.experiment.control_time) // self.grid.minutes
