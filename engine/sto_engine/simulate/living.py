"""A sender who goes on after his history: day by day the mail of one more campaign, sent as somebody decided.

    living = LivingWorld("drift", users=3000, seed=0, history_days=30, campaigns=30)
    living.write(folder)                        events/part-0000.parquet and recipients.parquet, to be ingested
    for c in range(30):
        rows = ...                              user_id and send_at_ms (UTC) of living.date_of(c)
        happened = living.step(c, rows)         the sends and what becomes of them, to be ingested before c + 1
        truth = living.truth(c)                 what every hour of that week was worth

Whoever decides meets the same people, habits, campaigns and luck: what is random of a campaign is drawn for everyone
in the same order, whoever is mailed and whenever, so that two deciders differ by nothing but their hours (clicks, and
what machines do, are drawn after the opens and are alike in law only). Opens and clicks of a step may lie after the
next campaign's day begins; whoever decides must read only what came before it. Other mail ends with the history.

U recipients, N rows of a step, H = 168 hours of the week where they really are, Monday first.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from sto_engine.errors import UsageError
from sto_engine.files import write_parquet
from sto_engine.simulate.acts import Acts, draw_acts, in_time_order
from sto_engine.simulate.chunk import CHUNK_USERS, draw_cast, draw_devices, draw_record, true_week_hours, with_profiles
from sto_engine.simulate.columns import Floats, Ints
from sto_engine.simulate.habits import DAY_H
from sto_engine.simulate.mailing import Mail, draw_appeals
from sto_engine.simulate.record import DAY_MS, events_table, is_eligible, plain
from sto_engine.simulate.run import DICTIONARY, END, ROW_GROUP, make_plan
from sto_engine.simulate.scene import PROMO, Sends

HISTORY_PER_DAY = 0.5
# what a campaign draws must not be what the history or another campaign drew
_STREAM = 1_000_003


@dataclass(frozen=True)
class DayTruth:
    """P(open within 2 and 24 h) of an ordinary promo sent to each user at the start of each hour, [U, H], as on a day.

    `zone_U` are the zones where they are (index into ZONE_NAMES) and `first_hour` is the hour of the week at which the
    day begins there.
    """

    p2_UH: Floats
    p24_UH: Floats
    zone_U: Ints
    first_hour: int


@dataclass(frozen=True)
class Happened:
    """The events of a step in the columns of the event files, in the order of time, and what they come to.

    `user_N`, `week_hour_N`: number of each recipient mailed, and the hour of the week it was where he was; `age_N`:
    hours until he opened, inf where he did not.
    """

    events: pa.Table
    user_N: Ints
    week_hour_N: Floats
    age_N: Floats


class LivingWorld:
    """See the module. `joining` is the share of the recipients who sign up on the day after the history."""

    def __init__(
        self,
        world: str,
        users: int,
        seed: int,
        history_days: int = 30,
        campaigns: int = 30,
        campaigns_per_day: float = 1.0,
        history: str = "few",
        joining: float = 0.0,
        end: date = END,
    ) -> None:
        if not (0 < users <= CHUNK_USERS and history_days > 0 and campaigns > 0 and campaigns_per_day > 0):
            raise UsageError(
                f"a living world has 1 to {CHUNK_USERS} users, and more than 0 days of history and campaigns; found "
                f"{users}, {history_days}, and {campaigns} campaigns, {campaigns_per_day} a day"
            )
        self.day_C = history_days + (np.arange(campaigns) / campaigns_per_day).astype(np.int64)
        future_days = int(self.day_C[-1]) - history_days + 1
        plan = make_plan(world, history, history_days, seed, end, HISTORY_PER_DAY, future_days)
        self.plan, rng = replace(plan, joining=joining), np.random.default_rng([seed, 1])
        self._cast = draw_cast(rng, self.plan, 0, users)
        self._record = draw_record(rng, self.plan, self._cast)
        self._mobile_U = draw_devices(rng, users)
        weekday_C = (end - timedelta(days=history_days)).weekday() + self.day_C
        self.appeal_C = draw_appeals(self._rng(), weekday_C)
        signup = self._cast.recipients["signup_ts"]
        self.users = pl.DataFrame({"user_id": self._cast.ids_U}).with_columns(
            eligible=is_eligible(self._cast.recipients, self._cast.scene), joins=signup.dt.date() == end
        )
        self._truths: dict[int, tuple[Floats, Floats]] = {}

    def date_of(self, campaign: int) -> date:
        """The local day on which a campaign is sent."""
        return self.plan.end + timedelta(days=int(self.day_C[campaign]) - self.plan.period.days)

    def campaign_id(self, campaign: int) -> int:
        """Its id in the events."""
        return len(self.plan.campaigns) + 1 + campaign

    def write(self, folder: Path) -> None:
        """The history in the form of `simulate`, but for the truth, which changes; opens may come after its end."""
        (folder / "events").mkdir(parents=True, exist_ok=True)
        mail, acts = self._record
        if len(acts):
            write_parquet(folder / "events" / "part-0000.parquet", self._events(mail, acts), ROW_GROUP, DICTIONARY)
        people = plain(with_profiles(self._cast, self.plan.period.end_ms).to_arrow())
        write_parquet(folder / "recipients.parquet", people, ROW_GROUP, DICTIONARY)

    def step(self, campaign: int, rows: pl.DataFrame) -> Happened:
        """Send a campaign: `rows` say whom (user_id) and when (send_at_ms, UTC). UsageError (2) for rows of others."""
        user_N, sent_N = self._placed(rows)
        day, appeal, users = int(self.day_C[campaign]), float(self.appeal_C[campaign]), len(self.users)
        sent_U = np.full(users, self.plan.period.start_ms + day * DAY_MS)
        sent_U[user_N] = sent_N
        everyone, promos = np.arange(users), np.full(users, PROMO)
        hour_U = true_week_hours(self._cast.scene, everyone, day, sent_U)
        sends = Sends(everyone, np.full(users, day), hour_U, np.full(users, appeal), promos)
        age_U = self._cast.scene.mechanism.draw_opens(self._rng(1, campaign), sends)
        mail = Mail(
            *(user_N, np.full(len(user_N), self.campaign_id(campaign)), promos[user_N]),
            *(sends.day_N[user_N], hour_U[user_N] % DAY_H, sends.appeal_N[user_N]),
        )
        acts = draw_acts(self._rng(2, campaign), user_N, sent_N, age_U[user_N], self._cast.scene.defects)
        return Happened(self._events(mail, in_time_order(acts)), user_N, hour_U[user_N], age_U[user_N])

    def truth(self, campaign: int) -> DayTruth:
        """As on the day of a campaign."""
        day, mechanism = int(self.day_C[campaign]), self._cast.scene.mechanism
        if day // 7 not in self._truths:
            self._truths[day // 7] = mechanism.open_probability(2, day), mechanism.open_probability(24, day)
        first_hour = self.date_of(campaign).weekday() * DAY_H
        return DayTruth(*self._truths[day // 7], self._cast.scene.residence.zones(day), first_hour)

    def _placed(self, rows: pl.DataFrame) -> tuple[Ints, Ints]:
        """Numbers of the recipients, ascending, and when each is sent his mail."""
        numbered = self.users.select("user_id").with_row_index("number")
        found = rows.select("user_id", "send_at_ms").join(numbered, on="user_id", how="left").sort("number")
        if found["number"].null_count() or found["number"].n_unique() < len(found):
            raise UsageError(
                f"rows of a step must be of recipients of the world, each once; found {found['number'].null_count()} "
                f"of nobody and {found['number'].drop_nulls().is_duplicated().sum()} that share a recipient"
            )
        return found["number"].to_numpy().astype(np.int64), found["send_at_ms"].to_numpy()

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.plan.seed, _STREAM, *stream])

    def _events(self, mail: Mail, acts: Acts) -> pa.Table:
        cast, whole = self._cast, self.plan.whole_period
        return events_table(acts, mail, cast.people, cast.scene.residence, cast.ids_U, self._mobile_U, whole)
