"""The events of a bucket and what the kernels make of them: tables of arrays, and the words for their codes.

    Events, Zones --clean_walk--> Cleaned --count_walk--> Counts

U users, N event rows, S sends, A human acts (opens and clicks), Z zones, K zone changes, C campaigns; 48 = weekday
hours then weekend hours. Times are int64 milliseconds since the epoch; a local time is the UTC time plus the offset:

    hour = local // HOUR_MS    weekday = (hour // 24 + 3) % 7, Monday 0    cell = hour % 24 + 24 * (weekday >= 5)
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
SEND, DELIVERED, OPEN, CLICK, BOUNCE, UNSUBSCRIBE, COMPLAINT, CONVERSION = range(8)
PROMO, TRANSACTIONAL, TRIGGER = range(3)
HUMAN, PREFETCH, SCANNER, FLOOD = range(4)
NO_OFFSET = -32768
NO_TIME = -(2**62)
NO_LATENCY = -1
# what Cleaned.dropped_D counts: rows of the duplicate rule; opens and clicks of machines; those of nobody known to be
# one without any send of their campaign, or before its first (opens among them stay acts); sends that bounced
DUPLICATE_ROWS, MACHINE_ACTS, ORPHAN_ACTS, EARLY_ACTS, BOUNCED_SENDS = range(5)
# MACHINE_ACTS by the rule that fired first: flagged rows, opens of prefetching clients, quick acts of link scanners,
# clicks too fast for anybody, floods
FLAGGED_ACTS, PREFETCHED_ACTS, SCANNED_ACTS, FAST_CLICKS, FLOODED_ACTS = range(5, 10)
DROPS = 10

Bools = NDArray[np.bool_]
Int8s = NDArray[np.int8]
Int16s = NDArray[np.int16]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]


class Rules(NamedTuple):
    """Limits of the cleaning rules (recipe, section 1); each has a value at which it never fires.

    A flood is a recipient, neither scanner nor prefetching client, of whose open and click rows (flagged ones aside,
    duplicates in) more than `flood_share` fell on days (UTC) of at least `flood_acts`, of which there are `flood_days`:
    of the people in real data none had 30 acts on a day, and a machine that opens mail all day has hundreds.
    """

    duplicate_ms: int = 5000  # 0: no row is a duplicate
    bounces: bool = True  # False: a bounced send counts as sent
    scanner_share: float = 0.30  # 1: nobody is a scanner
    prefetch_share: float = 0.35  # 1: nobody prefetches
    fast_click_ms: int = 3000  # 0: no click is too fast
    invalid_sends: int = 12  # 2**62: no address is invalid
    flood_acts: int = 50  # 2**62: no flood
    flood_days: int = 2
    flood_share: float = 0.5
    shift_share: float = 0.3  # 1: no shift is accepted


@dataclass(frozen=True)
class Events:
    """Rows of user u are start_U[u]:start_U[u + 1], sorted by campaign, ts, kind; rows of no user are not read."""

    start_U: Int64s  # [U + 1]
    campaign_N: Int32s  # any codes
    kind_N: Int8s
    ts_N: Int64s
    stated_N: Int16s  # offset of the recipient in minutes that the row itself states, or NO_OFFSET
    type_N: Int8s  # of the campaign; unknown is PROMO
    mobile_N: Bools
    machine_N: Bools  # an open or click that a flag or its agent gives away as a machine's


@dataclass(frozen=True)
class Zones:
    """Offsets of the users' zones in minutes: offsets_ZK[z, k] holds from moments_ZK[z, k - 1] to moments_ZK[z, k]."""

    zone_U: Int32s
    moments_ZK: Int64s  # [Z, K], ascending, padded with 2**62
    offsets_ZK: Int16s  # [Z, K + 1]
    own_U: Bools  # local time by the offset that a row states, where it states one; no shift
    shifts: bool  # whether to look for shifts


@dataclass(frozen=True)
class Cleaned:
    """Sends and human acts, grouped by ascending user, and what is known of each user at the end of the window."""

    user_S: Int32s
    utc_S: Int64s  # delivered where the sender records it, else sent
    local_S: Int64s
    latency_S: Int64s  # ms to the first human act, or NO_LATENCY
    campaign_S: Int32s
    type_S: Int8s
    label_S: Int64s  # ms to the first human click or first conversion, as asked, or NO_LATENCY
    user_A: Int32s
    utc_A: Int64s
    local_A: Int64s
    mobile_A: Bools
    machine_U: Int8s  # HUMAN, PREFETCH, SCANNER or FLOOD
    invalid_U: Bools
    shift_U: Int16s  # accepted shift against the zone, minutes
    dropped_D: Int64s  # [DROPS], sums over the users


@dataclass(frozen=True)
class Counts:
    """Sums per user at an origin. `rho` is a campaign's rate; a rate-weighted count sums it instead of 1."""

    opens_U48: Float32s  # first acts within 24 h, at the hour they happened
    exposure_U48: Float32s  # hours mail lay unread, weighted by age decay and rho24
    sends2_U24: Float32s  # rho2-weighted sends seen for 2 h, by send hour
    opens2_U24: Float32s  # of those sends, opened within 2 h
    sends24_U24: Float32s  # rho24-weighted sends
    opens24_U24: Float32s  # opened within 24 h
    seen_U24: Float32s  # sends seen for 2 h
    acts_U24: Float32s  # human acts by local hour
    sent_U: Float64s
    opened_U: Float64s
    log_latency_U: Float64s  # sum of log(max(hours, 1e-3)) over opened sends
    mobile_acts_U: Float64s
    acts_U: Float64s
    last_act_U: Int64s  # UTC, or NO_TIME
