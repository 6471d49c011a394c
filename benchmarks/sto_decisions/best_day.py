"""Is the best day worth anything? The field's preset and the engine's own model on a simulated CDP, judged twice.

    out of time    learn from the first 150 days through the engine's front door; judge on the mails of the 30 after
    random split   as articles do it: features of the whole half-year, forest on four fifths of its last mails drawn at
                   random, judged on the other fifth

Either way the figure is the click rate of mails that happened to go out on the day that a policy names for their
recipient (days are random), against that of all mails. Beside it stands what the truth says of the same choice. Judged
are recipients above the value threshold. Intervals: bootstrap over users and over campaigns, the wider of the two.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_decisions import engine
from sto_decisions.baselines import Floats
from sto_decisions.cdp import CAMPAIGNS, DAYS, WEEK, Sender, date_of, make_sender, write_sender
from sto_decisions.known import Ints
from sto_decisions.records import Cell, Record, Values, make_record
from sto_engine.config import Config
from sto_engine.history.bucket import Bucket, build_journal, window_start
from sto_engine.history.users import build_users, seen_users
from sto_engine.ingest.store import Store
from sto_engine.models.attention import tonights_priors
from sto_engine.models.bundle import Bundle, load_bundle
from sto_engine.models.day_features import (
    OWN_SLOT,
    PLAIN,
    PLAIN_SLOT,
    cross_matrix,
    day_counts,
    plain_users,
    slot_matrix,
)
from sto_engine.models.day_of_week import SEED_BEST_DAY, DayOfWeek
from sto_engine.models.forest import Batch, fit_forest, margins
from sto_engine.train.days import recipe_of
from sto_engine.zones import midnight_ms

SUITE, WORLD, HISTORY = "best_day", "cdp", "random days"
LATE_DAYS, SAMPLES, USERS = 30, 300, 8_000
SPLIT_DAYS = 90
MIDDLE_LATE, MIDDLE_SPLIT = DAYS - LATE_DAYS // 2, DAYS - SPLIT_DAYS // 2
MODELS = ("seed_best_day", "day_of_week")
ANY, BEST, ORACLE = "any_day", "best_common_day", "oracle"
POLICIES = (ANY, BEST, *(engine.PREFIX + name for name in MODELS), ORACLE)
CLV = 500.0
SHOWN = ("split_any", "split_any_true", "late_any", "late_any_true")


@dataclass(frozen=True)
class Mails:
    """Judged mails: user, campaign, weekday, clicked."""

    user_N: Ints
    campaign_N: Ints
    weekday_N: Ints
    click_N: NDArray[np.bool_]

    def of(self, keep_N: NDArray[np.bool_]) -> "Mails":
        return Mails(self.user_N[keep_N], self.campaign_N[keep_N], self.weekday_N[keep_N], self.click_N[keep_N])


@dataclass(frozen=True)
class Choices:
    """The day that a policy names for each user, by how it was judged: out of time, and within a random split."""

    late_U: Ints
    split_U: Ints


def run_cell(cell: Cell, threads: int, settings: tuple[str, ...] = (), campaigns: int = CAMPAIGNS) -> list[Record]:
    """The records of every policy."""
    with TemporaryDirectory(prefix="sto-decisions-") as name:
        sender = make_sender(cell.users, cell.seed, campaigns)
        bench = _Bench(sender, Path(name), cell.seed, threads, settings)
        return bench.records(cell)


@dataclass(frozen=True)
class _Bench:
    sender: Sender
    folder: Path
    seed: int
    threads: int
    settings: tuple[str, ...]

    def records(self, cell: Cell) -> list[Record]:
        events, people = write_sender(self.sender, self.folder)
        engine.make_store(self.folder / "store", [events], people)
        late, (early, split) = self._late(), self._split()
        choices: dict[str, Callable[[], Choices]] = {
            ANY: lambda: self._same(-1, -1),
            BEST: lambda: self._same(common_day(self._mails(0, DAYS - LATE_DAYS)), common_day(early)),
            **{engine.PREFIX + name: partial(self._model, name, early) for name in MODELS},
            ORACLE: lambda: Choices(*(self._truth(day).argmax(axis=1) for day in (MIDDLE_LATE, MIDDLE_SPLIT))),
        }
        records, common = [], choices[BEST]()
        for policy, choose in choices.items():
            began = time.monotonic()
            chosen = choose()
            values = {**self._judge(split, chosen.split_U, common.split_U, "split")}
            values |= self._judge(late, chosen.late_U, common.late_U, "late")
            values |= self._true(chosen, common)
            seconds = time.monotonic() - began
            records.append(
                make_record(
                    cell, policy, _rounded(values), int(self.valued_U.sum()), seconds, self.threads, self.settings
                )
            )
        return records

    @property
    def valued_U(self) -> NDArray[np.bool_]:
        return (self.sender.people["clv"].fill_null(0.0) >= CLV).to_numpy()

    def _mails(self, first: int, last: int) -> Mails:
        sender = self.sender
        mails = Mails(sender.user_N, sender.campaign_N, sender.day_N % WEEK, sender.click_N)
        return mails.of((sender.day_N >= first) & (sender.day_N < last))

    def _late(self) -> Mails:
        late = self._mails(DAYS - LATE_DAYS, DAYS)
        return late.of(self.valued_U[late.user_N])

    def _split(self) -> tuple[Mails, Mails]:
        """Mails of the last SPLIT_DAYS at random: four fifths to learn from, the valued of the others to judge by."""
        mails = self._mails(DAYS - SPLIT_DAYS, DAYS)
        held_N = np.random.default_rng([self.seed, 80]).random(len(mails.user_N)) < 0.2
        return mails.of(~held_N), mails.of(held_N & self.valued_U[mails.user_N])

    def _same(self, late: int, split: int) -> Choices:
        return Choices(*(np.full(len(self.sender.people), day) for day in (late, split)))

    def _truth(self, day: int) -> Floats:
        return self.sender.customers.chances(day)

    def _model(self, name: str, early: Mails) -> Choices:
        key = "model.preset" if name == SEED_BEST_DAY else "model.policy"
        setting = engine.Setting((f"{key}={name}", "best_day.high_churn=1", "best_day.medium_churn=1"), True)
        day, config = date_of(DAYS - LATE_DAYS), setting.config(*self.settings)
        job = engine.Job(self.folder / "store", self.folder, day, self.threads, self.seed)
        run = engine.run_setting(name, setting, job, self.settings)
        rows = pl.read_parquet(run / "assignments" / "*.parquet").select("user_id", day="preferred_slot")
        users = self.sender.people.select("user_id").join(rows, on="user_id", how="left", maintain_order="left")
        late_U = users["day"].fill_null(0).to_numpy().astype(np.int64)
        bundle = load_bundle(self.folder / f"bundle-{name}")
        return Choices(late_U, split_days(Store.open(job.store), config, bundle, early, self.seed))

    def _judge(self, mails: Mails, day_U: Ints, common_U: Ints, name: str) -> Values:
        users = len(self.sender.people)
        found: Values = {}
        for basis, basis_U in (("any", np.full(users, -1)), ("common", common_U)):
            low, middle, high = lift(mails, day_U, basis_U, self.seed)
            found |= {f"{name}_{basis}": middle, f"{name}_{basis}_low": low, f"{name}_{basis}_high": high}
        return found

    def _true(self, chosen: Choices, common: Choices) -> Values:
        """Lifts that the truth of the judged days gives the same choices, in percent."""
        found: Values = {}
        for name, day in (("late", MIDDLE_LATE), ("split", MIDDLE_SPLIT)):
            p_U7 = self._truth(day)[self.valued_U]
            day_U, common_U = (getattr(x, f"{name}_U")[self.valued_U] for x in (chosen, common))
            own, usual = _expected(p_U7, day_U), _expected(p_U7, common_U)
            found |= {f"{name}_any_true": 100 * (own / p_U7.mean() - 1), f"{name}_common_true": 100 * (own / usual - 1)}
        return found


def _rounded(values: Values) -> Values:
    return {name: None if value is None or np.isnan(value) else round(value, 3) for name, value in values.items()}


def _expected(p_U7: Floats, day_U: Ints) -> float:
    """Mean chance on the chosen days; -1 is any day."""
    chosen_U = p_U7[np.arange(len(p_U7)), np.maximum(day_U, 0)]
    return float(np.where(day_U < 0, p_U7.mean(axis=1), chosen_U).mean())


def common_day(mails: Mails) -> int:
    """The weekday of the highest click rate."""
    sends_7, clicks_7 = (np.bincount(mails.weekday_N, w, WEEK) for w in (None, mails.click_N))
    return int((clicks_7 / np.maximum(sends_7, 1)).argmax())


def lift(mails: Mails, day_U: Ints, basis_U: Ints, seed: int) -> tuple[float, float, float]:
    """Click rate on the days of one choice over that on the days of another (-1: any), less 1, in percent.

    With the ends of the wider of two 95 % intervals: bootstrap over users, and over campaigns.
    """
    sums = []
    for choice_U in (day_U, basis_U):
        hit_N = (choice_U[mails.user_N] < 0) | (choice_U[mails.user_N] == mails.weekday_N)
        sums += [hit_N & mails.click_N, hit_N]
    columns_N4 = np.stack(sums, axis=1).astype(np.float64)
    middle = float(_ratios(columns_N4.sum(axis=0)[None])[0])
    ends = []
    for group_N in (mails.user_N, mails.campaign_N):
        _, place_N = np.unique(group_N, return_inverse=True)
        sums_G4 = np.stack([np.bincount(place_N, column) for column in columns_N4.T], axis=1)
        drawn_BG = np.random.default_rng([seed, 95]).poisson(1.0, (SAMPLES, len(sums_G4)))
        ends.append(np.nanquantile(_ratios(drawn_BG @ sums_G4), [0.025, 0.975]))
    low, high = max(ends, key=lambda pair: float(pair[1] - pair[0])).tolist()
    return low, middle, high


def _ratios(sums_B4: NDArray[Any]) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(100 * (sums_B4[:, 0] / sums_B4[:, 1] / (sums_B4[:, 2] / sums_B4[:, 3]) - 1), np.float64)


def split_days(store: Store, config: Config, bundle: Bundle, early: Mails, seed: int) -> Ints:
    """The best day of each user (by id) as articles find it: features that know the labels, rows split at random."""
    policy, end_ms = DayOfWeek(config, bundle), midnight_ms(date_of(DAYS))
    buckets = [known(store, bucket, config, end_ms) for bucket in range(store.buckets)]
    priors = policy.reduce([policy.sums(bucket, store.buckets) for bucket in buckets])
    names = PLAIN_SLOT if policy.is_plain else OWN_SLOT
    ids, tables = list[NDArray[Any]](), list[NDArray[np.float32]]()
    for bucket in buckets:
        counts = day_counts(bucket)
        user_FU = plain_users(bucket, counts, config)
        own_UF = user_FU.T[:, : len(PLAIN)] if policy.is_plain else user_FU.T
        parts: list[NDArray[Any]] = [np.repeat(own_UF[:, None], WEEK, axis=1)]
        parts.append(np.broadcast_to(slot_matrix(names), (len(bucket.users), WEEK, len(names))))
        if not policy.is_plain:
            cross_X7U = cross_matrix(bucket, counts, tonights_priors(priors, bundle), config)
            parts.append(cross_X7U.transpose(2, 1, 0))
        ids.append(bucket.users["user_id"].to_numpy())
        tables.append(np.concatenate(parts, axis=2).astype(np.float32))
    order = np.argsort(np.concatenate(ids))
    id_U, table_U7F = np.concatenate(ids)[order].astype(np.int64), np.concatenate(tables)[order]
    place_N = np.searchsorted(id_U, early.user_N)
    rows_NF, label_N = table_U7F[place_N, early.weekday_N], early.click_N.astype(np.float32)
    question = SEED_BEST_DAY if policy.is_plain else "day_of_week"
    booster = fit_forest([lambda: Batch(rows_NF, label_N)], recipe_of(config, question, seed, float(label_N.mean())))
    margin_U7 = margins(booster, table_U7F.reshape(-1, table_U7F.shape[2]), None).reshape(-1, WEEK)
    day_U = np.zeros(int(id_U.max()) + 1, np.int64)
    day_U[id_U] = margin_U7.argmax(axis=1)
    return day_U


def known(store: Store, bucket: int, config: Config, end_ms: int) -> Bucket:
    """What is known of everyone with events at the end, clicks included."""
    start_ms = window_start(end_ms, config)
    events = store.read_events(bucket, before_ms=end_ms, from_ms=start_ms)
    users = build_users(seen_users(events), store.read_recipients(bucket), events, config, end_ms)
    return build_journal(events, users, config).at(start_ms, end_ms, "click")
