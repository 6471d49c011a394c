"""From raw events to sends with latencies, human acts, machine flags and zone shifts (recipe, section 1).

    find_roles     duplicates, bounced mailings, which row starts a mailing, which one says that it was delivered
    join           mailings become sends; every act belongs to the last send before it in its campaign
    find_machines  link scanner, prefetching client, invalid address: shares of a user's sends
    judge          which acts are a person's
    find_floods    more acts on a day than a person has: none of them is his
    find_shifts    the heaviest offset against his zone that recent human acts state, and since when it holds
    settle         local times, latency of the first human act of each send, the stream of human acts

Each step walks a bucket once. Rows outside [start_ms, end_ms) do not exist: what they tell must not reach a feature.
The twin is `naive_history.clean`.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels import clean_flood, clean_join, clean_judge
from sto_kernels.compiled import read_only
from sto_kernels.journal import CLICK, CONVERSION, DELIVERED, DROPS, NO_OFFSET, OPEN, Cleaned, Events, Rules, Zones

MAX_OFFSET_MIN = 24 * 60
LABELS = {"none": -1, "click": CLICK, "conversion": CONVERSION}
_ROW_TYPES: dict[str, type[np.generic]] = {
    "start_U": np.int64,
    "campaign_N": np.int32,
    "kind_N": np.int8,
    "ts_N": np.int64,
    "stated_N": np.int16,
    "type_N": np.int8,
    "mobile_N": np.bool_,
    "machine_N": np.bool_,
}
_SKY_TYPES: dict[str, type[np.generic]] = {
    "zone_U": np.int32,
    "moments_ZK": np.int64,
    "offsets_ZK": np.int16,
    "own_U": np.bool_,
}


_RULES = Rules()


def clean(
    events: Events, zones: Zones, start_ms: int, end_ms: int, label: str = "none", rules: Rules = _RULES
) -> Cleaned:
    """Sends, human acts and flags of the events with start_ms <= ts < end_ms.

    `label` asks for the latency of each send's first human "click" or first "conversion" too. ValueError where arrays
    do not fit together, a code is unknown, or a user's rows are out of order; TypeError for a wider dtype.
    """
    if label not in LABELS:
        raise ValueError(f"label must be one of {sorted(LABELS)}; found {label!r}")
    _check(events, zones)
    rows = clean_join.Rows(*_columns(events, _ROW_TYPES))
    sky = clean_join.Sky(*_columns(zones, _SKY_TYPES))
    dropped_D, label_kind = np.zeros(DROPS, np.int64), LABELS[label]
    rules = _typed(rules)
    role_N = np.empty(len(rows.ts_N), np.int8)
    unsorted = clean_join.find_roles(rows, start_ms, end_ms, rules, role_N, dropped_D)
    if unsorted >= 0:
        raise ValueError(f"rows of a user must be sorted by campaign, ts, kind; those of user {unsorted} are not")
    sends, joined = _join(rows, sky, role_N, label_kind)
    n_sends, n_joined = int(joined.first_send_U[-1]), int(joined.first_act_U[-1])
    judged, flags = clean_judge.new_judged(n_joined), clean_judge.new_flags(len(rows.start_U) - 1)
    clean_judge.find_ages(rows, sends, joined, judged)
    clean_judge.find_machines(rows, sends, joined, judged, rules, flags)
    clean_judge.judge(rows, joined, flags.machine_U, rules.fast_click_ms, judged, dropped_D)
    clean_flood.find_floods(rows, joined, start_ms, end_ms, rules, judged, flags.machine_U, dropped_D)
    if zones.shifts:
        clean_judge.find_shifts(rows, sky, joined, judged, end_ms, rules.shift_share, flags)
        clean_judge.shift_sends(sends, n_sends, flags)
    acts = clean_judge.new_acts(n_joined)
    n_acts = clean_judge.settle(rows, sky, joined, judged, label_kind, sends, flags, acts)
    columns: list[Any] = [column[:n_sends] for column in sends] + [column[:n_acts] for column in acts]
    columns += [flags.machine_U, flags.invalid_U, flags.shift_U, dropped_D]
    return Cleaned(*columns)


def _typed(rules: Rules) -> Rules:
    """The rules as numbers of one type each: numba compiles once more for every other mixture."""
    values: list[Any] = [type(default)(value) for default, value in zip(_RULES, rules, strict=True)]
    return Rules(*values)


def _join(
    rows: clean_join.Rows, sky: clean_join.Sky, role_N: NDArray[np.int8], label_kind: int
) -> tuple[clean_join.Sends, clean_join.Joined]:
    kind_N = rows.kind_N[rows.start_U[0] : rows.start_U[-1]]
    sends = clean_join.new_sends(int(np.count_nonzero(kind_N <= DELIVERED)))
    acts = sum(int(np.count_nonzero(kind_N == kind)) for kind in {OPEN, CLICK, label_kind})
    joined = clean_join.new_joined(len(rows.start_U) - 1, acts)
    clean_join.join(rows, sky, role_N, label_kind, sends, joined)
    return sends, joined


def _columns(table: Events | Zones, types: Mapping[str, type[np.generic]]) -> list[NDArray[Any]]:
    return [read_only(getattr(table, name), dtype) for name, dtype in types.items()]


def _check(events: Events, zones: Zones) -> None:
    _check_rows(events)
    users = len(events.start_U) - 1
    if len(zones.zone_U) != users or len(zones.own_U) != users:
        raise ValueError(f"zones must know {users} users; found {len(zones.zone_U)} and {len(zones.own_U)}")
    known, changes = zones.moments_ZK.shape
    if zones.offsets_ZK.shape != (known, changes + 1):
        raise ValueError(f"zones.offsets_ZK must be {(known, changes + 1)}; found {zones.offsets_ZK.shape}")
    if zones.zone_U.min(initial=0) < 0 or (users and zones.zone_U.max() >= known):
        raise ValueError(f"zones.zone_U must be in 0..{known - 1}")


def _check_rows(events: Events) -> None:
    start_U, rows = events.start_U, len(events.ts_N)
    lengths = {f.name: len(getattr(events, f.name)) for f in fields(events) if f.name.endswith("_N")}
    if set(lengths.values()) != {rows}:
        raise ValueError(f"events must have columns of one length; found {lengths}")
    if not len(start_U) or np.any(np.diff(start_U) < 0) or start_U[0] < 0 or start_U[-1] > rows:
        raise ValueError(f"events.start_U must ascend within 0..{rows} and hold at least one number")
    for name, values, below in (("kind_N", events.kind_N, 8), ("type_N", events.type_N, 3)):
        if values.min(initial=0) < 0 or values.max(initial=0) >= below:
            raise ValueError(f"events.{name} must be in 0..{below - 1}; found {values.min()}..{values.max()}")
    stated = events.stated_N
    if np.any((stated > MAX_OFFSET_MIN) | ((stated < -MAX_OFFSET_MIN) & (stated != NO_OFFSET))):
        raise ValueError(f"events.stated_N must be minutes within a day or {NO_OFFSET}")
