"""The first two steps of `clean_walk`: what each row is, and which send each act belongs to.

Each step walks the rows of a whole bucket once. Tables come as tuples of arrays and are taken apart before the loop:
inside it, numba would count the references to every array that it touches. Letters as in `journal`; J = acts joined.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit
from sto_kernels.journal import (
    BOUNCE,
    BOUNCED_SENDS,
    CLICK,
    DELIVERED,
    DUPLICATE_ROWS,
    NO_LATENCY,
    NO_OFFSET,
    NO_TIME,
    OPEN,
    SEND,
    Rules,
)

MINUTE_MS = 60_000
ORPHAN, EARLY = -1, -2  # no send of its campaign before it; a send of it only later
# what a row is: nothing to count, the start of a mailing, its delivery, an act
SKIP, MAILING, DELIVERY, ACT = range(4)
Array = NDArray[Any]


class Rows(NamedTuple):
    """As in journal.Events."""

    start_U: Array
    campaign_N: Array
    kind_N: Array
    ts_N: Array
    stated_N: Array
    type_N: Array
    mobile_N: Array
    machine_N: Array


class Sky(NamedTuple):
    """As in journal.Zones."""

    zone_U: Array
    moments_ZK: Array
    offsets_ZK: Array
    own_U: Array


class Sends(NamedTuple):
    """Room for the sends of a bucket, in the order of journal.Cleaned."""

    user_S: Array
    utc_S: Array
    local_S: Array
    latency_S: Array
    campaign_S: Array
    type_S: Array
    label_S: Array


class Joined(NamedTuple):
    """Room for the opens, clicks and label acts of a bucket, and where each user's sends and acts begin."""

    row_J: Array  # int64
    send_J: Array  # int32, index of the send, or ORPHAN or EARLY
    zone_J: Array  # int16, offset of the user's zone at the act, minutes
    first_send_U: Array  # int64 [U + 1]
    first_act_U: Array  # int64 [U + 1]
    signs_U: Array  # bool: did anything but a delivery or a bounce


def new_sends(n: int) -> Sends:
    utc_S, local_S, latency_S, label_S = (np.empty(n, np.int64) for _ in range(4))
    user_S, campaign_S, type_S = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int8)
    return Sends(user_S, utc_S, local_S, latency_S, campaign_S, type_S, label_S)


def new_joined(users: int, acts: int) -> Joined:
    columns = np.empty(acts, np.int64), np.empty(acts, np.int32), np.empty(acts, np.int16)
    return Joined(*columns, np.zeros(users + 1, np.int64), np.zeros(users + 1, np.int64), np.zeros(users, np.bool_))


@jit
def find_roles(rows: Rows, start_ms: int, end_ms: int, rules: Rules, role_N: Array, dropped_D: Array) -> int:
    """What each row is, into role_N; the first user whose rows are out of order, or -1.

    A row within `duplicate_ms` of its predecessor of the same kind is a duplicate; a bounce drops its mailing.
    """
    start_U, campaign_N, kind_N, ts_N = rows.start_U, rows.campaign_N, rows.kind_N, rows.ts_N
    duplicate_ms, bounces = rules.duplicate_ms, rules.bounces
    last_ts, mailing, delivered = np.empty(8, np.int64), -1, False
    for u in range(len(start_U) - 1):
        for i in range(start_U[u], start_U[u + 1]):
            kind, ts = kind_N[i], ts_N[i]
            if i == start_U[u] or campaign_N[i] != campaign_N[i - 1]:
                _forget(last_ts)
                mailing = -1
            elif ts < ts_N[i - 1] or (ts == ts_N[i - 1] and kind < kind_N[i - 1]):
                return u
            role_N[i] = SKIP
            if ts < start_ms or ts >= end_ms:
                continue
            again = ts - last_ts[kind] < duplicate_ms
            last_ts[kind] = ts
            if again and kind != CLICK:
                dropped_D[DUPLICATE_ROWS] += 1
            elif kind == SEND or (kind == DELIVERED and (mailing < 0 or kind_N[mailing] == DELIVERED)):
                role_N[i], mailing, delivered = MAILING, i, False
            elif kind == DELIVERED:
                role_N[i] = SKIP if delivered else DELIVERY
                delivered = True
            elif kind != BOUNCE:
                role_N[i] = ACT
            else:
                mailing = _after_bounce(role_N, mailing, i, bounces, dropped_D)
    return -1


@jit
def _forget(last_ts: Array) -> None:
    for kind in range(len(last_ts)):
        last_ts[kind] = NO_TIME


@jit
def _after_bounce(role_N: Array, mailing: int, bounce: int, drops: bool, dropped_D: Array) -> int:
    """As if never sent: acts since then belong to the mailing before. -> The mailing that goes on, or -1."""
    if mailing < 0 or not drops:
        return mailing
    for i in range(mailing, bounce):
        if role_N[i] != ACT:
            role_N[i] = SKIP
    dropped_D[BOUNCED_SENDS] += 1
    return -1


@jit
def _zone_offset(moments_ZK: Array, offsets_ZK: Array, z: int, ts: int) -> Any:
    k = 0
    while k < moments_ZK.shape[1] and ts >= moments_ZK[z, k]:
        k += 1
    return offsets_ZK[z, k]


@jit
def join(rows: Rows, sky: Sky, role_N: Array, label: int, sends: Sends, joined: Joined) -> None:
    """Mailings become sends; every act finds the last send before it in its campaign.

    A mailing's clock starts at the send and again at its delivery; local time is by the zone, or by the offset that the
    newest of those rows states where the user goes by his own.
    """
    start_U, campaign_N, kind_N, ts_N, stated_N, type_N, _, _ = rows
    zone_U, moments_ZK, offsets_ZK, own_U = sky
    user_S, utc_S, local_S, latency_S, campaign_S, type_S, label_S = sends
    row_J, send_J, zone_J, first_send_U, first_act_U, signs_U = joined
    n_sends, n_acts, stated = 0, 0, NO_OFFSET
    for u in range(len(start_U) - 1):
        owner = ORPHAN
        for i in range(start_U[u], start_U[u + 1]):
            role, kind, ts = role_N[i], kind_N[i], ts_N[i]
            if role == SKIP:
                continue
            if owner != ORPHAN and campaign_S[owner] != campaign_N[i]:
                owner = ORPHAN
            signs_U[u] |= role == ACT
            if role == ACT and kind != OPEN and kind != CLICK and kind != label:
                continue
            zone_min = _zone_offset(moments_ZK, offsets_ZK, zone_U[u], ts)
            if role == ACT:
                row_J[n_acts], send_J[n_acts], zone_J[n_acts] = i, owner, zone_min
                n_acts += 1
                continue
            if owner == ORPHAN:
                _mark_early(campaign_N, row_J, send_J, first_act_U[u], n_acts, campaign_N[i])
            if role == MAILING:
                owner, n_sends, stated = n_sends, n_sends + 1, NO_OFFSET
                user_S[owner], campaign_S[owner], type_S[owner] = u, campaign_N[i], type_N[i]
                latency_S[owner] = label_S[owner] = NO_LATENCY
            if stated_N[i] != NO_OFFSET:
                stated = int(stated_N[i])
            offset = stated if own_U[u] and stated != NO_OFFSET else int(zone_min)
            utc_S[owner], local_S[owner] = ts, ts + offset * MINUTE_MS
        first_send_U[u + 1], first_act_U[u + 1] = n_sends, n_acts


@jit
def _mark_early(campaign_N: Array, row_J: Array, send_J: Array, first: int, count: int, campaign: int) -> None:
    """Acts of a campaign whose first send comes only now; acts of a campaign stand together."""
    j = count - 1
    while j >= first and send_J[j] == ORPHAN and campaign_N[row_J[j]] == campaign:
        send_J[j] = EARLY
        j -= 1
