"""One chunk of users from (seed, number of the chunk) alone: who they are, their mail, the record of it, the truth.

U users, M mails.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa

from sto_engine.simulate.acts import HOUR_MS, OPEN, SEND, draw_acts
from sto_engine.simulate.columns import Floats, Ints
from sto_engine.simulate.habits import WEEK_H
from sto_engine.simulate.mailing import Campaigns, Mail, draw_mail, is_after_warm_up, learnt_hours, retimed
from sto_engine.simulate.people import People, draw_people, recipients_table, user_ids
from sto_engine.simulate.record import DAY_MS, events_table, offsets_min, plain, truth_table
from sto_engine.simulate.scene import Period, Scene, Sends, World

CHUNK_USERS = 10_000
_MOBILE = 0.6
_THURSDAY_H = 72  # the epoch began on a Thursday, weeks begin on Monday


@dataclass(frozen=True)
class Plan:
    """What all chunks of a simulation have in common; `end` is the day after the history."""

    world: World
    history: str
    seed: int
    end: date
    period: Period
    campaigns: Campaigns


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
    people, ids = draw_people(rng, users), user_ids(number * CHUNK_USERS, users, plan.seed)
    recipients = recipients_table(rng, people, ids, plan.end, plan.world.newcomers)
    scene = plan.world.draw(rng, people, period)
    mail = draw_mail(
        rng, plan.campaigns, plan.history, plan.world.service, _joined_day(recipients, period), period.days
    )
    sent_M, age_M = _deliver(rng, mail, people, scene, period)
    if plan.history == "optimiser":
        late = is_after_warm_up(mail, period.days)
        early = np.setdiff1d(np.arange(len(mail)), late)
        timed = retimed(rng, mail.take(late), learnt_hours(rng, mail.take(early), age_M[early], users))
        sent_M[late], age_M[late] = _deliver(rng, timed, people, scene, period)
    acts = draw_acts(rng, mail.user_N, sent_M, age_M, scene.defects)
    acts = acts.take(np.flatnonzero(acts.ms_N < period.end_ms))
    acts = acts.take(np.argsort(acts.ms_N, kind="stable"))
    events = events_table(acts, mail, people, scene.residence, ids, rng.random(users) < _MOBILE, period)
    profile = pl.Series("tz_offset", offsets_min(people.zone_U, np.full(users, period.end_ms)))
    recipients = recipients.insert_column(2, profile)
    sends, opens = (int((acts.kind_N == kind).sum()) for kind in (SEND, OPEN))
    return Chunk(events, plain(recipients.to_arrow()), truth_table(recipients, scene, plan.end), sends, opens)


def _joined_day(recipients: pl.DataFrame, period: Period) -> Ints:
    """The day of the history on which each recipient signed up, -1 for all days before it, [U]."""
    joined_ms_U = recipients["signup_ts"].dt.epoch("ms").to_numpy()
    return np.asarray(np.maximum((joined_ms_U - period.start_ms) // DAY_MS, -1), np.int64)


def _deliver(rng: np.random.Generator, mail: Mail, people: People, scene: Scene, period: Period) -> tuple[Ints, Floats]:
    """When mail goes out by the clock of the profile (UTC, ms), and the ages (hours) at which it is opened, [M]."""
    zone_M, home = people.zone_U[mail.user_N], scene.residence.take(mail.user_N)
    local_M = period.start_ms + mail.day_N * DAY_MS + (mail.hour_N * HOUR_MS).astype(np.int64)
    near_M = local_M - offsets_min(zone_M, local_M) * np.int64(60_000)
    sent_M = local_M - offsets_min(zone_M, near_M) * np.int64(60_000)
    true_zone_M = np.where(mail.day_N >= home.moved_day_U, home.now_U, home.home_U)
    true_h_M = (sent_M + offsets_min(true_zone_M, sent_M) * np.int64(60_000)) / HOUR_MS
    sends = Sends(mail.user_N, mail.day_N, (true_h_M + _THURSDAY_H) % WEEK_H, mail.appeal_N, mail.type_N)
    return sent_M, scene.mechanism.draw_opens(rng, sends)
