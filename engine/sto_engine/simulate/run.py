"""`simulate`: a sender's history and the truth behind it, in the fixed format, from a seed.

    DIR/events/part-0000.parquet ..   send, open, click; one file a chunk of users
    DIR/recipients.parquet            what the sender knows
    DIR/truth.parquet                 P(open | user, slot) on the first day after the history

Chunks are drawn from (seed, chunk), several at a time, and written in order: threads change nothing but the time it
takes. Worlds serve tests and planning; nothing measured in one is evidence of lift.
"""

import difflib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sto_engine.errors import CannotCreate, ConfigError, UsageError
from sto_engine.files import atomic_path, write_parquet
from sto_engine.progress import Progress
from sto_engine.simulate.chunk import CHUNK_USERS, Chunk, Plan, draw_chunk
from sto_engine.simulate.mailing import HISTORIES, draw_campaigns
from sto_engine.simulate.people import COUNTRIES
from sto_engine.simulate.record import DAY_MS, TRUTH_SCHEMA
from sto_engine.simulate.scene import Period
from sto_engine.simulate.worlds import WORLDS
from sto_engine.zones import midnight_ms

CAMPAIGNS_PER_DAY = 0.5
END = date(2026, 4, 20)
ROW_GROUP = 131_072
_HOLIDAY_SHARE = 0.12
DICTIONARY = ["event_type", "device_type", "campaign_type", "timezone", "country", "signup_source", "address_status"]
# recipients, truth, and the numbers of events, sends and opens of a chunk whose events are on disk
Written = tuple[pa.Table, pa.Table, tuple[int, int, int]]


@dataclass(frozen=True)
class SimulationReport:
    """What was written; times are UTC midnights."""

    world: str
    history: str
    users: int
    days: int
    events: int
    sends: int
    opens: int
    first_day: str
    truth_day: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def simulate(
    out: Path,
    world: str,
    users: int,
    days: int,
    seed: int,
    progress: Progress,
    end: date = END,
    history: str = "few",
    campaigns_per_day: float = CAMPAIGNS_PER_DAY,
    threads: int = 2,
) -> SimulationReport:
    """Simulate `users` recipients over the `days` before `end` and write them to `out`.

    Raises ConfigError (78) for an unknown world or history, UsageError (2) for counts that make no sense, CannotCreate
    (73) where `out` holds other files.
    """
    if users < 1 or days < 1:
        raise UsageError(f"--users and --days must be at least 1; found {users} and {days}")
    if not 0 < campaigns_per_day <= 100:
        raise UsageError(f"--campaigns-per-day must be above 0 and at most 100; found {campaigns_per_day}")
    plan = make_plan(world, history, days, seed, end, campaigns_per_day)
    _prepare(out)
    sizes = [min(CHUNK_USERS, users - first) for first in range(0, users, CHUNK_USERS)]
    progress.start("simulate", len(sizes))

    def work(number: int) -> Written:
        return _write_events(out, number, draw_chunk(plan, number, sizes[number]))

    pool = ThreadPoolExecutor(threads)
    try:
        counts = _collect(out, pool.map(work, range(len(sizes))), progress)
    finally:
        pool.shutdown(cancel_futures=True)
    return SimulationReport(world, history, users, days, *counts, str(end - timedelta(days=days)), str(end))


def _refuse_unknown(option: str, name: str, known: dict[str, Any]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise ConfigError(f'{option} must be one of {", ".join(known)}; found "{name}"; nearest: "{near}"')


def _prepare(out: Path) -> None:
    if out.exists() and any(out.iterdir()) and not (out / "truth.parquet").exists():
        raise CannotCreate(f"{out} holds other files; name a new folder or an old simulation in --out")
    try:
        (out / "events").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreate(f"{out} cannot be created: {error.strerror}; check --out") from error
    # recipients are written last: where a run was killed there are none, and it is not taken for a whole one
    for old in [out / "recipients.parquet", *(out / "events").glob("part-*.parquet")]:
        old.unlink(missing_ok=True)


def make_plan(
    world: str, history: str, days: int, seed: int, end: date, campaigns_per_day: float, future_days: int = 0
) -> Plan:
    """What all chunks share: the campaigns, and the weeks in which each country has its holidays.

    Raises ConfigError (78) for an unknown world or history.
    """
    _refuse_unknown("--world", world, WORLDS)
    _refuse_unknown("--history", history, HISTORIES)
    rng = np.random.default_rng([seed, 0])
    kind, first_day = WORLDS[world], end - timedelta(days=days)
    end_ms = midnight_ms(end)
    campaigns = draw_campaigns(rng, days, campaigns_per_day * kind.campaigns, first_day.weekday())
    is_holiday = rng.random((len(COUNTRIES), (days + future_days) // 7)) < _HOLIDAY_SHARE
    period = Period(days, end_ms - days * DAY_MS, end_ms, is_holiday)
    return Plan(kind, history, seed, end, period, campaigns, future_days)


def _write_events(out: Path, number: int, chunk: Chunk) -> Written:
    write_parquet(out / "events" / f"part-{number:04d}.parquet", chunk.events, ROW_GROUP, DICTIONARY)
    return chunk.recipients, chunk.truth, (chunk.events.num_rows, chunk.sends, chunk.opens)


def _collect(out: Path, pieces: Iterable[Written], progress: Progress) -> tuple[int, int, int]:
    """Write recipients and truth in the order of the chunks; returns events, sends and opens.

    The truth is 1.5 KiB a user, so it goes to disk as it comes.
    """
    people, counts = [], np.zeros(3, np.int64)
    with (
        atomic_path(out / "truth.parquet") as path,
        pq.ParquetWriter(
            path,
            TRUTH_SCHEMA,
            compression="zstd",
            compression_level=1,
            use_dictionary=["true_timezone"],
            write_page_checksum=True,
        ) as truth_file,
    ):
        for recipients, truth, count in pieces:
            people.append(recipients)
            truth_file.write_table(truth)
            counts += count
            progress.advance("simulate")
    write_parquet(out / "recipients.parquet", pa.concat_tables(people), ROW_GROUP, DICTIONARY)
    events, sends, opens = counts.tolist()
    return events, sends, opens
