"""What a run decides for every bucket alike."""

import datetime as dt
from dataclasses import dataclass

from sto_engine.assign.arms import occasion_of
from sto_engine.assign.channels import Options
from sto_engine.assign.plan_json import Told
from sto_engine.config import Config
from sto_engine.history.bucket import window_start
from sto_engine.ingest.audience import Audience
from sto_engine.ingest.store import Store
from sto_engine.models.policy import Policy
from sto_engine.previous import Previous, told_until
from sto_engine.slots import SlotGrid, parse_clock
from sto_engine.tables import EMAIL
from sto_engine.zones import midnight_ms


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
    channels: tuple[str, ...] = (EMAIL,)
    audience: Audience | None = None
    seed: int = 0
    dump_features: bool = False
    previous: Previous | None = None
    prices: Told | None = None
    what_if: bool = False
    horizon_days: int = 1

    @property
    def options(self) -> Options:
        """Pairs of channel and slot: what is chosen from."""
        return Options(self.channels, self.grid.slots)

    @property
    def start_ms(self) -> int:
        """Events before this are no longer history."""
        return window_start(self.origin_ms, self.config)

    @property
    def control_slot(self) -> int:
        """The control time on the first day, on the first channel."""
        return self.grid.slot_at(self.date, parse_clock(self.config.experiment.control_time))

    @property
    def occasion(self) -> str:
        """What draws of random slots are made anew for."""
        return occasion_of(self.date, self.campaign)

    @property
    def told_ms(self) -> int:
        """Sends before this are told by events, later ones by the plans of earlier runs."""
        return told_until(self.origin_ms, self.store.newest_event_ms)

    @property
    def warm_prices(self) -> Told | None:
        """Prices of the latest earlier run, moved to this day; None where it had none."""
        last = self.previous.runs[-1] if self.previous is not None else None
        if last is None or not last.prices:
            return None
        later_ms = midnight_ms(self.date) - midnight_ms(last.date)
        return [
            [kind, provider, at if kind == "slot" else at + later_ms, price]
            for kind, provider, at, price in last.prices["prices"]
        ]

    @property
    def is_priced(self) -> bool:
        """Whether slots are short, or may be, so that prices decide between phases A and B."""
        if self.what_if:
            return True
        limits = self.config.capacity
        rates = limits.total or limits.providers or limits.warmup
        own = any(channel in limits.channels for channel in self.channels)
        return bool(rates or own or limits.max_slot_share or limits.decluster)
