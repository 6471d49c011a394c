"""The limits of a run in terms of its recipients: which resources there are, and which of them each option uses.

A group is a class of zones (slots start at the same moments) and a provider with limits of its own, or all others. A
send at a slot is spread over `bins` quarter-hours from its start on and takes one unit, a bins-th of a message, of
each: of the provider's and of the total. Loads are whole messages, at most one more than their share in each bin and
start, so where several starts meet in a bin a unit or two of its capacity are kept back for that.

G groups, S slots, R resources; a day is a UTC day.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.assign.census import OTHERS, Census, Starts
from sto_engine.assign.channels import lane_of, limits_of
from sto_engine.assign.demand import Demand
from sto_engine.assign.resources import BIN_MS, MARK, TOTAL, Kind, Resource
from sto_engine.assign.window import ZoneSlots
from sto_engine.config import Capacity
from sto_engine.rates import BIN_MINUTES, Rate, bin_capacity, day_budget, parse_rates
from sto_engine.tables import EMAIL
from sto_kernels.journal import DAY_MS
from sto_kernels.limits import Int64s, Limits

# marks the soft resource of `capacity.decluster`
EVEN = "even"


@dataclass(frozen=True)
class Market:
    """Resources, limits and groups of a run; `room_R` is the capacity in messages, for reports."""

    classes: list[Starts]
    providers: list[str]
    resources: list[Resource]
    limits: Limits
    room_R: Int64s
    unit_R: Int64s
    bins: int
    notes: tuple[str, ...]
    channels: tuple[str, ...] = (EMAIL,)

    @property
    def stratum_G(self) -> NDArray[np.int32]:
        """The provider of each group: groups of one are sampled alike, int32 [G]."""
        return np.tile(np.arange(len(self.providers), dtype=np.int32), len(self.classes))

    def groups_U(self, zones: ZoneSlots, names: Sequence[str], provider_U: NDArray[Any]) -> NDArray[np.int32]:
        """Group of each user of a bucket; `provider_U` indexes `names`."""
        class_of = {starts: i for i, starts in enumerate(self.classes)}
        class_Z = np.array([class_of.get(tuple(row), 0) for row in zones.start_ms_ZS.tolist()], np.int32)
        place = {name: i for i, name in enumerate(self.providers)}
        place_P = np.array([place.get(name, 0) for name in names], np.int32)
        if not len(class_Z) or not len(place_P):
            return np.zeros(len(provider_U), np.int32)
        return np.asarray(class_Z[zones.zone_U] * len(self.providers) + place_P[provider_U], np.int32)

    def capacities(self) -> dict[tuple[int, str], int]:
        """Messages that each quarter-hour takes, by provider and in total."""
        return {
            (resource.at_ms, resource.provider or TOTAL): int(room)
            for resource, room in zip(self.resources, self.room_R, strict=True)
            if resource.kind == "bin"
        }


def make_market(
    limits: Capacity,
    census: Census,
    slots: int,
    bins: int,
    past: Mapping[tuple[int, str], int],
    avoid_minutes: int = 0,
    channels: tuple[str, ...] = (EMAIL,),
) -> Market:
    """The market of everyone in the census; `past` are messages of earlier runs by quarter-hour and lane.

    With several channels `slots` are options (assign.channels): limits of mailbox providers are for email alone.

    A quarter-hour from :00 or :30 on takes less by its `avoid_minutes` without sends, so that rates hold in the rest.
    """
    providers = [OTHERS, *limits.limited_providers]
    classes = census.classes
    build = _Builder(limits, providers, classes, bins, _past_total(past, channels), avoid_minutes, channels)
    for group in range(len(classes) * len(providers)):
        for slot in range(slots):
            build.option(*divmod(group, len(providers)), slot, channels[slot * len(channels) // slots])
    share, note = _slot_share(limits, census)
    for slot in range(slots if build.rows else 0):
        if share is not None:
            build.slot(None, slot, share, census)
        if limits.decluster:
            build.slot(EVEN, slot, 1 / _open_slots(census), census)
    return build.market(slots, (note,) if note else ())


def demand_of(market: Market, census: Census) -> Demand:
    """What the pre-flight asks: groups by class, provider and mask, and the capacity that fixed sends leave."""
    slots, limits = market.limits.slots, market.limits
    rows = _by_group(market, census.free)
    group_G = np.array([group for group, _, _ in rows], np.int64)
    option_O = (group_G[:, None] * slots + np.arange(slots)).reshape(-1)
    width_O = np.diff(limits.first_O)[option_O]
    first_O = np.concatenate([[0], np.cumsum(width_O)]).astype(np.int64)
    entry_K = np.repeat(limits.first_O[option_O] - first_O[:-1], width_O) + np.arange(first_O[-1])
    pinned_R = limits.load_R(_fixed_GS(market, census))
    hard_R = limits.hard_R
    capacity_R = np.where(hard_R, limits.capacity_R, np.iinfo(np.int64).max // 4)
    return Demand(
        count_G=np.array([n for _, _, n in rows], np.int64),
        allowed_GS=_unpacked([mask for _, mask, _ in rows], slots),
        first_O=first_O,
        resource_K=limits.resource_K[entry_K],
        weight_K=limits.weight_K[entry_K],
        capacity_R=capacity_R - pinned_R,
        pinned_R=pinned_R,
        unit_R=market.unit_R,
        resources_R=market.resources,
    )


def _unpacked(masks: Sequence[int], slots: int) -> NDArray[np.bool_]:
    """Allowed slots of masks of bits, bool [M, S]."""
    width = -(-slots // 8)
    packed = np.frombuffer(b"".join(mask.to_bytes(width, "little") for mask in masks), np.uint8)
    return np.unpackbits(packed.reshape(len(masks), width), axis=1, count=slots, bitorder="little").astype(np.bool_)


def _fixed_GS(market: Market, census: Census) -> Int64s:
    n_GS = np.zeros((market.limits.groups, market.limits.slots), np.int64)
    for group, slot, n in _by_group(market, census.fixed):
        n_GS[group, slot] += n
    return n_GS


def _by_group(market: Market, counts: Mapping[tuple[Starts, str, int], int]) -> list[tuple[int, int, int]]:
    """Group, mask or slot, and number of each count, in order; providers without limits are OTHERS."""
    place = {starts: i for i, starts in enumerate(market.classes)}
    names = {name: i for i, name in enumerate(market.providers)}
    return [
        (place[starts] * len(names) + names.get(provider, 0), number, n)
        for (starts, provider, number), n in sorted(counts.items())
    ]


def _past_total(past: Mapping[tuple[int, str], int], channels: Sequence[str]) -> dict[tuple[int, str | None], int]:
    """Messages of each quarter-hour by whoever may have limits, all mail under None."""
    found: dict[tuple[int, str | None], int] = {}
    for (at, lane), n in past.items():
        for key in ((at, name) for name in (*limits_of(lane, channels), None)):
            found[key] = found.get(key, 0) + n
    return found


def _slot_share(limits: Capacity, census: Census) -> tuple[float | None, str | None]:
    """The largest share of a slot, raised to what the allowed slots must hold, and a word on that."""
    share, slots = limits.max_slot_share, _open_slots(census)
    if share is None or share * slots >= 1:
        return share, None
    return 1 / slots, f"capacity.max_slot_share raised from {share:g} to {1 / slots:.3g}: only {slots} slots are open"


def _open_slots(census: Census) -> int:
    """How many slots anybody may get who has a choice."""
    mask = 0
    for _, _, own in census.free:
        mask |= own
    return max(mask.bit_count(), 1)


class _Builder:
    """Numbers resources as options name them."""

    def __init__(
        self,
        limits: Capacity,
        providers: Sequence[str],
        classes: list[Starts],
        bins: int,
        past: Mapping[tuple[int, str | None], int],
        avoid_minutes: int,
        channels: Sequence[str],
    ) -> None:
        self.bins, self.classes, self.providers, self.past = bins, classes, list(providers), past
        self.avoid_minutes = avoid_minutes
        self.rates: dict[str | None, tuple[Rate, ...]] = {None: parse_rates(limits.total)}
        self.rates |= {name: parse_rates(limits.providers.get(name)) for name in providers if name != OTHERS}
        self.rates |= {MARK + name: parse_rates(limits.channels[name]) for name in channels if name in limits.channels}
        self.channels = channels
        self.warmup = {None if name == TOTAL else name: ramp for name, ramp in limits.warmup.items()}
        self.limits = limits
        self.per_bin = {who: bin_capacity(rates) for who, rates in self.rates.items()}
        self.place: dict[Resource, int] = {}
        self.rows: list[list[tuple[int, int]]] = []
        self.uses: dict[tuple[int, str, str], list[tuple[int, int]]] = {}
        # units that one message takes of a resource, by its start
        self.starts_of: dict[Resource, dict[int, int]] = {}
        self.soft: dict[Resource, float] = {}
        self.room: dict[Resource, int] = {}

    def option(self, zone: int, provider: int, slot: int, channel: str) -> None:
        """The resources of one option; many options start at one moment."""
        key = self.classes[zone][slot], self.providers[provider], channel
        if key not in self.uses:
            self.uses[key] = self._uses(*key)
        self.rows.append(list(self.uses[key]))

    def _uses(self, start: int, name: str, channel: str) -> list[tuple[int, int]]:
        """Numbers of the resources of a send to a provider from a moment on, and units that it takes of them."""
        found: dict[int, int] = {}
        lane = lane_of(channel, name, len(self.channels) > 1)
        for who in (None, *(who for who in limits_of(lane, self.channels) if who in self.rates)):
            for resource in self._resources(who, start):
                number = self.place.setdefault(resource, len(self.place))
                found[number] = found.get(number, 0) + 1
                self.starts_of.setdefault(resource, {})[start] = found[number]
        return sorted(found.items())

    def _resources(self, who: str | None, start: int) -> list[Resource]:
        kinds: list[tuple[Kind, int]] = []
        for j in range(self.bins):
            at = start + j * BIN_MS
            if self.per_bin[who] is not None:
                kinds.append(("bin", at))
            if self._budget(who, at // DAY_MS * DAY_MS) is not None:
                kinds.append(("day", at // DAY_MS * DAY_MS))
        return [Resource(kind, who, at) for kind, at in kinds]

    def _budget(self, who: str | None, day_ms: int) -> int | None:
        day: date = datetime.fromtimestamp(day_ms / 1000, UTC).date()
        return day_budget(self.rates[who], self.warmup.get(who), day)

    def slot(self, whose: str | None, slot: int, share: float, census: Census) -> None:
        """The share of a slot among those who have a choice: a hard limit, or (EVEN) one that gives way at a price."""
        users = sum(census.free.values())
        fixed = sum(n for (_, _, own), n in census.fixed.items() if own == slot)
        resource = Resource("slot", whose, slot)
        number = self.place.setdefault(resource, len(self.place))
        self.room[resource] = math.ceil(share * users) + fixed
        if whose == EVEN:
            self.soft[resource] = users / self.limits.decluster
        for row in self.rows[slot :: len(self.classes[0])]:
            row.append((number, 1))

    def _of_bin(self, resource: Resource) -> int:
        """Messages that a quarter-hour takes in the minutes that may be used."""
        whole = self.per_bin[resource.provider] or 0
        if resource.at_ms // BIN_MS % 2 == 0:
            return whole * (BIN_MINUTES - self.avoid_minutes) // BIN_MINUTES
        return whole

    def _capacity(self, resource: Resource) -> tuple[int, int, int]:
        """Messages, units of a message, and units that a resource takes."""
        if resource.kind == "slot":
            room = self.room[resource]
            return room, 1, room
        past, k = self.past, self.bins
        if resource.kind == "bin":
            whole = self._of_bin(resource)
            used = past.get((resource.at_ms, resource.provider), 0)
        else:
            whole = self._budget(resource.provider, resource.at_ms) or 0
            inside = range(resource.at_ms, resource.at_ms + DAY_MS, BIN_MS)
            used = sum(past.get((at, resource.provider), 0) for at in inside)
        room = max(whole - used, 0)
        spare = sum(w * (k - w) for w in self.starts_of[resource].values())
        return room, k, max(k * room + (k - 1) - spare, 0)

    def market(self, slots: int, notes: tuple[str, ...]) -> Market:
        resources = list(self.place)
        capacity = np.array([self._capacity(r) for r in resources], np.int64).reshape(-1, 3)
        entries = [entry for row in self.rows for entry in row]
        first_O = np.concatenate([[0], np.cumsum([len(row) for row in self.rows])]).astype(np.int64)
        limits = Limits(
            slots=slots,
            first_O=first_O,
            resource_K=np.array([number for number, _ in entries], np.int32),
            weight_K=np.array([weight for _, weight in entries], np.int32),
            capacity_R=np.ascontiguousarray(capacity[:, 2]),
            softness_R=np.array([self.soft.get(r, 0.0) for r in resources]),
        )
        room_R, unit_R = np.ascontiguousarray(capacity[:, 0]), np.ascontiguousarray(capacity[:, 1])
        channels = tuple(self.channels)
        return Market(self.classes, self.providers, resources, limits, room_R, unit_R, self.bins, notes, channels)
