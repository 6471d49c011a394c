"""The last steps of `clean_walk`: machines, acts of people, zone shifts, latencies.

J = acts joined; other letters as in `journal`. As in `clean_join`, tables are taken apart before a loop.
Shares divide before they compare, weights sum in row order: the twin in `naive_history` agrees in every bit.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sto_kernels.clean_join import EARLY, MINUTE_MS, ORPHAN, Joined, Rows, Sends, Sky
from sto_kernels.compiled import jit
from sto_kernels.journal import (
    CLICK,
    DAY_MS,
    EARLY_ACTS,
    FAST_CLICKS,
    FLAGGED_ACTS,
    HUMAN,
    MACHINE_ACTS,
    NO_LATENCY,
    NO_OFFSET,
    NO_TIME,
    OPEN,
    ORPHAN_ACTS,
    PREFETCH,
    PREFETCHED_ACTS,
    PROMO,
    SCANNED_ACTS,
    SCANNER,
    Rules,
)

SCANNER_CLICK_MS, SCANNER_SENDS, SCANNER_ACT_MS = 15_000, 3, 30_000
PREFETCH_MS, PREFETCH_PROMOS = 180_000, 3
SHIFT_DAYS, SHIFT_DECAY_DAYS = 60, 20.0
RELOCATION_ACTS, RELOCATION_LEAD_MS = 3, 3 * DAY_MS
# verdicts: not an act of a person, one upon a send, an open without a send
NOBODY, PERSON, PASSER_BY = range(3)
NOT_DROPPED = -1
Array = NDArray[Any]


class Judged(NamedTuple):
    """Of each joined act: what it is, its age and the stated offset against the zone."""

    verdict_J: Array  # int8
    age_J: Array  # int64 ms since the clock of its send started
    shift_J: Array  # int16 minutes


class Flags(NamedTuple):
    """As in journal.Cleaned, and since when (UTC) the shift holds."""

    machine_U: Array
    invalid_U: Array
    shift_U: Array
    since_U: Array


class Acts(NamedTuple):
    """Room for the human acts, in the order of journal.Cleaned."""

    user_A: Array
    utc_A: Array
    local_A: Array
    mobile_A: Array


def new_judged(acts: int) -> Judged:
    return Judged(np.empty(acts, np.int8), np.empty(acts, np.int64), np.empty(acts, np.int16))


def new_flags(users: int) -> Flags:
    since_U = np.full(users, NO_TIME, np.int64)
    return Flags(np.zeros(users, np.int8), np.zeros(users, np.bool_), np.zeros(users, np.int16), since_U)


def new_acts(n: int) -> Acts:
    return Acts(np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.bool_))


@jit
def find_ages(rows: Rows, sends: Sends, joined: Joined, judged: Judged) -> None:
    """An act between a send and its delivery has age 0."""
    ts_N, stated_N, utc_S = rows.ts_N, rows.stated_N, sends.utc_S
    row_J, send_J, zone_J, age_J, shift_J = joined.row_J, joined.send_J, joined.zone_J, judged.age_J, judged.shift_J
    for j in range(len(age_J)):
        i, s = row_J[j], send_J[j]
        age_J[j] = 0 if s < 0 else max(ts_N[i] - utc_S[s], 0)
        shift_J[j] = 0 if stated_N[i] == NO_OFFSET else stated_N[i] - zone_J[j]


@jit
def find_machines(rows: Rows, sends: Sends, joined: Joined, judged: Judged, rules: Rules, flags: Flags) -> None:
    """Scanners and prefetching clients by the shares of sends with a fast act; addresses that never gave a sign.

    What is flagged already shows neither.
    """
    scanner_share, prefetch_share, invalid_sends = rules.scanner_share, rules.prefetch_share, rules.invalid_sends
    kind_N, machine_N, type_S = rows.kind_N, rows.machine_N, sends.type_S
    row_J, send_J, age_J, signs_U = joined.row_J, joined.send_J, judged.age_J, joined.signs_U
    first_send_U, first_act_U, machine_U, invalid_U = joined[3], joined[4], flags.machine_U, flags.invalid_U
    for u in range(len(machine_U)):
        sent, promos, clicked, opened = first_send_U[u + 1] - first_send_U[u], 0, 0, 0
        for s in range(first_send_U[u], first_send_U[u + 1]):
            promos += type_S[s] == PROMO
        last_clicked, last_opened = ORPHAN, ORPHAN  # acts of a send stand together
        for j in range(first_act_U[u], first_act_U[u + 1]):
            i, s, age = row_J[j], send_J[j], age_J[j]
            if s < 0 or machine_N[i]:
                continue
            if kind_N[i] == CLICK and age < SCANNER_CLICK_MS and s != last_clicked:
                clicked, last_clicked = clicked + 1, s
            at_once = kind_N[i] == OPEN and age < PREFETCH_MS and type_S[s] == PROMO
            if at_once and s != last_opened:
                opened, last_opened = opened + 1, s
        machine_U[u] = HUMAN
        if sent >= SCANNER_SENDS and clicked / sent > scanner_share:
            machine_U[u] = SCANNER
        elif promos >= PREFETCH_PROMOS and opened / promos > prefetch_share:
            machine_U[u] = PREFETCH
        invalid_U[u] = not signs_U[u] and sent >= invalid_sends


@jit
def judge(rows: Rows, joined: Joined, machine_U: Array, fast_click_ms: int, judged: Judged, dropped_D: Array) -> None:
    """Whether a person did it. A prefetching client's clicks are his owner's; its opens never are."""
    kind_N, machine_N, first_act_U = rows.kind_N, rows.machine_N, joined.first_act_U
    row_J, send_J, age_J, verdict_J = joined.row_J, joined.send_J, judged.age_J, judged.verdict_J
    for u in range(len(machine_U)):
        for j in range(first_act_U[u], first_act_U[u + 1]):
            kind, age = kind_N[row_J[j]], age_J[j]
            is_open, is_click = kind == OPEN, kind == CLICK
            verdict_J[j] = NOBODY
            if not (is_open or is_click):
                continue
            why = NOT_DROPPED
            if machine_N[row_J[j]]:
                why = FLAGGED_ACTS
            elif is_open and machine_U[u] == PREFETCH:
                why = PREFETCHED_ACTS
            elif send_J[j] >= 0 and is_click and age < fast_click_ms:
                why = FAST_CLICKS
            elif send_J[j] >= 0 and machine_U[u] == SCANNER and age < SCANNER_ACT_MS:
                why = SCANNED_ACTS
            if why != NOT_DROPPED:
                dropped_D[MACHINE_ACTS] += 1
                dropped_D[why] += 1
            elif send_J[j] >= 0:
                verdict_J[j] = PERSON
            else:
                dropped_D[EARLY_ACTS if send_J[j] == EARLY else ORPHAN_ACTS] += 1
                verdict_J[j] = PASSER_BY if is_open else NOBODY


@jit
def find_shifts(
    rows: Rows, sky: Sky, joined: Joined, judged: Judged, end_ms: int, shift_share: float, flags: Flags
) -> None:
    """Each user's shift against his zone that recent acts agree on, and since when it holds."""
    row_J, ts_N, verdict_J, shift_J = joined.row_J, rows.ts_N, judged.verdict_J, judged.shift_J
    first_act_U, own_U, shift_U, since_U = joined.first_act_U, sky.own_U, flags.shift_U, flags.since_U
    most = 0
    for u in range(len(shift_U)):
        most = max(most, first_act_U[u + 1] - first_act_U[u])
    found_M, weight_M = np.empty(most, np.int16), np.empty(most, np.float64)
    for u in range(len(shift_U)):
        first, last = first_act_U[u], first_act_U[u + 1]
        if own_U[u] or not _is_away(verdict_J, shift_J, first, last):
            continue
        shift_U[u] = _heaviest(row_J, ts_N, verdict_J, shift_J, first, last, end_ms, shift_share, found_M, weight_M)
        if shift_U[u] != 0:
            since_U[u] = _since(row_J, ts_N, verdict_J, shift_J, first, last, shift_U[u])


@jit
def _is_away(verdict_J: Array, shift_J: Array, first: int, last: int) -> bool:
    away = False
    for j in range(first, last):
        away |= verdict_J[j] == PERSON and shift_J[j] != 0
    return away


@jit
def _heaviest(
    row_J: Array,
    ts_N: Array,
    verdict_J: Array,
    shift_J: Array,
    first: int,
    last: int,
    end_ms: int,
    shift_share: float,
    found_M: Array,
    weight_M: Array,
) -> int:
    """The shift with most weight, the smallest of equals, if it holds more than its share; else 0."""
    found, total = 0, 0.0
    for j in range(first, last):
        ts = ts_N[row_J[j]]
        if verdict_J[j] != PERSON or ts <= end_ms - SHIFT_DAYS * DAY_MS:
            continue
        weight = np.exp((ts - end_ms) / DAY_MS / SHIFT_DECAY_DAYS)
        total += weight
        if shift_J[j] != 0:
            m = 0
            while m < found and found_M[m] != shift_J[j]:
                m += 1
            if m == found:
                found_M[m], weight_M[m] = shift_J[j], 0.0
                found += 1
            weight_M[m] += weight
    best, heaviest = 0, 0.0
    for m in range(found):
        if weight_M[m] > heaviest or (weight_M[m] == heaviest and found_M[m] < best):
            best, heaviest = int(found_M[m]), weight_M[m]
    return best if heaviest > shift_share * total else 0


@jit
def _since(row_J: Array, ts_N: Array, verdict_J: Array, shift_J: Array, first: int, last: int, shift: int) -> int:
    """Shortly before the shift was first seen if he lived in his zone before, else always."""
    seen, before = -NO_TIME, 0
    for j in range(first, last):
        if verdict_J[j] == PERSON and shift_J[j] == shift:
            seen = min(seen, ts_N[row_J[j]])
    for j in range(first, last):
        before += verdict_J[j] == PERSON and shift_J[j] == 0 and ts_N[row_J[j]] < seen
    return seen - RELOCATION_LEAD_MS if before >= RELOCATION_ACTS else NO_TIME


@jit
def shift_sends(sends: Sends, count: int, flags: Flags) -> None:
    user_S, utc_S, local_S, shift_U, since_U = sends.user_S, sends.utc_S, sends.local_S, flags.shift_U, flags.since_U
    for s in range(count):
        u = user_S[s]
        if utc_S[s] >= since_U[u]:
            local_S[s] += int(shift_U[u]) * MINUTE_MS


@jit
def settle(
    rows: Rows, sky: Sky, joined: Joined, judged: Judged, label: int, sends: Sends, flags: Flags, acts: Acts
) -> int:
    """First human act and first labelled one of each send; the human acts with their local times. -> how many acts."""
    kind_N, ts_N, stated_N, mobile_N = rows.kind_N, rows.ts_N, rows.stated_N, rows.mobile_N
    row_J, send_J, zone_J, verdict_J, age_J = joined[0], joined[1], joined[2], judged.verdict_J, judged.age_J
    latency_S, label_S, first_act_U, own_U = sends.latency_S, sends.label_S, joined.first_act_U, sky.own_U
    shift_U, since_U, user_A, utc_A, local_A, mobile_A = flags[2], flags[3], acts[0], acts[1], acts[2], acts[3]
    n = 0
    for u in range(len(shift_U)):
        for j in range(first_act_U[u], first_act_U[u + 1]):
            i, s, verdict = row_J[j], send_J[j], verdict_J[j]
            is_act = kind_N[i] == OPEN or kind_N[i] == CLICK
            if s >= 0 and kind_N[i] == label and (verdict == PERSON or not is_act):
                label_S[s] = _earlier(label_S[s], age_J[j])
            if verdict == NOBODY:
                continue
            if verdict == PERSON:
                latency_S[s] = _earlier(latency_S[s], age_J[j])
            offset = int(zone_J[j])
            if own_U[u] and stated_N[i] != NO_OFFSET:
                offset = int(stated_N[i])
            elif ts_N[i] >= since_U[u]:
                offset += shift_U[u]
            user_A[n], utc_A[n], local_A[n], mobile_A[n] = u, ts_N[i], ts_N[i] + offset * MINUTE_MS, mobile_N[i]
            n += 1
    return n


@jit
def _earlier(known: int, age: int) -> int:
    return age if known == NO_LATENCY else min(known, age)
