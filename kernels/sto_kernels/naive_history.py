"""Plain twin of `clean_walk`: one user at a time, lists and dicts. For tests; `naive_counts` holds the other twins.

Same arguments and results. It follows the words of the rules, not the steps of the kernels: rows become mailings, acts
look for their mailing, and every number is counted anew from those.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sto_kernels.journal import (
    BOUNCE,
    CLICK,
    CONVERSION,
    DAY_MS,
    DELIVERED,
    DROPS,
    DUPLICATE_ROWS,
    EARLY_ACTS,
    FAST_CLICKS,
    FLAGGED_ACTS,
    FLOOD,
    FLOODED_ACTS,
    HUMAN,
    MACHINE_ACTS,
    NO_OFFSET,
    NO_TIME,
    OPEN,
    ORPHAN_ACTS,
    PREFETCH,
    PREFETCHED_ACTS,
    PROMO,
    SCANNED_ACTS,
    SCANNER,
    SEND,
    Cleaned,
    Events,
    Rules,
    Zones,
)
from sto_kernels.journal import BOUNCED_SENDS as BOUNCED

SECOND_MS, MINUTE_MS = 1000, 60_000


@dataclass(frozen=True)
class _Row:
    campaign: int
    kind: int
    ts: int
    stated: int
    type: int
    mobile: bool
    machine: bool
    zone_min: int


@dataclass
class _Mailing:
    """A send, or a delivery without one, and the acts upon it."""

    start: _Row
    clock: _Row
    bounced: bool = False
    acts: list[_Row] = field(default_factory=list)

    def age(self, act: _Row) -> int:
        return max(act.ts - self.clock.ts, 0)

    def stated(self) -> int:
        return self.clock.stated if self.clock.stated != NO_OFFSET else self.start.stated


@dataclass
class _User:
    """What the rules make of one user."""

    mailings: list[_Mailing]
    orphans: list[_Row]
    signs: bool
    dropped: list[int]
    rules: Rules
    machine: int = HUMAN
    flood: bool = False
    shift: int = 0
    since: int = NO_TIME

    def by_machine(self, mailing: _Mailing | None, act: _Row) -> int | None:
        """The rule by which an open or click is no person's, floods aside."""
        if act.machine:
            return FLAGGED_ACTS
        if act.kind == OPEN and self.machine == PREFETCH:
            return PREFETCHED_ACTS
        if mailing is not None and act.kind == CLICK and mailing.age(act) < self.rules.fast_click_ms:
            return FAST_CLICKS
        if mailing is not None and self.machine == SCANNER and mailing.age(act) < 30 * SECOND_MS:
            return SCANNED_ACTS
        return None

    def is_human(self, mailing: _Mailing, act: _Row) -> bool:
        return act.kind in (OPEN, CLICK) and not self.flood and self.by_machine(mailing, act) is None

    def human_acts(self) -> list[_Row]:
        return [act for m in self.mailings for act in m.acts if self.is_human(m, act)]

    def strays(self) -> list[_Row]:
        """Opens of a person that belong to no send."""
        mine = [act for act in self.orphans if act.kind == OPEN and self.by_machine(None, act) is None]
        return [] if self.flood else mine


_RULES = Rules()


def clean(
    events: Events, zones: Zones, start_ms: int, end_ms: int, label: str = "none", rules: Rules = _RULES
) -> Cleaned:
    users = [
        _understand(_rows_of(events, zones, u, start_ms, end_ms), zones.shifts and not zones.own_U[u], end_ms, rules)
        for u in range(len(zones.zone_U))
    ]
    sends = [(u, m) for u, user in enumerate(users) for m in user.mailings]
    acts = [(u, act) for u, user in enumerate(users) for act in _stream(user)]

    def local(u: int, ts: int, zone_min: int, stated: int) -> int:
        user = users[u]
        offset = stated if zones.own_U[u] and stated != NO_OFFSET else zone_min
        return ts + (offset + (user.shift if ts >= user.since else 0)) * MINUTE_MS

    return Cleaned(
        user_S=np.array([u for u, _ in sends], np.int32),
        utc_S=np.array([m.clock.ts for _, m in sends], np.int64),
        local_S=np.array([local(u, m.clock.ts, m.clock.zone_min, m.stated()) for u, m in sends], np.int64),
        latency_S=np.array([_first_act(users[u], m) for u, m in sends], np.int64),
        campaign_S=np.array([m.start.campaign for _, m in sends], np.int32),
        type_S=np.array([m.start.type for _, m in sends], np.int8),
        label_S=np.array([_first_label(users[u], m, label) for u, m in sends], np.int64),
        user_A=np.array([u for u, _ in acts], np.int32),
        utc_A=np.array([act.ts for _, act in acts], np.int64),
        local_A=np.array([local(u, act.ts, act.zone_min, act.stated) for u, act in acts], np.int64),
        mobile_A=np.array([act.mobile for _, act in acts], np.bool_),
        machine_U=np.array([FLOOD if user.flood else user.machine for user in users], np.int8),
        invalid_U=np.array([not user.signs and len(user.mailings) >= rules.invalid_sends for user in users], np.bool_),
        shift_U=np.array([user.shift for user in users], np.int16),
        dropped_D=np.sum([user.dropped for user in users] or [[0] * DROPS], axis=0).astype(np.int64),
    )


def _rows_of(events: Events, zones: Zones, u: int, start_ms: int, end_ms: int) -> list[_Row]:
    moments, offsets = zones.moments_ZK[zones.zone_U[u]], zones.offsets_ZK[zones.zone_U[u]]
    names = ("campaign_N", "kind_N", "ts_N", "stated_N", "type_N", "mobile_N", "machine_N")
    rows = []
    for i in range(events.start_U[u], events.start_U[u + 1]):
        values: list[Any] = [getattr(events, name)[i].item() for name in names]
        if start_ms <= values[2] < end_ms:
            values.append(int(offsets[sum(values[2] >= moment for moment in moments.tolist())]))
            rows.append(_Row(*values))
    return rows


def _understand(rows: list[_Row], shifts: bool, end_ms: int, rules: Rules) -> _User:
    dropped = [0] * DROPS
    kept = _without_duplicates(rows, dropped, rules)
    mailings = _mailings(kept if rules.bounces else [row for row in kept if row.kind != BOUNCE])
    dropped[BOUNCED] = sum(m.bounced for m in mailings)
    mailings = [m for m in mailings if not m.bounced]
    acts = [row for row in kept if row.kind not in (SEND, DELIVERED, BOUNCE)]
    user = _User(mailings, _assign(acts, mailings), len(acts) > 0, dropped, rules)
    user.machine = _machine(mailings, rules)
    _count_drops(user)
    if user.machine == HUMAN and _is_flood(rows, rules):
        left = len(user.human_acts() + user.strays())
        dropped[MACHINE_ACTS] += left
        dropped[FLOODED_ACTS] += left
        user.flood = True
    if shifts:
        user.shift = _accepted_shift(user.human_acts(), end_ms, rules)
        user.since = _since(user.human_acts(), user.shift)
    return user


def _count_drops(user: _User) -> None:
    """What each rule but that of floods takes away."""
    pairs: list[tuple[_Mailing | None, _Row]] = [(m, act) for m in user.mailings for act in m.acts]
    pairs += [(None, act) for act in user.orphans]
    for mailing, act in pairs:
        if act.kind not in (OPEN, CLICK):
            continue
        why = user.by_machine(mailing, act)
        if why is not None:
            user.dropped[MACHINE_ACTS] += 1
            user.dropped[why] += 1
        elif mailing is None:
            later = any(m.start.campaign == act.campaign and m.start.ts > act.ts for m in user.mailings)
            user.dropped[EARLY_ACTS if later else ORPHAN_ACTS] += 1


def _is_flood(rows: list[_Row], rules: Rules) -> bool:
    by_day = Counter(row.ts // DAY_MS for row in rows if row.kind in (OPEN, CLICK) and not row.machine)
    full = [n for n in by_day.values() if n >= rules.flood_acts]
    return len(full) >= rules.flood_days and sum(full) / max(by_day.total(), 1) > rules.flood_share


def _without_duplicates(rows: list[_Row], dropped: list[int], rules: Rules) -> list[_Row]:
    last: dict[tuple[int, int], int] = {}
    kept = []
    for row in rows:
        key = row.campaign, row.kind
        again = row.kind != CLICK and row.ts - last.get(key, NO_TIME) < rules.duplicate_ms
        last[key] = row.ts
        dropped[DUPLICATE_ROWS] += again
        kept += [] if again else [row]
    return kept


def _mailings(rows: list[_Row]) -> list[_Mailing]:
    found: list[_Mailing] = []
    current: dict[int, _Mailing] = {}
    for row in rows:
        mailing = current.get(row.campaign)
        sent = mailing is not None and mailing.start.kind == SEND
        if row.kind == SEND or (row.kind == DELIVERED and not sent):
            current[row.campaign] = _Mailing(row, row)
            found.append(current[row.campaign])
        elif row.kind == DELIVERED and mailing is not None and mailing.clock is mailing.start:
            mailing.clock = row
        elif row.kind == BOUNCE and mailing is not None:
            mailing.bounced = True
            del current[row.campaign]
    return found


def _assign(acts: list[_Row], mailings: list[_Mailing]) -> list[_Row]:
    """Give each act to the last mailing that started before it; those without one come back."""
    orphans: list[_Row] = []
    for act in acts:
        before = [m for m in mailings if m.start.campaign == act.campaign and m.start.ts <= act.ts]
        (before[-1].acts if before else orphans).append(act)
    return orphans


def _machine(mailings: list[_Mailing], rules: Rules) -> int:
    def share(of: list[_Mailing], kind: int, within_s: int) -> float:
        hit = sum(any(_is_fast(m, act, kind, within_s) for act in m.acts) for m in of)
        return hit / max(len(of), 1)

    promos = [m for m in mailings if m.start.type == PROMO]
    if len(mailings) >= 3 and share(mailings, CLICK, 15) > rules.scanner_share:
        return SCANNER
    return PREFETCH if len(promos) >= 3 and share(promos, OPEN, 180) > rules.prefetch_share else HUMAN


def _is_fast(mailing: _Mailing, act: _Row, kind: int, within_s: int) -> bool:
    return act.kind == kind and not act.machine and mailing.age(act) < within_s * SECOND_MS


def _shift_of(act: _Row) -> int:
    return 0 if act.stated == NO_OFFSET else act.stated - act.zone_min


def _accepted_shift(acts: list[_Row], end_ms: int, rules: Rules) -> int:
    weight: dict[int, float] = defaultdict(float)
    total = 0.0
    for act in acts:
        if act.ts > end_ms - 60 * DAY_MS:
            now = math.exp((act.ts - end_ms) / DAY_MS / 20.0)
            weight[_shift_of(act)] += now
            total += now
    away = sorted((shift for shift in weight if shift != 0), key=lambda shift: (-weight[shift], shift))
    return away[0] if away and weight[away[0]] > rules.shift_share * total else 0


def _since(acts: list[_Row], shift: int) -> int:
    if shift == 0:
        return NO_TIME
    first = min(act.ts for act in acts if _shift_of(act) == shift)
    before = sum(_shift_of(act) == 0 and act.ts < first for act in acts)
    return first - 3 * DAY_MS if before >= 3 else NO_TIME


def _stream(user: _User) -> list[_Row]:
    return sorted(user.human_acts() + user.strays(), key=lambda act: (act.campaign, act.ts, act.kind))


def _first_act(user: _User, mailing: _Mailing) -> int:
    return min((mailing.age(act) for act in mailing.acts if user.is_human(mailing, act)), default=-1)


def _first_label(user: _User, mailing: _Mailing, label: str) -> int:
    if label == "conversion":
        return min((mailing.age(act) for act in mailing.acts if act.kind == CONVERSION), default=-1)
    clicks = [act for act in mailing.acts if label == "click" and act.kind == CLICK and user.is_human(mailing, act)]
    return min((mailing.age(act) for act in clicks), default=-1)
