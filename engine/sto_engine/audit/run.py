"""`audit`: what is wrong with a store, what each defect costs a campaign, and whether the nightly run may stand on it.

The report, a contract (shares are 0..1 and null where they cannot be told; "window": model.history_days before `date`):

    verdict, reasons    pass, warn or fail, and why; checks: every share against its limit of [audit]
    date, default_date  day that the audit looks from; day that score would take by itself
    events              rows in the store, exact duplicates, events by type in the window, events after the date
    ingest              rows in quarantine by rule; values that ingest nulled, and nulls in the window, by column
    rules               rows that each rule of cleaning drops in the window
    machines            users by kind; share of opens that are a machine's; opens by kind of agent;
                        machine_opens_by_provider
    history             users with fewer than audit.history_acts acts, as the events came and as cleaning leaves them
    addresses           dead ones and why; who else is not mailed, by reason; recipients listed twice
    zones               where zones come from, accepted shifts, profiles that events contradict
    time                first and newest day, events far ahead of all others
    campaigns           how many, and which look like tests
    coverage            hours of the day ever tried, what rests on hours never tried, how certain best slots are
    cost                by rule left out: opens a campaign lost, slots that move, share of all expected opens lost
    sample              users that cost and coverage were worked out on; expected opens are scaled to all users
    warnings            what the shares do not say

Counts are of all buckets. Costs come from a hash sample of users of every bucket, campaign sums and priors included.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from sto_engine.audit.days import as_date, newest_day
from sto_engine.audit.prices import VARIANTS, price_rules
from sto_engine.audit.report import Facts, write_report
from sto_engine.audit.sample import Sampled
from sto_engine.audit.tally import Tally, add_up, tally_bucket
from sto_engine.config import Config
from sto_engine.errors import BadData
from sto_engine.executor import Threads
from sto_engine.ingest.calendar_file import with_calendar
from sto_engine.ingest.store import Store
from sto_engine.progress import Progress
from sto_engine.zones import midnight_ms

SAMPLE_USERS = 20_000


def run_audit(
    path: Path, day: date | None, config: Config, sample_users: int, threads: int, progress: Progress
) -> dict[str, Any]:
    """The report on the store at `path` for a run on `day` (default: the day after its newest plausible event).

    Raises InputMissing (66) where there is no store, BadData (65) for one without events.
    """
    config, store = with_calendar(config), Store.open(path)
    if store.newest_event_ms is None:
        raise BadData(f"store {path} has no events to audit; ingest events first")
    default = datetime.fromtimestamp(store.newest_event_ms / 1000, UTC).date() + timedelta(days=1)
    audit = _Audit(store, config, sample_users, threads, progress)
    total = audit.tally(day or default)
    newest, ahead = newest_day(total.days)
    assert newest is not None
    plausible = as_date(newest) + timedelta(days=1)
    if day is None and plausible != default:
        total = audit.tally(plausible)
    asked = day or plausible
    sampled = audit.sampled(total, asked)
    full = sampled.without(())
    progress.start("price", len(VARIANTS))
    prices = price_rules(sampled, full, lambda _: progress.advance("price"))
    return write_report(Facts(store, config, asked, default, plausible, ahead, total, sampled, full, prices))


@dataclass(frozen=True)
class _Audit:
    store: Store
    config: Config
    sample_users: int
    threads: int
    progress: Progress

    def tally(self, day: date) -> Tally:
        """Counts of all buckets, seen from a day."""
        store, each = self.store, -(-self.sample_users // self.store.buckets)
        self.progress.start("count", store.buckets)
        done: dict[int, Tally] = {}

        def work(bucket: int) -> Tally:
            return tally_bucket(store, bucket, midnight_ms(day), self.config, each)

        for bucket, found in Threads(self.threads).run(work, range(store.buckets)):
            done[bucket] = found
            self.progress.advance("count")
        return add_up([done[bucket] for bucket in sorted(done)])

    def sampled(self, total: Tally, day: date) -> Sampled:
        events, users = pl.concat(total.events), pl.concat(total.users)
        return Sampled(events, users, self.config, day, midnight_ms(day))
