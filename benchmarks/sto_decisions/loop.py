"""The closed loop: what a player decides today is what he learns from tomorrow.

Each player has a sender of his own in a living world (`simulate.living`): he scores for the day, the world sends and
opens, the events are ingested, and the next campaign's run sees what came before its day. All of it by the engine's
own front door. Two players meet the same people, campaigns and luck.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_decisions import engine
from sto_decisions.known import send_at
from sto_decisions.outcome import Outcome, figures, grouped, groups_of, outcome_of
from sto_decisions.players import ORACLE, Player
from sto_decisions.records import Cell, Record, Values, make_record
from sto_engine.config import Config
from sto_engine.errors import BadData
from sto_engine.evaluate.assignments import read_sent
from sto_engine.files import write_parquet
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from sto_engine.simulate.habits import DAY_H
from sto_engine.simulate.living import Happened, LivingWorld
from sto_engine.simulate.people import ZONE_NAMES, words
from sto_engine.simulate.run import DICTIONARY, ROW_GROUP
from sto_engine.train_job import train

WORLDS = ("attention", "send_hour", "drift")
CAMPAIGNS, HISTORY_DAYS = 30, 30
LATE = 10  # campaigns after which players are compared
_OTHER_SEED = 1_000
_MOST_LABEL_DAYS, _LEAST_LABEL_DAYS = 60, 14


@dataclass(frozen=True)
class Options:
    """What all cells of a suite share; `settings` are laid over every player's."""

    campaigns: int = CAMPAIGNS
    history_days: int = HISTORY_DAYS
    threads: int = 2
    settings: tuple[str, ...] = ()


def run_player(cell: Cell, options: Options, name: str, player: Player | None) -> list[Record]:
    """The record of one player in the loop of a world."""
    living = LivingWorld(cell.world, cell.users, cell.seed, options.history_days, options.campaigns)
    everyone = np.ones(int(living.users["eligible"].sum()), np.bool_)
    return [play(cell, options, living, name, player, everyone, options.campaigns > LATE)]


def play(
    cell: Cell,
    options: Options,
    living: LivingWorld,
    name: str,
    player: Player | None,
    judged_U: NDArray[np.bool_],
    is_late: bool = False,
) -> Record:
    """The record of one player, judged on some of the eligible users; what he raises is his record."""
    began = time.monotonic()
    settings = () if player is None else (*player.setting.overrides, *options.settings)
    make = partial(make_record, cell, name, threads=options.threads, settings=settings)
    try:
        with TemporaryDirectory(prefix="sto-decisions-") as folder:
            sender = _Sender(cell, living, player, Path(folder), options)
            outcomes = [outcome.of(judged_U) for outcome in sender.campaigns()]
    except Exception as error:
        return make(None, seconds=time.monotonic() - began, failure=error)
    values: Values = {**figures(outcomes)}
    if is_late:
        ids_U = living.users.filter("eligible")["user_id"].to_numpy()[judged_U]
        values |= grouped(outcomes[LATE:], groups_of(ids_U))
    return make(values, judged=int(judged_U.sum()), seconds=time.monotonic() - began)


class _Sender:
    """One player's sender: his store, and what he sends and learns, campaign by campaign."""

    def __init__(self, cell: Cell, living: LivingWorld, player: Player | None, folder: Path, options: Options) -> None:
        self.living, self.player, self.folder, self.options = living, player, folder, options
        self.world, self.seed = cell.world, cell.seed
        self._bundle: Path | None = None
        if player is not None:
            _make_store(living, folder / "world", self._store)
        self._prior = self._other_brand() if player is not None and player.has_prior else None

    def campaigns(self) -> Iterator[Outcome]:
        """Send one campaign after the other."""
        for campaign in range(len(self.living.day_C)):
            rows = _best_hours(self.living, campaign) if self.player is None else self._score(self.player, campaign)
            happened = self.living.step(campaign, rows)
            yield outcome_of(self.living, campaign, happened)
            if self.player is not None:
                self._learn(happened)

    @property
    def _store(self) -> Path:
        return self.folder / "store"

    def _learn(self, happened: Happened) -> None:
        path = self.folder / "events.parquet"
        write_parquet(path, happened.events, ROW_GROUP, DICTIONARY)
        config = engine.Setting(()).config()
        ingest([str(path)], self._store, None, config, Silent(), threads=self.options.threads)

    def _score(self, player: Player, campaign: int) -> pl.DataFrame:
        """The rows of the run of a campaign's day. Until there is a model, `attention` decides by the same settings."""
        setting, day = player.setting, self.living.date_of(campaign)
        if setting.needs_bundle and campaign % player.retrained == 0:
            self._train(campaign, day)
        if setting.needs_bundle and self._bundle is None:
            setting = engine.Setting((*setting.overrides, *engine.SETTINGS["attention"].overrides))
        request = ScoreRequest(
            *(self._store, self.folder / "runs", self._bundle, day),
            campaign=str(self.living.campaign_id(campaign)),
            threads=self.options.threads,
            seed=self.seed,
        )
        done = run_score(request, setting.config(*self.options.settings), Silent())
        assert done.run_dir is not None
        rows = read_sent(done.run_dir).rows
        rmtree(done.run_dir)
        return rows

    def _train(self, campaign: int, day: date) -> None:
        """The model of a day, in place of the former one where there is enough to learn from."""
        bundle, config = self.folder / "bundle", _trained(*self._label_days(campaign), *self.options.settings)
        facts = (config, self.options.threads, self.seed, None, Silent())
        with suppress(BadData):
            train(self._store, bundle, day, *facts, force=True, prior_bundle=self._prior)
            self._bundle = bundle

    def _other_brand(self) -> Path:
        """The bundle of a sender of the same world, with other people and a long history."""
        plan, users, folder = self.living.plan, len(self.living.users), self.folder / "other"
        other = LivingWorld(self.world, users, self.seed + _OTHER_SEED, 90, 1, end=plan.end)
        _make_store(other, folder / "world", folder / "store")
        facts = (_trained(*self.options.settings), self.options.threads, self.seed, None, Silent())
        train(folder / "store", folder / "bundle", plan.end, *facts, force=True)
        return folder / "bundle"

    def _label_days(self, campaign: int) -> tuple[str, ...]:
        """Two thirds of what there is are labels, as by default of 90 days; more would leave features nothing."""
        days = int(self.living.day_C[campaign]) * 2 // 3
        return (f"train.label_days={min(max(days, _LEAST_LABEL_DAYS), _MOST_LABEL_DAYS)}",)


def _make_store(living: LivingWorld, world: Path, store: Path) -> None:
    living.write(world)
    engine.make_store(store, sorted((world / "events").iterdir()), world / "recipients.parquet")


def _trained(*more: str) -> Config:
    """What models are trained by."""
    return engine.SETTINGS["boosted"].config(*more)


def _best_hours(living: LivingWorld, campaign: int) -> pl.DataFrame:
    """Everybody at the hour of the day where he is that the truth says is best within two hours."""
    truth = living.truth(campaign)
    best_U = truth.p2_UH[:, truth.first_hour : truth.first_hour + DAY_H].argmax(axis=1)
    users = living.users.select("user_id", zone=words(ZONE_NAMES, truth.zone_U))
    return send_at(users, best_U, living.date_of(campaign), ORACLE).rows
