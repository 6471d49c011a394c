"""The rounds between phases A and B, only where something is short: pre-flight, prices, and slots for everyone.

    pre-flight   before anyone is scored: do the limits take this mail at all, and if not, what is short
    window       as long as the busiest window of the unlimited choice asks for, within [spread]
    solve        assign.solve over the staged rows; prices and certificate to _staging/plan.json, slots beside it
    settle       each bucket's rows with their final slots

A run that was killed between solve and its end goes on from plan.json.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sto_engine.assign.book import Outcome, Terms
from sto_engine.assign.census import Census
from sto_engine.assign.channels import limits_of
from sto_engine.assign.market import Market, demand_of, make_market
from sto_engine.assign.plan_json import outcome_from_json, outcome_to_json, prices_of
from sto_engine.assign.preflight import check_feasibility
from sto_engine.assign.resources import MARK, describe, settings
from sto_engine.assign.shortage import Feasibility, explain
from sto_engine.assign.solve import run_key, solve
from sto_engine.assign.spread_window import NeedKey, window_minutes
from sto_engine.bucket_counts import BucketCounts
from sto_engine.bucket_work import SlotsFile
from sto_engine.errors import ConfigError
from sto_engine.executor import Executor
from sto_engine.files import canonical_json, sync, write_atomic
from sto_engine.final_slots import FinalSlots
from sto_engine.in_order import in_order
from sto_engine.output import manifest as runs
from sto_engine.output.report import add_to
from sto_engine.phases import StagedAll
from sto_engine.plan import Plan
from sto_engine.progress import Progress
from sto_engine.rates import BIN_MINUTES, bin_capacity, parse_rates
from sto_engine.records import Recorder, Records, counts_from_json
from sto_engine.settle import Moves, Noise
from sto_engine.staged_book import SLOTS, StagedBook, Steps

T = TypeVar("T")
PLAN = f"{runs.STAGING}/plan.json"
PASSES = 8


@dataclass(frozen=True)
class Priced:
    """The market of a run and the plan that was found in it; counts and moves are those of all final slots.

    `counted` are the records of the buckets' own counts, `slots` files of those buckets that have others than staged.
    """

    market: Market
    outcome: Outcome
    feasibility: Feasibility
    window_minutes: int
    notes: list[str]
    counts: BucketCounts
    moves: Moves
    counted: Records
    slots: dict[int, SlotsFile]
    final: FinalSlots


def preflight(plan: Plan, census: Census, progress: Progress) -> None:
    """Raise ConfigError (78) where the limits cannot take the mail even in the widest windows, unless some may be
    left out, and where there is no window to hold them in; before anyone is scored."""
    window_minutes({}, {}, plan.config.spread, plan.grid.send_minutes, whole_bins=True)
    bins = bins_of(_widest(plan))
    avoid = plan.config.spread.avoid_minutes
    market = make_market(plan.config.capacity, census, plan.options.size, bins, census.past, avoid, plan.channels)
    found = check_feasibility(demand_of(market, census))
    if found.is_feasible:
        return
    if plan.config.capacity.on_infeasible == "fail":
        raise ConfigError(explain(found))
    progress.warn("capacity", detail=explain(found, leaves_out=True))


def _widest(plan: Plan) -> int:
    most = plan.config.spread.max_minutes or plan.grid.send_minutes
    return max(min(most, plan.grid.send_minutes) // BIN_MINUTES, 1) * BIN_MINUTES


def bins_of(minutes: int) -> int:
    """Quarter-hours of a spread window; a window of another length is one piece."""
    return minutes // BIN_MINUTES if minutes % BIN_MINUTES == 0 else 1


@dataclass
class Rounds:
    """Prices and slots of a run whose rows are staged under `run`; `name` is that of the phase that counts them.

    With `keep`, a run that is killed goes on from what was found.
    """

    plan: Plan
    run: Path
    executor: Executor
    progress: Progress
    staged: StagedAll
    past: Counter[tuple[int, str]]
    notes: list[str] = field(default_factory=list)
    keep: bool = True
    name: str = "settle"

    def price(self) -> Priced:
        """Slots for everyone within the limits. Raises ConfigError (78) where they cannot be held."""
        minutes, market, found = self._market(self.staged.counts.census)
        self.notes += market.notes
        may_defer = not found.is_feasible
        if may_defer:
            self._tell_shortage(found)
        book, terms, outcome = self._planned(market, may_defer)
        if outcome.deferred and not may_defer:
            self.notes.append(f"no plan was found that sends everybody: {outcome.deferred:,} recipients are left out")
        noise = Noise(market.limits.cost_GS(outcome.price_R), terms.run_key, outcome.eps, outcome.none)
        reason = "deferred" if self.plan.config.capacity.on_infeasible == "defer" else "no_capacity"
        final = FinalSlots(self.plan, market, self.run, noise, reason)
        counted = self._counted(book, final)
        return Priced(market, outcome, found, minutes, self.notes, *self._total(counted), counted, book.files, final)

    def _counted(self, book: StagedBook, final: FinalSlots) -> Records:
        record = Recorder(self.run, len(book.buckets), self.executor, self.progress)
        return record(self.name, partial(final.count, not book.is_checked), book.files.get)

    def _total(self, counted: Records) -> tuple[BucketCounts, Moves]:
        """Counts of all buckets after prices, and what moved."""
        total, moves, was = BucketCounts(), Moves(), self.staged.counts
        for record in counted:
            add_to(total, counts_from_json(record))
            moves += Moves(**record["moves"])
        total.suppressed.update(was.suppressed)
        total.audience, total.nan_rows, total.held = was.audience, was.nan_rows, was.held
        total.preferred, total.gain, total.regret, total.cold = was.preferred, was.gain, was.regret, was.cold
        return total, moves

    def _planned(self, market: Market, may_defer: bool) -> tuple[StagedBook, Terms, Outcome]:
        """The plan of an earlier attempt, or a new one; where none is found that sends everybody and some may be left
        out, one that leaves them out."""
        book = StagedBook(self.plan, market, self.run, self.staged.records.buckets)
        terms = self._terms(market, may_defer)
        found = self._resumed(book, market) if self.keep else None
        if found is not None:
            return book, terms, found
        self._clear()
        outcome = self._solved(book, terms)
        if outcome.violations and not may_defer and self.plan.config.capacity.on_infeasible != "fail":
            return self._planned(market, may_defer=True)
        self._refuse_violations(outcome, market)
        if self.keep:
            self._keep(book, outcome)
        return book, terms, outcome

    def _clear(self) -> None:
        """What an earlier plan left is of no use to a new one."""
        for name in (SLOTS, f"{runs.STAGING}/{self.name}"):
            shutil.rmtree(self.run / name, ignore_errors=True)
        runs.make_folder(self.run / SLOTS)

    def _tell_shortage(self, found: Feasibility) -> None:
        if self.plan.config.capacity.on_infeasible == "fail":
            raise ConfigError(explain(found))
        self.notes.append(explain(found, leaves_out=True))

    def _market(self, census: Census) -> tuple[int, Market, Feasibility]:
        """The spread window and the market in it; the widest window where a shorter one does not take the mail."""
        spread, capacity = self.plan.config.spread, self.plan.config.capacity
        minutes, why = window_minutes(self._need(), self._rates(), spread, self.plan.grid.send_minutes, whole_bins=True)
        size = self.plan.options.size
        for length in sorted({minutes, _widest(self.plan)}):
            bins = bins_of(length)
            market = make_market(capacity, census, size, bins, self.past, spread.avoid_minutes, self.plan.channels)
            found = check_feasibility(demand_of(market, census))
            if found.is_feasible or length >= _widest(self.plan):
                break
        if length != minutes:
            why = f"spread window widened from {minutes} to {length} minutes: in less the limits do not take this mail"
        if why:
            self.notes.append(why)
        return length, market, found

    def _need(self) -> dict[NeedKey, int]:
        """Sends of each start by whoever may have limits, as if nothing were short, and of each start in all."""
        need: Counter[NeedKey] = Counter()
        for (start, lane), n in self.staged.counts.spread.items():
            for who in (*limits_of(lane, self.plan.channels), None):
                need[start, who] += n
        return dict(need)

    def _rates(self) -> dict[str | None, int]:
        capacity = self.plan.config.capacity
        own = [(MARK + name, rate) for name, rate in capacity.channels.items() if name in self.plan.channels]
        limits = [(None, capacity.total), *capacity.providers.items(), *own]
        rates = {name: bin_capacity(parse_rates(text)) for name, text in limits}
        return {name: rate for name, rate in rates.items() if rate is not None}

    def _terms(self, market: Market, may_defer: bool) -> Terms:
        # as random slots are: a replay of prices under another run_id splits ties alike
        key = run_key(f"{self.plan.occasion}:{self.plan.seed}")
        if self.plan.prices is not None:
            fixed_R = prices_of(self.plan.prices, market, strict=True)
            return Terms(market.limits, market.stratum_G, key, may_defer, prices_R=fixed_R)
        start_R = prices_of(self.plan.warm_prices, market, strict=False) if self.plan.warm_prices else None
        return Terms(market.limits, market.stratum_G, key, may_defer, start_R=start_R)

    def _solved(self, book: StagedBook, terms: Terms) -> Outcome:
        steps = Steps(self.progress, PASSES * len(book.buckets))

        def each(
            name: str, work: Callable[..., T], buckets: Sequence[int], told: Callable[[int], Any] | None = None
        ) -> Iterator[T]:
            for result in in_order(self.executor.run(work, buckets, told), buckets):
                steps.done(1)
                yield result
            book.is_checked = True  # every pass reads whatever has not been read yet

        with ThreadPoolExecutor(min(self.executor.workers, os.cpu_count() or 1)) as pool:
            outcome = solve(book, terms, each, lambda work, n: list(pool.map(work, range(n))))
        steps.finish()
        return outcome

    def _refuse_violations(self, outcome: Outcome, market: Market) -> None:
        if not outcome.violations:
            return
        over_R = (outcome.load_R > market.limits.capacity_R) & market.limits.hard_R
        over = [market.resources[r] for r in np.flatnonzero(over_R).tolist()]
        raise ConfigError(
            f"no plan was found within the limits: {describe(over)} would take {outcome.violations:,} units too many; "
            f'raise {", ".join(settings(over))}, or set capacity.on_infeasible = "defer"'
        )

    def _keep(self, book: StagedBook, outcome: Outcome) -> None:
        """The plan, and the slots that it came to, for a run that is killed after this."""
        for _, file in sorted(book.files.items()):
            sync(self.run / file.name)
        sync(self.run / SLOTS)
        files = {file.name: file.sha256 for file in book.files.values()}
        body = {"files": files, "staged": self._fingerprint, "outcome": outcome_to_json(outcome)}
        write_atomic(self.run / PLAN, canonical_json({**body, "seal": _seal(body)}))

    @cached_property
    def _fingerprint(self) -> str:
        """What the plan was made from."""
        digest = hashlib.sha256()
        for record in self.staged.records:
            digest.update(canonical_json(record["files"]))
        return digest.hexdigest()

    def _resumed(self, book: StagedBook, market: Market) -> Outcome | None:
        """The plan of an earlier attempt whose slots are all there."""
        try:
            body = json.loads((self.run / PLAN).read_bytes())
            is_ours = body.pop("seal") == _seal(body) and body["staged"] == self._fingerprint
            if not is_ours or not runs.files_match(self.run, body["files"]):
                return None
            outcome = outcome_from_json(body["outcome"])
            files = sorted(body["files"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if len(outcome.price_R) != len(market.resources) or len(files) not in (0, len(book.buckets)):
            return None
        book.files = {bucket: SlotsFile(*file) for bucket, file in enumerate(files)}
        return outcome


def _seal(body: dict[str, Any]) -> str:
    """What shows that a plan is read as it was written: numbers that are off by a digit are JSON as well."""
    return hashlib.sha256(canonical_json(body)).hexdigest()
