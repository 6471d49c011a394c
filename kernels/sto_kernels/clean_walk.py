"""From raw events to sends with latencies, human acts, machine flags and zone shifts (recipe, section 1).

    for each user:
        roles    duplicates, bounced mailings, which row starts a mailing, which one says that it was delivered
        join     mailings become sends; every act belongs to the last send before it in its campaign
        flags    link scanner, prefetching client, invalid address: shares of his sends
        human    which acts are a person's
        shift    the heaviest offset against his zone that recent human acts state, and since when it holds
        settle   local times, latency of the first human act of each send, the stream of human acts

A user's data stay in the cache between the steps. Shares divide before they compare and weights sum in row order: the
twin `naive_history.clean` agrees in every bit. Rows outside [start, end) do not exist. Letters as in `journal`.
"""

from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only
from sto_kernels.journal import (
    BOUNCE,
    BOUNCED_SENDS,
    CLICK,
    CONVERSION,
    DAY_MS,
    DELIVERED,
    DROPS,
    DUPLICATE_ROWS,
    HUMAN,
    MACHINE_ACTS,
    NO_LATENCY,
    NO_OFFSET,
    NO_TIME,
    OPEN,
    ORPHAN_ACTS,
    PREFETCH,
    PROMO,
    SCANNER,
    SEND,
    Cleaned,
    Events,
    Zones,
)

DUPLICATE_MS = 5000
SCANNER_CLICK_MS, SCANNER_SHARE, SCANNER_SENDS, SCANNER_ACT_MS = 15_000, 0.30, 3, 30_000
PREFETCH_MS, PREFETCH_SHARE, PREFETCH_PROMOS = 180_000, 0.35, 3
FAST_CLICK_MS = 3000
INVALID_SENDS = 12
SHIFT_DAYS, SHIFT_DECAY_DAYS, SHIFT_SHARE = 60, 20.0, 0.3
MAX_OFFSET_MIN = 24 * 60
RELOCATION_ACTS, RELOCATION_LEAD_MS = 3, 3 * DAY_MS
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
_SKIP, _MAILING, _DELIVERY, _ACT = range(4)
_MINUTE_MS = 60_000
_ORPHAN = -1
Array = NDArray[Any]


class _Window(NamedTuple):
    start_ms: int
    end_ms: int
    label: int
    shifts: bool


class _Rows(NamedTuple):
    start_U: Array
    campaign_N: Array
    kind_N: Array
    ts_N: Array
    stated_N: Array
    type_N: Array
    mobile_N: Array
    machine_N: Array


class _Sky(NamedTuple):
    zone_U: Array
    moments_ZK: Array
    offsets_ZK: Array
    own_U: Array


class _Sends(NamedTuple):
    user: Array
    utc: Array
    local: Array
    latency: Array
    campaign: Array
    type: Array
    label: Array
    stated: Array


class _Acts(NamedTuple):
    """Human acts of all users: output."""

    user: Array
    utc: Array
    local: Array
    mobile: Array


class _User(NamedTuple):
    """Room for the acts of the user at hand (opens, clicks, conversions), as long as the longest user."""

    role: Array
    row: Array
    owner: Array
    zone_min: Array
    human: Array
    shift: Array
    weight: Array


def clean(events: Events, zones: Zones, start_ms: int, end_ms: int, label: str = "none") -> Cleaned:
    """Sends, human acts and flags of the events with start_ms <= ts < end_ms.

    `label` asks for the latency of each send's first human "click" or first "conversion" too. ValueError where arrays
    do not fit together, a code is unknown, or a user's rows are out of order.
    """
    if label not in LABELS:
        raise ValueError(f"label must be one of {sorted(LABELS)}; found {label!r}")
    _check(events, zones)
    users, most = len(events.start_U) - 1, int(np.diff(events.start_U).max(initial=0))
    rows = slice(int(events.start_U[0]), int(events.start_U[-1]))
    sends = int(np.count_nonzero(events.kind_N[rows] <= DELIVERED))
    acts = int(np.count_nonzero((events.kind_N[rows] == OPEN) | (events.kind_N[rows] == CLICK)))
    send_table, act_table = _new_sends(sends), _new_acts(acts)
    machine_U, invalid_U, shift_U = np.zeros(users, np.int8), np.zeros(users, np.bool_), np.zeros(users, np.int16)
    dropped_D = np.zeros(DROPS, np.int64)
    n_sends, n_acts, unsorted = _walk(
        _Rows(*(read_only(getattr(events, name), dtype) for name, dtype in _ROW_TYPES.items())),
        _Sky(*(read_only(getattr(zones, name), dtype) for name, dtype in _SKY_TYPES.items())),
        _Window(start_ms, end_ms, LABELS[label], zones.shifts),
        send_table,
        act_table,
        _new_user(most),
        machine_U,
        invalid_U,
        shift_U,
        dropped_D,
    )
    if unsorted >= 0:
        raise ValueError(f"rows of a user must be sorted by campaign, ts, kind; those of user {unsorted} are not")
    columns: list[Any] = [column[:n_sends] for column in send_table[:-1]] + [column[:n_acts] for column in act_table]
    columns += [machine_U, invalid_U, shift_U, dropped_D]
    return Cleaned(*columns)


def _check(events: Events, zones: Zones) -> None:
    start_U, rows, users = events.start_U, len(events.ts_N), len(events.start_U) - 1
    lengths = {f.name: len(getattr(events, f.name)) for f in fields(events) if f.name.endswith("_N")}
    if set(lengths.values()) != {rows}:
        raise ValueError(f"events must have columns of one length; found {lengths}")
    if users < 0 or np.any(np.diff(start_U) < 0) or start_U[0] < 0 or start_U[-1] > rows:
        raise ValueError(f"events.start_U must ascend within 0..{rows} and hold at least one number")
    for name, values, below in (("kind_N", events.kind_N, 8), ("type_N", events.type_N, 3)):
        if values.min(initial=0) < 0 or values.max(initial=0) >= below:
            raise ValueError(f"events.{name} must be in 0..{below - 1}; found {values.min()}..{values.max()}")
    stated = events.stated_N
    if np.any((stated > MAX_OFFSET_MIN) | ((stated < -MAX_OFFSET_MIN) & (stated != NO_OFFSET))):
        raise ValueError(f"events.stated_N must be minutes within a day or {NO_OFFSET}")
    if len(zones.zone_U) != users or len(zones.own_U) != users:
        raise ValueError(f"zones must know {users} users; found {len(zones.zone_U)} and {len(zones.own_U)}")
    known, changes = zones.moments_ZK.shape
    if zones.offsets_ZK.shape != (known, changes + 1):
        raise ValueError(f"zones.offsets_ZK must be {(known, changes + 1)}; found {zones.offsets_ZK.shape}")
    if zones.zone_U.min(initial=0) < 0 or (users and zones.zone_U.max() >= known):
        raise ValueError(f"zones.zone_U must be in 0..{known - 1}")


def _new_sends(n: int) -> _Sends:
    longs = [np.empty(n, np.int64) for _ in range(4)]
    narrow = np.empty(n, np.int32), np.empty(n, np.int8), np.empty(n, np.int16)
    return _Sends(np.empty(n, np.int32), longs[0], longs[1], longs[2], narrow[0], narrow[1], longs[3], narrow[2])


def _new_acts(n: int) -> _Acts:
    return _Acts(np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.bool_))


def _new_user(n: int) -> _User:
    wide = np.empty(n, np.int64), np.empty(n, np.int64)
    narrow = np.empty(n, np.int16), np.empty(n, np.bool_), np.empty(n, np.int16)
    return _User(np.empty(n, np.int8), *wide, *narrow, np.empty(n, np.float64))


@jit
def _walk(
    rows: _Rows,
    sky: _Sky,
    window: _Window,
    sends: _Sends,
    acts: _Acts,
    user: _User,
    machine_U: Array,
    invalid_U: Array,
    shift_U: Array,
    dropped_D: Array,
) -> tuple[int, int, int]:
    n_sends, n_acts = 0, 0
    for u in range(len(rows.start_U) - 1):
        first, last = rows.start_U[u], rows.start_U[u + 1]
        if not _roles(rows, first, last, window, user.role, dropped_D):
            return 0, 0, u
        sent = n_sends
        n_sends, n_user, signs = _join(rows, sky, u, window.label, sends, n_sends, user)
        machine_U[u] = _machine(rows, sends, sent, n_sends, user, n_user)
        invalid_U[u] = signs == 0 and n_sends - sent >= INVALID_SENDS
        _judge(rows, sends, machine_U[u], user, n_user, dropped_D)
        shift, since = 0, NO_TIME
        if window.shifts and not sky.own_U[u]:
            shift = _heaviest_shift(rows, window.end_ms, user, n_user)
        if shift != 0:
            since = _shift_since(rows, shift, user, n_user)
        shift_U[u] = shift
        _place(sends, sent, n_sends, shift, since)
        n_acts = _settle(rows, sky.own_U[u], window.label, u, sends, acts, n_acts, user, n_user, shift, since)
    return n_sends, n_acts, -1


@jit
def _roles(rows: _Rows, first: int, last: int, window: _Window, role: Array, dropped_D: Array) -> bool:
    """What each row is; False where rows are out of order. A bounce drops its mailing and that one's deliveries."""
    last_ts = np.full(8, NO_TIME, np.int64)
    mailing, delivered = -1, False
    for i in range(first, last):
        kind, ts = rows.kind_N[i], rows.ts_N[i]
        role[i - first] = _SKIP
        if i > first and rows.campaign_N[i] != rows.campaign_N[i - 1]:
            last_ts[:] = NO_TIME
            mailing = -1
        elif i > first and (ts < rows.ts_N[i - 1] or (ts == rows.ts_N[i - 1] and kind < rows.kind_N[i - 1])):
            return False
        if ts < window.start_ms or ts >= window.end_ms:
            continue
        again = ts - last_ts[kind] < DUPLICATE_MS
        last_ts[kind] = ts
        if again and kind != CLICK:
            dropped_D[DUPLICATE_ROWS] += 1
        elif kind == SEND or (kind == DELIVERED and (mailing < 0 or rows.kind_N[mailing] == DELIVERED)):
            role[i - first] = _MAILING
            mailing, delivered = i, False
        elif kind == DELIVERED:
            role[i - first] = _SKIP if delivered else _DELIVERY
            delivered = True
        elif kind != BOUNCE:
            role[i - first] = _ACT
        elif mailing >= 0:
            _drop_mailing(role, mailing - first, i - first)
            dropped_D[BOUNCED_SENDS] += 1
            mailing = -1
    return True


@jit
def _drop_mailing(role: Array, first: int, last: int) -> None:
    for j in range(first, last):
        if role[j] != _ACT:
            role[j] = _SKIP


@jit
def _zone_min(sky: _Sky, u: int, ts: int) -> Any:
    z, k = sky.zone_U[u], 0
    while k < sky.moments_ZK.shape[1] and ts >= sky.moments_ZK[z, k]:
        k += 1
    return sky.offsets_ZK[z, k]


@jit
def _join(rows: _Rows, sky: _Sky, u: int, label: int, sends: _Sends, n_sends: int, user: _User) -> tuple[int, int, int]:
    """Append the user's sends and list his acts with their owners. -> (sends, acts of the user, signs of life)."""
    first, owner, n_user, signs = rows.start_U[u], _ORPHAN, 0, 0
    for i in range(first, rows.start_U[u + 1]):
        role, kind = user.role[i - first], rows.kind_N[i]
        if i > first and rows.campaign_N[i] != rows.campaign_N[i - 1]:
            owner = _ORPHAN
        if role == _MAILING:
            owner = n_sends
            sends.user[owner], sends.campaign[owner], sends.type[owner] = u, rows.campaign_N[i], rows.type_N[i]
            sends.stated[owner] = NO_OFFSET
            _set_clock(rows, sky, u, i, sends, owner)
            n_sends += 1
        elif role == _DELIVERY:
            _set_clock(rows, sky, u, i, sends, owner)
        elif role == _ACT:
            signs += 1
            if kind in (OPEN, CLICK, label):
                user.row[n_user], user.owner[n_user] = i, owner
                user.zone_min[n_user] = _zone_min(sky, u, rows.ts_N[i])
                n_user += 1
    return n_sends, n_user, signs


@jit
def _set_clock(rows: _Rows, sky: _Sky, u: int, i: int, sends: _Sends, s: int) -> None:
    """Row i is the zero of the clock of send s: its latencies and local time count from there."""
    ts, offset = rows.ts_N[i], _zone_min(sky, u, rows.ts_N[i])
    if sky.own_U[u]:
        if rows.stated_N[i] != NO_OFFSET:
            sends.stated[s] = rows.stated_N[i]
        if sends.stated[s] != NO_OFFSET:
            offset = sends.stated[s]
    sends.utc[s], sends.local[s] = ts, ts + offset * _MINUTE_MS
    sends.latency[s], sends.label[s] = NO_LATENCY, NO_LATENCY


@jit
def _age(rows: _Rows, sends: _Sends, user: _User, j: int) -> Any:
    """Milliseconds from the clock's zero to act j of a send; an act between the send and its delivery has age 0."""
    return max(rows.ts_N[user.row[j]] - sends.utc[user.owner[j]], 0)


@jit
def _machine(rows: _Rows, sends: _Sends, sent: int, n_sends: int, user: _User, n_user: int) -> int:
    """SCANNER, PREFETCH or HUMAN by the shares of sends with a fast click and of promos with an early open."""
    promos, clicked, opened, last_clicked, last_opened = 0, 0, 0, _ORPHAN, _ORPHAN
    for s in range(sent, n_sends):
        promos += sends.type[s] == PROMO
    for j in range(n_user):
        s, i = user.owner[j], user.row[j]
        if s == _ORPHAN:
            continue
        kind, age = rows.kind_N[i], _age(rows, sends, user, j)
        if kind == CLICK and age < SCANNER_CLICK_MS and s != last_clicked:
            clicked, last_clicked = clicked + 1, s
        early = kind == OPEN and not rows.machine_N[i] and age < PREFETCH_MS
        if early and sends.type[s] == PROMO and s != last_opened:
            opened, last_opened = opened + 1, s
    if n_sends - sent >= SCANNER_SENDS and clicked / (n_sends - sent) > SCANNER_SHARE:
        return SCANNER
    if promos >= PREFETCH_PROMOS and opened / promos > PREFETCH_SHARE:
        return PREFETCH
    return HUMAN


@jit
def _judge(rows: _Rows, sends: _Sends, machine: int, user: _User, n_user: int, dropped_D: Array) -> None:
    """Mark the acts of a person; a machine's open loses its row, so that it is not even an act without a send."""
    for j in range(n_user):
        kind, flagged = rows.kind_N[user.row[j]], rows.machine_N[user.row[j]]
        user.human[j] = False
        if kind == CONVERSION:
            continue
        if kind == OPEN and (flagged or machine == PREFETCH):
            dropped_D[MACHINE_ACTS] += 1
            user.row[j] = -1
        elif user.owner[j] == _ORPHAN:
            dropped_D[ORPHAN_ACTS] += 1
        else:
            age = _age(rows, sends, user, j)
            by_machine = (kind == CLICK and age < FAST_CLICK_MS) or (machine == SCANNER and age < SCANNER_ACT_MS)
            user.human[j] = not by_machine
            dropped_D[MACHINE_ACTS] += by_machine


@jit
def _shift_of(rows: _Rows, user: _User, j: int) -> Any:
    stated = rows.stated_N[user.row[j]]
    return np.int64(0) if stated == NO_OFFSET else np.int64(stated) - user.zone_min[j]


@jit
def _heaviest_shift(rows: _Rows, end_ms: int, user: _User, n_user: int) -> int:
    """The shift with most weight among recent human acts, the smallest of equals, if it holds enough; else 0."""
    found, total = 0, 0.0
    for j in range(n_user):
        if not user.human[j]:
            continue
        ts = rows.ts_N[user.row[j]]
        if ts <= end_ms - SHIFT_DAYS * DAY_MS:
            continue
        weight = np.exp((ts - end_ms) / DAY_MS / SHIFT_DECAY_DAYS)
        total += weight
        shift = _shift_of(rows, user, j)
        if shift != 0:
            found = _add_weight(user, found, shift, weight)
    best, heaviest = 0, 0.0
    for m in range(found):
        weight, shift = user.weight[m], user.shift[m]
        if weight > heaviest or (weight == heaviest and shift < best):
            best, heaviest = shift, weight
    return best if heaviest > SHIFT_SHARE * total else 0


@jit
def _add_weight(user: _User, found: int, shift: int, weight: float) -> int:
    for m in range(found):
        if user.shift[m] == shift:
            user.weight[m] += weight
            return found
    user.shift[found], user.weight[found] = shift, weight
    return found + 1


@jit
def _shift_since(rows: _Rows, shift: int, user: _User, n_user: int) -> int:
    """When the shift begins to hold: shortly before it was first seen if he lived in his zone before, else always."""
    first, before = -NO_TIME, 0
    for j in range(n_user):
        if user.human[j] and _shift_of(rows, user, j) == shift:
            first = min(first, rows.ts_N[user.row[j]])
    for j in range(n_user):
        if user.human[j] and _shift_of(rows, user, j) == 0 and rows.ts_N[user.row[j]] < first:
            before += 1
    return first - RELOCATION_LEAD_MS if before >= RELOCATION_ACTS else NO_TIME


@jit
def _place(sends: _Sends, sent: int, n_sends: int, shift: int, since: int) -> None:
    if shift != 0:
        for s in range(sent, n_sends):
            if sends.utc[s] >= since:
                sends.local[s] += shift * _MINUTE_MS


@jit
def _settle(
    rows: _Rows,
    own: bool,
    label: int,
    u: int,
    sends: _Sends,
    acts: _Acts,
    n_acts: int,
    user: _User,
    n_user: int,
    shift: int,
    since: int,
) -> int:
    """First human act and first labelled one of each send; append the human acts, opens without a send included."""
    for j in range(n_user):
        i, s = user.row[j], user.owner[j]
        if i < 0:
            continue
        kind, ts = rows.kind_N[i], rows.ts_N[i]
        if s != _ORPHAN and kind == label and (user.human[j] or kind == CONVERSION):
            sends.label[s] = _earlier(sends.label[s], _age(rows, sends, user, j))
        if user.human[j]:
            sends.latency[s] = _earlier(sends.latency[s], _age(rows, sends, user, j))
        elif kind != OPEN or s != _ORPHAN:
            continue
        offset = np.int64(user.zone_min[j])
        if own and rows.stated_N[i] != NO_OFFSET:
            offset = np.int64(rows.stated_N[i])
        if shift != 0 and ts >= since:
            offset += shift
        acts.user[n_acts], acts.utc[n_acts], acts.local[n_acts] = u, ts, ts + offset * _MINUTE_MS
        acts.mobile[n_acts] = rows.mobile_N[i]
        n_acts += 1
    return n_acts


@jit
def _earlier(known: int, age: int) -> int:
    return age if known == NO_LATENCY else min(known, age)
