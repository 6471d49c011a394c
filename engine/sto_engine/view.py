"""What a run sees of a bucket: everyone in it, his cleaned history, and whom tonight's mail goes to.

Phase 0 sums over everyone and phase A scores the recipients, so both want the same look; a bucket that is looked at
once need not be read, sorted and cleaned again. U users of the bucket, A rows of the audience.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.history.bucket import COLUMNS, Bucket, build_journal
from sto_engine.history.channels import bucket_by_channel
from sto_engine.history.users import build_users, seen_users
from sto_engine.models.policy import history_act
from sto_engine.plan import Plan
from sto_engine.slots import MINUTE_MS
from sto_engine.suppress import suppressions, suppressions_by_channel
from sto_engine.zones import MAX_OFFSET
from sto_kernels.journal import Cleaned

READ = ("user_id", "recipient_domain", "channel", *COLUMNS)
# what frequency caps count
_SENDS = ("h", "user_id", "event_type", "event_ts", "campaign_type", "channel")
# texts that nobody asks for once zone and provider are known
_SETTLED = ("timezone", "recipient_domain")


@dataclass(frozen=True)
class Past:
    """What earlier runs planned for the users of a bucket: all their sends that may still matter, and the slots of the
    latest of them."""

    sends: pl.DataFrame
    slots: pl.DataFrame


@dataclass(frozen=True)
class BucketView:
    """`known` holds everyone seen or to be mailed; row a of the audience is user `place_A` of it.

    `user_id` and `reason` (of suppression, null where mailed) are series [A] in the order of the audience. `sends` are
    the events that frequency caps count, where there are any; `past` is what earlier runs planned; `reach_AC` says on
    which of several channels each can be reached, None with one channel.
    """

    known: Bucket
    user_id: pl.Series
    reason: pl.Series
    place_A: NDArray[np.int64]
    sends: pl.DataFrame | None = None
    past: Past | None = None
    reach_AC: NDArray[np.bool_] | None = None

    def mailed(self) -> Bucket:
        """Those of the audience who are not suppressed, in its order."""
        return self.known.take(self.place_A[self.reason.is_null().to_numpy()])

    def reach_MC(self) -> NDArray[np.bool_] | None:
        """The rows of `reach_AC` of those who are mailed."""
        return None if self.reach_AC is None else self.reach_AC[self.reason.is_null().to_numpy()]

    @property
    def nbytes(self) -> int:
        """Memory held, about."""
        cleaned = sum(getattr(self.known.cleaned, field.name).nbytes for field in fields(Cleaned))
        frames = [self.known.users, self.sends, *(() if self.past is None else (self.past.sends, self.past.slots))]
        tables = sum(frame.estimated_size() for frame in frames if frame is not None)
        return int(cleaned + tables + self.place_A.nbytes + self.user_id.estimated_size())


def look(plan: Plan, bucket: int) -> BucketView:
    """Read a bucket and clean what lies in the history before the day; pure."""
    events = plan.store.read_events(bucket, before_ms=plan.origin_ms, columns=READ)
    recipients = plan.store.read_recipients(bucket)
    audience = _audience(plan, bucket, events, recipients)
    everyone = _everyone(events, audience)
    users = build_users(everyone, recipients, events, plan.config, plan.origin_ms)
    place_A = _places(everyone, audience)
    reason, reach_AC = _suppressed(plan, audience, users[place_A], events)
    known = _history(plan, events, users)
    sends = _sends(events) if _is_capped(plan, users) else None
    known = replace(known, users=users.drop(_SETTLED))
    return BucketView(known, audience["user_id"], reason, place_A, sends, _past(plan, bucket), reach_AC)


def _suppressed(
    plan: Plan, audience: pl.DataFrame, users: pl.DataFrame, events: pl.DataFrame
) -> tuple[pl.Series, NDArray[np.bool_] | None]:
    if not plan.options.several:
        return suppressions(audience, users, events), None
    return suppressions_by_channel(users, events, plan.channels, plan.config.channels.reach)


def _history(plan: Plan, events: pl.DataFrame, users: pl.DataFrame) -> Bucket:
    window = plan.start_ms, plan.origin_ms
    if not plan.options.several:
        return build_journal(events, users, plan.config).at(*window, history_act(plan.policy))
    return bucket_by_channel(events, users, plan.config, plan.channels, window)


def _is_capped(plan: Plan, users: pl.DataFrame) -> bool:
    """Whether anybody is mailed no more than so often."""
    frequency, own = plan.config.frequency, users["frequency_cap"]
    if any(channel in frequency.channels for channel in plan.channels):
        return True
    return frequency.cap is not None or frequency.min_gap_hours > 0 or own.null_count() < len(own)


def _sends(events: pl.DataFrame) -> pl.DataFrame:
    return events.select(_SENDS).filter(pl.col("event_type") == "send")


def _past(plan: Plan, bucket: int) -> Past | None:
    if plan.previous is None:
        return None
    store, from_ms = plan.store, min(plan.told_ms, plan.origin_ms - MAX_OFFSET * MINUTE_MS)
    sends = plan.previous.sends(bucket, store.buckets, store.id_type, from_ms=from_ms)
    last = plan.previous.last_slots(bucket, store.buckets, store.id_type, plan.grid.slots)
    # a run may have chosen from channels that are none of tonight's
    ours = pl.col("channel").is_null() | pl.col("channel").is_in(plan.channels)
    return Past(sends.filter(ours), last.filter(ours))


def _audience(plan: Plan, bucket: int, events: pl.DataFrame, recipients: pl.DataFrame | None) -> pl.DataFrame:
    """Rows h, user_id, row of the bucket in (h, user_id, row) order, duplicates included."""
    if plan.audience is not None:
        return plan.audience.bucket(bucket)
    if recipients is not None:
        return recipients.select("h", "user_id", "row")
    return seen_users(events).with_columns(row=pl.lit(0, pl.UInt64))


def _everyone(events: pl.DataFrame, audience: pl.DataFrame) -> pl.DataFrame:
    """Columns h and user_id of everyone in the events or the audience, each once, in their order."""
    both = pl.concat([seen_users(events), audience.select("h", "user_id")]).sort("h", "user_id")
    ids = both["user_id"]
    return both.filter(ids.ne_missing(ids.shift(1))) if len(ids) else both


def _places(everyone: pl.DataFrame, audience: pl.DataFrame) -> NDArray[np.int64]:
    """Row of `everyone` of each row of the audience, ascending, int64 [A]."""
    h_U = everyone["h"].to_numpy()
    if (h_U[1:] > h_U[:-1]).all():
        return np.searchsorted(h_U, audience["h"].to_numpy())
    # two ids of one hash
    numbered = everyone.select("user_id").with_row_index("place")
    joined = audience.select("user_id").join(numbered, on="user_id", how="left", maintain_order="left")
    return joined["place"].to_numpy().astype(np.int64)
