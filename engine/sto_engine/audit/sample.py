"""The sampled users of all buckets as one bucket, cleaned by any set of rules, and the slots that follow.

Campaign sums, priors and choices all come from the sample, for every set of rules alike. U users, S slots.
"""

from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.assign.window import own_hours, shifted_zones, zone_slots
from sto_engine.config import Config
from sto_engine.history.bucket import Bucket, build_journal, window_start
from sto_engine.models.attention import Attention
from sto_engine.models.features import Known, chances, know
from sto_engine.models.priors import Priors, from_tensors
from sto_engine.slots import SlotGrid, grid_of, parse_clock
from sto_kernels.lanes import Floats

MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True)
class Sampled:
    """Events and users in the order (h, user_id); `users` have a column mailed."""

    events: pl.DataFrame
    users: pl.DataFrame
    config: Config
    day: date
    origin_ms: int

    @property
    def mailed_U(self) -> NDArray[np.bool_]:
        return self.users["mailed"].to_numpy()

    @property
    def grid(self) -> SlotGrid:
        return grid_of(self.config.slots.grid)

    def without(self, rules: tuple[str, ...]) -> "Outlook":
        """What a run would see and choose with these rules of cleaning left out besides those left out anyway."""
        skip = tuple(sorted({*self.config.clean.skip, *rules}))
        clean = self.config.clean.model_copy(update={"skip": skip})
        config = self.config.model_copy(update={"clean": clean})
        known = build_journal(self.events, self.users, config)
        return Outlook(known.at(window_start(self.origin_ms, config), self.origin_ms), config, self.day, self.grid)


@dataclass(frozen=True)
class Outlook:
    """The sample as one set of rules leaves it."""

    bucket: Bucket
    config: Config
    day: date
    grid: SlotGrid

    @cached_property
    def priors(self) -> Priors:
        policy = Attention(self.grid, self.config.model)
        return from_tensors(policy.reduce([policy.sums(self.bucket, 1)]), "the priors of the sample")

    @cached_property
    def known(self) -> Known:
        return know(self.bucket, self.priors, self.config.model.half_life_days)

    @cached_property
    def p_US(self) -> Floats:
        """P(open within the label window) of every slot by attention; without sends in the history, up to a factor."""
        return self.chances(self.known)

    @cached_property
    def allowed_US(self) -> NDArray[np.bool_]:
        """Slots that the window and the users' own hours leave; all of them where these leave none."""
        clock = shifted_zones(self.bucket.users["zone"], self.shift_U, self.day)
        hours_US = own_hours(self.bucket.users["allowed_hours"], self.grid)
        allowed_US = zone_slots(clock, self.grid, self.day, self.config, None).with_hours(hours_US).allowed_US()
        return allowed_US | ~allowed_US.any(axis=1, keepdims=True)

    @cached_property
    def slot_U(self) -> NDArray[np.int64]:
        """The best allowed slot of everyone, in the local time that these rules believe in."""
        return self.best(self.p_US)

    @property
    def shift_U(self) -> NDArray[np.int16]:
        return self.bucket.cleaned.shift_U

    @property
    def control_slot(self) -> int:
        return parse_clock(self.config.experiment.control_time) // self.grid.minutes

    def chances(self, known: Known) -> Floats:
        p2_SU, p24_SU = chances(known, self.day, self.grid.slots)
        return np.ascontiguousarray((p24_SU if self.config.model.label == "open_24h" else p2_SU).T)

    def best(self, p_US: Floats) -> NDArray[np.int64]:
        return np.asarray(np.where(self.allowed_US, p_US, -1.0).argmax(axis=1))

    def slots_by_my_clock(self, other: "Outlook") -> NDArray[np.int64]:
        """The slots that `other` chose, as hours of the local time that these rules believe in."""
        apart_U = self.shift_U.astype(np.int64) - other.shift_U
        moved_U = np.round(apart_U / self.grid.minutes).astype(np.int64)
        return np.asarray((other.slot_U + moved_U) % self.grid.slots)
