"""One run, several channels: pairs of channel and slot as one axis, and what is counted of each channel apart.

Option o of a run with S slots is slot o % S on channel o // S, channels in the order of the list; with one channel an
option is a slot. Loads are told by lane: of email by mailbox provider, of another channel as a whole, "channel:push".
U users, S slots, C channels, O = C * S options, P providers.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sto_engine.assign.resources import MARK
from sto_engine.assign.window import ZoneSlots
from sto_engine.config import Config
from sto_engine.errors import ConfigError, UsageError
from sto_engine.tables import CHANNELS, EMAIL

# an option is a byte, and what stands for none lies above
MOST_OPTIONS = 250
_TABLES = ("start_ms_ZS", "offset_min_ZS", "exists_ZS", "open_ZS", "window_S")
Array = TypeVar("Array", bound=NDArray[Any] | None)


@dataclass(frozen=True)
class Options:
    """The axis of a run: its channels and the slots of each."""

    channels: tuple[str, ...]
    slots: int

    @property
    def size(self) -> int:
        return len(self.channels) * self.slots

    @property
    def several(self) -> bool:
        return len(self.channels) > 1

    def slot_of(self, option_U: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Slot of the day of each option, uint8 [U]."""
        return np.asarray(option_U % self.slots, np.uint8) if self.several else option_U

    def channel_of(self, option_U: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Place among the channels of each option, int64 [U]."""
        return np.asarray(option_U, np.int64) // self.slots

    def repeat(self, by_slot: Array) -> Array:
        """What holds for a slot on every channel, its last axis S made O; None stays None."""
        if by_slot is None or not self.several:
            return by_slot
        return np.concatenate([by_slot] * len(self.channels), axis=-1)  # type: ignore[return-value]

    def each_slot(self, by_UC: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """What holds for a channel in every slot of it, [U, C] made [U, O]; None stays None."""
        return None if by_UC is None else np.repeat(by_UC, self.slots, axis=1)

    def over(self, zones: ZoneSlots) -> ZoneSlots:
        """Slot tables of options."""
        if not self.several:
            return zones
        return replace(zones, **{name: self.repeat(getattr(zones, name)) for name in _TABLES})

    def columns(self, channel: str) -> slice:
        """The options of a channel."""
        first = self.channels.index(channel) * self.slots
        return slice(first, first + self.slots)

    def block(self, zones: ZoneSlots, channel: str) -> ZoneSlots:
        """The tables of the slots of one channel alone, without masks of single users."""
        own = {name: getattr(zones, name)[..., self.columns(channel)] for name in _TABLES}
        return replace(zones, **own, user_US=None, left_US=None)

    def lanes(self, providers: Sequence[str]) -> tuple[list[str], NDArray[np.int32]]:
        """Names of the lanes, and the lane of each channel and provider, int32 [C, P]."""
        mail_P = np.arange(len(providers), dtype=np.int32)
        names, rows = list(providers), []
        for channel in self.channels:
            if not self.several or channel == EMAIL:
                rows.append(mail_P)
            else:
                rows.append(np.full(len(providers), len(names), np.int32))
                names.append(MARK + channel)
        return names, np.stack(rows)

    def starts(
        self, zones: ZoneSlots, option_U: NDArray[np.uint8], providers: Sequence[str], provider_U: NDArray[np.int32]
    ) -> Counter[tuple[int, str]]:
        """Messages of each start (UTC, ms) and lane."""
        lanes, lane_CP = self.lanes(providers)
        start_ZS, cells = zones.start_ms_ZS, (zones.zone_U, option_U, lane_CP[self.channel_of(option_U), provider_U])
        shape = (*start_ZS.shape, len(lanes))
        n_ZSL = np.bincount(np.ravel_multi_index(cells, shape), minlength=int(np.prod(shape))).reshape(shape)
        found: Counter[tuple[int, str]] = Counter()
        for zone, option, lane in np.argwhere(n_ZSL):
            found[int(start_ZS[zone, option]), lanes[lane]] += int(n_ZSL[zone, option, lane])
        return found


def lane_of(channel: str, provider: str, several: bool) -> str:
    """The lane of one message."""
    return MARK + channel if several and channel != EMAIL else provider


def limits_of(lane: str, channels: Sequence[str]) -> tuple[str, ...]:
    """Who may have limits that the messages of a lane count for, beside all mail: the lane and its channel."""
    if lane.startswith(MARK):
        return (lane,)
    if len(channels) == 1:
        return lane, MARK + channels[0]
    return (lane, MARK + EMAIL) if EMAIL in channels else (lane,)


def parse_channels(text: str | None, config: Config) -> tuple[str, ...]:
    """The channels of `--channel` (a comma list), else of `channels.choose`, else email.

    Raises UsageError (2) for a name that is not known or stands twice, or for none at all.
    """
    if text is None and config.channels.choose:
        names, where = config.channels.choose, "channels.choose"
    else:
        names, where = tuple(part.strip() for part in (EMAIL if text is None else text).split(",")), "--channel"
    known = (*CHANNELS, *config.channels.names)
    for name in names:
        if name not in known:
            raise UsageError(
                f"{where} must name {', '.join(known)}, or what channels.names adds; {_nearest(name, known)}"
            )
    if len(set(names)) < len(names):
        raise UsageError(f"{where} must name each channel once; found {','.join(names)}")
    return names


def check_channels(config: Config, options: Options, grid_days: int) -> None:
    """Raise ConfigError (78) for settings of channels nobody knows, and for pairs that a run cannot choose from."""
    known = (*CHANNELS, *config.channels.names)
    for key, named in (
        ("channels.reach", config.channels.reach),
        ("capacity.channels", config.capacity.channels),
        ("frequency.channels", config.frequency.channels),
    ):
        for name in named:
            if name not in known:
                raise ConfigError(
                    f"{key} must name {', '.join(known)}, or what channels.names adds; {_nearest(name, known)}"
                )
    if not options.several:
        return
    if grid_days != 1:
        raise ConfigError(
            f"several channels ({', '.join(options.channels)}) need a grid of one day; found slots.grid = "
            f"{options.slots}; use 24 or 48, or score one channel"
        )
    if options.size > MOST_OPTIONS:
        raise ConfigError(
            f"a run chooses from at most {MOST_OPTIONS} pairs of channel and slot; {len(options.channels)} channels x "
            f"{options.slots} slots make {options.size}; "
            "use slots.grid = 24 or fewer channels"
        )


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f'found "{name}"; nearest: "{near[0]}"'
