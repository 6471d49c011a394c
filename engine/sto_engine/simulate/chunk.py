"""One chunk of users from (seed, number of the chunk) alone: who they are, their mail, the record of it, the truth.

U users, M mails.
"""

from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.simulate.acts import HOUR_MS, OPEN, SEND, Acts, draw_acts, in_time_order
from sto_engine.simulate.columns import Bools, Floats, Ints
from sto_engine.simulate.habits import WEEK_H
from sto_engine.simulate.mailing import Campaigns, Mail, draw_mail, is_after_warm_up, learnt_hours, retimed
from sto_engine.simulate.people import People, draw_people, recipients_table, user_ids
from sto_engine.simulate.record import DAY_MS, events_table, offsets_min, plain, truth_table
from sto_engine.simulate.scene import Period, Scene, Sends, World
from sto_kernels.hashing import derive, unit_interval

CHUNK_USERS = 10_000
_MOBILE = 0.6
_THURSDAY_H = 72  # the epoch began on a Thursday, weeks begin on Monday


@dataclass(frozen=True)
class Plan:
    """What all chunks of a simulation have in common; `end` is the day after the history.

    Where the sender goes on, for `future_days` more, habits run on over them, and `joining` is the share of recipients
    who sign up on the day `end`.
    """

    world: World
    history: str
    seed: int
    end: date
    period: Period
    campaigns: Campaigns
    future_days: int = 0
    joining: float = 0.0

    @property
    def whole_period(self) -> Period:
        """The history and what comes after it."""
        end_ms = self.period.end_ms + self.future_days * DAY_MS
        return replace(self.period, days=self.period.days + self.future_days, end_ms=end_ms)


@dataclass(frozen=True)
class Cast:
    """U recipients: who they are, what the sender's table says of them at the end of the history, and what it lacks."""

    people: People
    ids_U: NDArray[np.uint64]
    recipients: pl.DataFrame
    scene: Scene


@dataclass(frozen=True)
class Chunk:
    """The tables of one chunk, in the columns of their files, and counts of the events."""

    events: pa.Table
    recipients: pa.Table
    truth: pa.Table
    sends: int
    opens: int


def draw_chunk(plan: Plan, number: int, users: int) -> Chunk:
    """Chunk `number`, of `users` users."""
    rng, period = np.random.default_rng([plan.seed, 1 + number]), plan.period
    cast = draw_cast(rng, plan, number, users)
    mail, acts = draw_record(rng, plan, cast)
    acts = acts.take(np.flatnonzero(acts.ms_N < period.end_ms))
    is_mobile_U = draw_devices(rng, users)
    events = events_table(acts, mail, cast.people, cast.scene.residence, cast.ids_U, is_mobile_U, period)
    people = with_profiles(cast, period.end_ms)
    recipients, truth = plain(people.to_arrow()), truth_table(people, cast.scene, plan.end)
    sends, opens = (int((acts.kind_N == kind).sum()) for kind in (SEND, OPEN))
    return Chunk(events, recipients, truth, sends, opens)


def draw_cast(rng: np.random.Generator, plan: Plan, number: int, users: int) -> Cast:
    """The recipients of a chunk and their world."""
    people, ids = draw_people(rng, users), user_ids(number * CHUNK_USERS, users, plan.seed)
    recipients = recipients_table(rng, people, ids, plan.end, plan.world.newcomers)
    if plan.joining:
        joins = pl.Series(unit_interval(derive(ids, "simulated-joining", plan.seed)) < plan.joining)
        recipients = recipients.with_columns(
            signup_ts=pl.when(joins).then(pl.lit(plan.end)).otherwise("signup_ts").cast(recipients["signup_ts"].dtype)
        )
    return Cast(people, ids, recipients, plan.world.draw(rng, people, plan.whole_period))


def draw_record(rng: np.random.Generator, plan: Plan, cast: Cast) -> tuple[Mail, Acts]:
    """The mail of the history and what became of it, in the order of time, also after the history's end."""
    period, users = plan.period, len(cast.people)
    joined_day_U = _joined_day(cast.recipients, period)
    mail = draw_mail(rng, plan.campaigns, plan.history, plan.world.service, joined_day_U, period.days)
    sent_M, age_M = _deliver(rng, mail, cast.people, cast.scene, period)
    if plan.history == "optimiser":
        late = is_after_warm_up(mail, period.days)
        early = np.setdiff1d(np.arange(len(mail)), late)
        timed = retimed(rng, mail.take(late), learnt_hours(rng, mail.take(early), age_M[early], users))
        sent_M[late], age_M[late] = _deliver(rng, timed, cast.people, cast.scene, period)
    acts = draw_acts(rng, mail.user_N, sent_M, age_M, cast.scene.defects)
    return mail, in_time_order(acts)


def draw_devices(rng: np.random.Generator, users: int) -> Bools:
    """Whether each user reads on a phone, [U]."""
    return np.asarray(rng.random(users) < _MOBILE)


def with_profiles(cast: Cast, at_ms: int) -> pl.DataFrame:
    """The recipients as they are written, with the profile's offset at a time."""
    profile = pl.Series("tz_offset", offsets_min(cast.people.zone_U, np.full(len(cast.people), at_ms)))
    return cast.recipients.clone().insert_column(2, profile)


def _joined_day(recipients: pl.DataFrame, period: Period) -> Ints:
    """The day of the history on which each recipient signed up, -1 for all days before it, [U]."""
    joined_ms_U = recipients["signup_ts"].dt.epoch("ms").to_numpy()
    return np.asarray(np.maximum((joined_ms_U - period.start_ms) // DAY_MS, -1), np.int64)


def _deliver(rng: np.random.Generator, mail: Mail, people: People, scene: Scene, period: Period) -> tuple[Ints, Floats]:
    """When mail goes out by the clock of the profile (UTC, ms), and the ages (hours) at which it is opened, [M]."""
    zone_M = people.zone_U[mail.user_N]
    local_M = period.start_ms + mail.day_N * DAY_MS + (mail.hour_N * HOUR_MS).astype(np.int64)
    near_M = local_M - offsets_min(zone_M, local_M) * np.int64(60_000)
    sent_M = local_M - offsets_min(zone_M, near_M) * np.int64(60_000)
    week_hour_M = true_week_hours(scene, mail.user_N, mail.day_N, sent_M)
    sends = Sends(mail.user_N, mail.day_N, week_hour_M, mail.appeal_N, mail.type_N)
    return sent_M, scene.mechanism.draw_opens(rng, sends)


def true_week_hours(scene: Scene, user_N: Ints, day_N: Ints | int, sent_N: Ints) -> Floats:
    """The hour of the week, with its fraction, that it is for each user on each day, where he really is, [N]."""
    zone_N = scene.residence.take(user_N).zones(day_N)
    true_h_N = (sent_N + offsets_min(zone_N, sent_N) * np.int64(60_000)) / HOUR_MS
    return (true_h_N + _THURSDAY_H) % WEEK_H
