"""The rounds between phases A and B, only where something is short: pre-flight, prices, and slots for everyone.

    pre-flight   before anyone is scored: do the limits take this mail at all, and if not, what is short
    window       as long as the busiest window of the unlimited choice asks for, within [spread]
    solve        assign.solve over the staged rows; prices and certificate to _staging/plan.json, slots beside it
    settle       each bucket's rows with their final slots

A run that was killed between solve and its end goes on from plan.json.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa

from sto_engine.assign.book import Outcome, Slots, Terms
from sto_engine.assign.census import Census
from sto_engine.assign.market import Market, demand_of, make_market
from sto_engine.assign.plan_json import outcome_from_json, outcome_to_json, prices_of
from sto_engine.assign.preflight import check_feasibility
from sto_engine.assign.resources import describe, settings
from sto_engine.assign.shortage import Feasibility, explain
from sto_engine.assign.solve import run_key, solve
from sto_engine.assign.spread_window import NeedKey, window_minutes
from sto_engine.choose import BucketCounts
from sto_engine.cluster import run_buckets
from sto_engine.errors import ConfigError
from sto_engine.files import canonical_json, write_atomic
from sto_engine.output import manifest as runs
from sto_engine.output.shards import read_staged
from sto_engine.phases import StagedRecord, rows_name
from sto_engine.plan import Plan
from sto_engine.progress import Progress
from sto_engine.rates import BIN_MINUTES, bin_capacity, parse_rates
from sto_engine.settle import Moves, Noise, read_bucket, settle
from sto_engine.staged_book import StagedBook, Steps

T = TypeVar("T")
PLAN = f"{runs.STAGING}/plan.json"
PASSES = 8


@dataclass(frozen=True)
class Priced:
    """The market of a run and the plan that was found in it; counts are those of the final slots."""

    market: Market
    outcome: Outcome
    feasibility: Feasibility
    window_minutes: int
    notes: list[str]
    counts: list[BucketCounts]
    moves: list[Moves]
    left_out: str
    slots: dict[int, Slots]
    noise: Noise


def preflight(plan: Plan, census: Census, progress: Progress) -> None:
    """Raise ConfigError (78) where the limits cannot take the mail even in the widest windows, unless some may be
    left out, and where there is no window to hold them in; before anyone is scored."""
    window_minutes({}, {}, plan.config.spread, plan.grid.minutes, whole_bins=True)
    bins = bins_of(_widest(plan))
    avoid = plan.config.spread.avoid_minutes
    market = make_market(plan.config.capacity, census, plan.grid.slots, bins, census.past, avoid)
    found = check_feasibility(demand_of(market, census))
    if found.is_feasible:
        return
    if plan.config.capacity.on_infeasible == "fail":
        raise ConfigError(explain(found))
    progress.warn("capacity", detail=explain(found, leaves_out=True))


def _widest(plan: Plan) -> int:
    most = plan.config.spread.max_minutes or plan.grid.minutes
    return max(min(most, plan.grid.minutes) // BIN_MINUTES, 1) * BIN_MINUTES


def bins_of(minutes: int) -> int:
    """Quarter-hours of a spread window; a window of another length is one piece."""
    return minutes // BIN_MINUTES if minutes % BIN_MINUTES == 0 else 1


@dataclass
class Rounds:
    """Prices and slots of a run whose rows are staged under `run`."""

    plan: Plan
    run: Path
    run_id: str
    threads: int
    progress: Progress
    staged: Sequence[StagedRecord]
    past: Counter[tuple[int, str]]
    notes: list[str] = field(default_factory=list)
    keep: bool = True
    _seen: set[int] = field(default_factory=set)

    def price(self) -> Priced:
        """Slots for everyone within the limits. Raises ConfigError (78) where they cannot be held."""
        census = Census()
        for record in self.staged:
            census.add(record.counts.census)
        minutes, market, found = self._market(census)
        self.notes += market.notes
        may_defer = not found.is_feasible
        if may_defer:
            self._tell_shortage(found)
        book, terms, outcome = self._planned(market, may_defer)
        if outcome.deferred and not may_defer:
            self.notes.append(f"no plan was found that sends everybody: {outcome.deferred:,} recipients are left out")
        noise = Noise(market.limits.cost_GS(outcome.price_R), terms.run_key, outcome.eps, outcome.none)
        reason = "deferred" if self.plan.config.capacity.on_infeasible == "defer" else "no_capacity"
        priced = Priced(market, outcome, found, minutes, self.notes, [], [], reason, book.chosen, noise)
        counted = dict(run_buckets(lambda b: self._counted(priced, b), book.buckets, self.threads))
        for bucket in book.buckets:
            counts, moves = counted[bucket]
            priced.counts.append(counts)
            priced.moves.append(moves)
        return priced

    def _planned(self, market: Market, may_defer: bool) -> tuple[StagedBook, Terms, Outcome]:
        """The plan of an earlier attempt, or a new one; where none is found that sends everybody and some may be left
        out, one that leaves them out."""
        book, terms = StagedBook(self.plan, market, self.table, len(self.staged)), self._terms(market, may_defer)
        found = self._resumed(book, market) if self.keep else None
        if found is not None:
            return book, terms, found
        outcome = self._solved(book, terms)
        if outcome.violations and not may_defer and self.plan.config.capacity.on_infeasible != "fail":
            return self._planned(market, may_defer=True)
        self._refuse_violations(outcome, market)
        if self.keep:
            self._keep(book, outcome, market)
        return book, terms, outcome

    def _tell_shortage(self, found: Feasibility) -> None:
        if self.plan.config.capacity.on_infeasible == "fail":
            raise ConfigError(explain(found))
        self.notes.append(explain(found, leaves_out=True))

    def final(self, priced: Priced, bucket: int, table: pa.Table) -> tuple[pl.DataFrame, pa.Table]:
        """Rows of a bucket to send, and those left out with their reason (phases.Final)."""
        staged = read_bucket(self.plan, priced.market, table)
        settled = settle(self.plan, priced.market, staged, table, priced.slots[bucket], priced.noise)
        left = settled.left_out.with_columns(reason=pl.lit(priced.left_out, pl.String))
        return settled.rows, left.to_arrow()

    def _counted(self, priced: Priced, bucket: int) -> tuple[BucketCounts, Moves]:
        table = self.table(bucket)
        staged = read_bucket(self.plan, priced.market, table)
        settled = settle(self.plan, priced.market, staged, table, priced.slots[bucket], priced.noise)
        counts, was = settled.counts, self.staged[bucket].counts
        counts.suppressed = was.suppressed.copy()
        if len(settled.left_out):
            counts.suppressed[priced.left_out] += len(settled.left_out)
        counts.audience, counts.nan_rows, counts.held = was.audience, was.nan_rows, was.held
        counts.preferred, counts.gain = was.preferred, was.gain
        return counts, settled.moves

    def table(self, bucket: int) -> pa.Table:
        """The staged rows; their hash is looked at once here, and once more before shards are made of them."""
        name, seen = rows_name(bucket), bucket in self._seen
        self._seen.add(bucket)
        return read_staged(self.run / name, None if seen else self.staged[bucket].files[name])

    def _market(self, census: Census) -> tuple[int, Market, Feasibility]:
        """The spread window and the market in it; the widest window where a shorter one does not take the mail."""
        spread, capacity = self.plan.config.spread, self.plan.config.capacity
        minutes, why = window_minutes(self._need(), self._rates(), spread, self.plan.grid.minutes, whole_bins=True)
        for length in sorted({minutes, _widest(self.plan)}):
            bins = bins_of(length)
            market = make_market(capacity, census, self.plan.grid.slots, bins, self.past, spread.avoid_minutes)
            found = check_feasibility(demand_of(market, census))
            if found.is_feasible or length >= _widest(self.plan):
                break
        if length != minutes:
            why = f"spread window widened from {minutes} to {length} minutes: in less the limits do not take this mail"
        if why:
            self.notes.append(why)
        return length, market, found

    def _need(self) -> dict[NeedKey, int]:
        """Sends of each start and provider as if nothing were short, and of each start in all."""
        need: Counter[NeedKey] = Counter()
        for record in self.staged:
            for (start, provider), n in record.counts.spread.items():
                need[start, provider] += n
                need[start, None] += n
        return dict(need)

    def _rates(self) -> dict[str | None, int]:
        capacity = self.plan.config.capacity
        limits = [(None, capacity.total), *capacity.providers.items()]
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

        def each(name: str, work: Callable[[int], T], buckets: Sequence[int]) -> list[T]:
            found = {}
            for bucket, result in run_buckets(work, buckets, self.threads):
                found[bucket] = result
                steps.done(1)
            return [found[bucket] for bucket in buckets]

        with ThreadPoolExecutor(max_workers=self.threads) as pool:
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

    def _keep(self, book: StagedBook, outcome: Outcome, market: Market) -> None:
        """The plan beside the slots that it came to, for a run that is killed after this."""
        files = {}
        for bucket, slot_U in sorted(book.chosen.items()):
            name = f"{runs.STAGING}/slots/bucket-{bucket:04d}.u8"
            runs.make_folder((self.run / name).parent)
            write_atomic(self.run / name, slot_U.tobytes())
            files[name] = hashlib.sha256(slot_U.tobytes()).hexdigest()
        body = {"files": files, "staged": self._fingerprint, "outcome": outcome_to_json(outcome)}
        write_atomic(self.run / PLAN, canonical_json({**body, "seal": _seal(body)}))

    @cached_property
    def _fingerprint(self) -> str:
        """What the plan was made from."""
        return hashlib.sha256(canonical_json([record.files for record in self.staged])).hexdigest()

    def _resumed(self, book: StagedBook, market: Market) -> Outcome | None:
        """The plan of an earlier attempt whose slots are all there."""
        try:
            body = json.loads((self.run / PLAN).read_bytes())
            is_ours = body.pop("seal") == _seal(body) and body["staged"] == self._fingerprint
            if not is_ours or not runs.files_match(self.run, body["files"]):
                return None
            slots = [np.frombuffer((self.run / name).read_bytes(), np.uint8) for name in sorted(body["files"])]
            outcome = outcome_from_json(body["outcome"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if len(outcome.price_R) != len(market.resources) or len(slots) != len(book.buckets):
            return None
        for bucket, slot_U in enumerate(slots):
            book.keep(bucket, slot_U)
        return outcome


def _seal(body: dict[str, Any]) -> str:
    """What shows that a plan is read as it was written: numbers that are off by a digit are JSON as well."""
    return hashlib.sha256(canonical_json(body)).hexdigest()
