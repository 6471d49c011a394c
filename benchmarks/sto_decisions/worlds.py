"""A cell of the benchmark: simulate a sender, let every policy decide for the same day, judge all on the same people.

Those are the eligible users whom every policy of the cell mails; a policy that failed or was skipped excludes nobody.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from sto_decisions import engine, reference
from sto_decisions.baselines import BASELINES
from sto_decisions.known import read_known, send_at
from sto_decisions.records import Cell, Record, Values, make_record
from sto_engine.evaluate.assignments import Sent
from sto_engine.evaluate.truth import Truth, read_truth
from sto_engine.evaluate.world import judge
from sto_engine.progress import Silent
from sto_engine.simulate import simulate

DAYS = 90
ORACLE = "oracle"
POLICIES = (
    *BASELINES,
    *(engine.PREFIX + name for name in engine.SETTINGS),
    reference.NAME,
    ORACLE,
)


@dataclass(frozen=True)
class Options:
    """What all cells share."""

    policies: tuple[str, ...] = POLICIES
    ref: Path | None = None
    threads: int = 2
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sender:
    """The folder of a cell, made: world and store."""

    folder: Path
    day: date
    truth: Truth
    job: engine.Job

    @property
    def world(self) -> Path:
        return self.folder / "world"


def run_cell(cell: Cell, options: Options) -> list[Record]:
    """The records of every policy in a world; what a policy raises is its record and stops no other."""
    with TemporaryDirectory(prefix="sto-decisions-") as name:
        sender = _make(cell, Path(name), options)
        decided: dict[str, tuple[Sent | Exception, float]] = {}
        for policy in options.policies:
            began = time.monotonic()
            sent = _attempt(policy, sender, options)
            decided[policy] = (sent, time.monotonic() - began)
        sents = [sent for sent, _ in decided.values() if isinstance(sent, Sent)]
        people = _shared(sender.truth, sents)
        make = partial(_record, cell, options, sender.truth, people)
        return [make(policy, sent, seconds) for policy, (sent, seconds) in decided.items()]


def _make(cell: Cell, folder: Path, options: Options) -> _Sender:
    world, store = folder / "world", folder / "store"
    report = simulate(
        world, cell.world, cell.users, DAYS, cell.seed, Silent(), history=cell.history, threads=options.threads
    )
    day = date.fromisoformat(report.truth_day)
    engine.make_store(store, [world / "events"], world / "recipients.parquet")
    return _Sender(folder, day, read_truth(world), engine.Job(store, folder, day, options.threads, cell.seed))


def _attempt(policy: str, sender: _Sender, options: Options) -> Sent | Exception:
    try:
        return _decide(policy, sender, options)
    except Exception as error:
        return error


def _decide(policy: str, sender: _Sender, options: Options) -> Sent:
    if policy in BASELINES:
        known = read_known(sender.world, sender.day)
        return send_at(known.users, BASELINES[policy](known), sender.day, policy)
    if policy == ORACLE:
        return oracle(sender.truth, sender.day)
    if policy == reference.NAME:
        return reference.decide(options.ref, sender.world, sender.folder, sender.day)
    return engine.decide(policy.removeprefix(engine.PREFIX), sender.job, options.settings)


def oracle(truth: Truth, day: date) -> Sent:
    """Everybody at the hour of his true zone that the truth says is best for opens within two hours."""
    users = truth.users.select("user_id", "truth_row", zone="true_timezone")
    first = day.weekday() * 24
    p_U24 = truth.chances("2h", True, users["truth_row"].to_numpy())[:, first : first + 24]
    return send_at(users, p_U24.argmax(axis=1), day, ORACLE)


def _shared(truth: Truth, sents: Sequence[Sent]) -> pl.Series:
    """Eligible users whom all of these mail."""
    people = truth.users.filter(pl.col("eligible")).select("user_id")
    for sent in sents:
        people = people.join(sent.rows.select("user_id"), on="user_id", how="semi", maintain_order="left")
    return people["user_id"]


def _record(
    cell: Cell, options: Options, truth: Truth, people: pl.Series, policy: str, sent: Sent | Exception, seconds: float
) -> Record:
    name = policy.removeprefix(engine.PREFIX)
    settings = [*engine.SETTINGS[name].overrides, *options.settings] if policy.startswith(engine.PREFIX) else []
    make = partial(make_record, cell, policy, seconds=seconds, threads=options.threads, settings=settings)
    if isinstance(sent, Exception):
        return make(None, failure=sent)
    if not len(people):
        return make(None, failure=ValueError("no eligible user is mailed by every policy of the cell"))
    return make(values(judge(truth, sent.only(people), "all")), judged=len(people))


def values(judged: dict[str, dict[str, float | None]]) -> Values:
    """The figures of the judge that the benchmark keeps, flat."""
    captured = {
        f"{name}_{horizon}": judged[f"within_{horizon}"][name]
        for horizon in ("2h", "24h")
        for name in ("captured_percent", "captured_low", "captured_high", "regret_percent")
    }
    slots = {name: judged["slots"][name] for name in ("entropy_bits", "max_share", "top3_share")}
    return {**captured, **slots, "ece": judged["calibration"]["ece"], "ratio": judged["calibration"]["ratio"]}
