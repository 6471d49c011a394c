"""The rules of cleaning as `[clean]` sets them: limits for the walk, and what is judged before it starts.

    duplicates   a row within duplicate_s of the one before of its user, campaign and type (clicks stay)
    flags        opens that the sender's system marks (is_machine_open); false there is a person, whatever the agent
    agents       opens and clicks whose user agent is a machine's (history.agents)
    prefetch     clients that open more than prefetch_share of promos within 3 min: none of their opens count
    scanner      recipients with a click within 15 s on more than scanner_share of sends: no act within 30 s counts
    fast_clicks  clicks younger than fast_click_s
    flood        recipients with most of their rows on days of flood_acts (journal.Rules): none of their acts count
    invalid      addresses without any sign of life after invalid_sends sends
    dead         addresses that the snapshot calls invalid, disposable or a trap, or that bounced hard
    bounces      a bounced send was never sent
    shifts       recipients whose acts agree on another offset than their zone's
    tests        campaigns whose id fits one of test_campaigns (* and ?, any case) do not exist

`skip` leaves rules out. Rows of recipients who are machines, invalid or dead feed no prior and no training row.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.config import Clean
from sto_engine.history.agents import by_machine
from sto_engine.tables import BAD_ADDRESS, EVENT_TYPES
from sto_kernels.journal import CLICK, OPEN, Rules

NEVER, NO_SHARE = 2**62, 1.0
ALWAYS_MS, NEVER_MS = -(2**62), 2**62
BOUNCE = EVENT_TYPES.index("bounce")


def rules_of(clean: Clean) -> Rules:
    """The limits for the walk; those of skipped rules at values that never fire."""
    skip = set(clean.skip)
    return Rules(
        duplicate_ms=0 if "duplicates" in skip else round(clean.duplicate_s * 1000),
        bounces="bounces" not in skip,
        scanner_share=NO_SHARE if "scanner" in skip else clean.scanner_share,
        prefetch_share=NO_SHARE if "prefetch" in skip else clean.prefetch_share,
        fast_click_ms=0 if "fast_clicks" in skip else round(clean.fast_click_s * 1000),
        invalid_sends=NEVER if "invalid" in skip else clean.invalid_sends,
        flood_acts=NEVER if "flood" in skip else clean.flood_acts,
        flood_days=clean.flood_days,
        flood_share=clean.flood_share,
        shift_share=NO_SHARE if "shifts" in skip else clean.shift_share,
    )


def machine_rows(events: pl.DataFrame, kind_N: NDArray[np.int8], clean: Clean) -> NDArray[np.bool_]:
    """Opens that a flag, opens and clicks that an agent gives away as a machine's, bool [N]."""
    flag, agent = events["is_machine_open"], events["user_agent"]
    found_N = np.zeros(len(events), np.bool_)
    flagged = flag.null_count() < len(flag)
    if flagged and "flags" not in clean.skip:
        found_N |= flag.fill_null(False).to_numpy() & (kind_N == OPEN)
    if "agents" in clean.skip or agent.null_count() == len(agent):
        return found_N
    asked_N = (kind_N == OPEN) | (kind_N == CLICK)
    if flagged:
        asked_N &= flag.is_null().to_numpy()
    rows = np.flatnonzero(asked_N)
    found_N[rows] = by_machine(agent[rows], clean.image_proxies == "machine").to_numpy()
    return found_N


def dead_since(
    events: pl.DataFrame, kind_N: NDArray[np.int8], start_U: NDArray[np.int64], users: pl.DataFrame, clean: Clean
) -> NDArray[np.int64]:
    """When each user's address was known to be of no use (UTC ms), NEVER_MS where it is of use, int64 [U].

    A bad `address_status` counts from ever; a hard bounce from its time, unless `signup_ts` is later.
    """
    since_U = np.full(len(users), NEVER_MS, np.int64)
    if "dead" in clean.skip:
        return since_U
    kind = events["bounce_type"]
    if kind.null_count() < len(kind):
        rows = np.flatnonzero((kind_N == BOUNCE) & kind.is_not_null().to_numpy())
        rows = rows[(kind[rows].str.to_lowercase() == "hard").to_numpy()]
        user_N = np.searchsorted(start_U, rows, "right") - 1
        time_N = events["event_ts"][rows].dt.epoch("ms").to_numpy()
        again_U = users["signup_ts"].dt.epoch("ms").fill_null(ALWAYS_MS).to_numpy()
        stays = time_N >= again_U[user_N]
        np.minimum.at(since_U, user_N[stays], time_N[stays])
    bad = users["address_status"].is_in(BAD_ADDRESS).fill_null(False).to_numpy()
    since_U[bad] = ALWAYS_MS
    return since_U


def are_tests(ids: pl.Series, clean: Clean) -> NDArray[np.bool_]:
    """Which campaigns are tests by their ids, bool [C]."""
    if "tests" in clean.skip or not clean.test_campaigns or not len(ids):
        return np.zeros(len(ids), np.bool_)
    globs = (pl.escape_regex(glob).replace(r"\*", ".*").replace(r"\?", ".") for glob in clean.test_campaigns)
    return ids.cast(pl.String).str.contains(f"(?is)^(?:{'|'.join(globs)})$").to_numpy()
