"""`cost`: ingest, compact, train and score of one sender, one after the other, each checked before it gets a figure.

A command that fails or loses a row has no figure, and those that need what it makes are skipped.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sto_bench.contest import GateFailed, Missing
from sto_pipeline.contest import Turn
from sto_pipeline.made import Work
from sto_scale.cases import Case
from sto_scale.commands import Ran, command, folder_bytes
from sto_scale.players import Figures, Player, as_turn, player
from sto_scale.senders import rows, sender

NOTES = {
    "ingest": "raw files to a new store",
    "compact": "one sorted file a bucket",
    "train": "priors, training rows, forest, judgement on the last days",
    "score": "all phases to committed assignments, with a bundle trained before",
}
SHARDS = ("assignments", "suppressed")
Seconds = Callable[[Ran], float | None]


@dataclass(frozen=True)
class Lab:
    """Where a case is measured: its sender, the store that is made of it, a bundle, and what is thrown away."""

    case: Case
    work: Work

    @property
    def store(self) -> Path:
        return self.work.root / f"scale-store-u{self.case.users}-b{self.case.buckets}-e{self.case.per_user}"

    @property
    def threads(self) -> tuple[str, ...]:
        return ("--threads", str(self.work.threads))

    def scratch(self, name: str) -> Path:
        """A path at which nothing is."""
        path = self.work.root / f"scale-{self.case.name}-{name}"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def needed_store(self) -> Path:
        """The store; Missing where the commands before have not made it."""
        if not (self.store / "manifest.json").exists():
            raise Missing(f"there is no store {self.store.name}: what makes it has failed")
        return self.store

    def bundle(self) -> Path:
        return self.work.bundle(min(self.case.users, 50_000))


def whole(ran: Ran) -> None:
    """All seconds of the command."""


def players(case: Case, work: Work) -> list[Player]:
    """One player a command; the sender is there before the first clock starts."""
    lab = Lab(case, work)
    sender(case, work)
    lab.bundle()
    return [player(part, True, 1, NOTES[part], partial(_PARTS[part], lab)) for part in case.parts]


def make_store(lab: Lab) -> None:
    """The store of a lab where a case before has not made it; nothing is measured."""
    if not (lab.store / "manifest.json").exists():
        files = sender(lab.case, lab.work)
        people, buckets = ("--recipients", str(files / "recipients.parquet")), f"store.buckets={lab.case.buckets}"
        command("ingest", str(files / "events"), *people, "--store", str(lab.store), "--set", buckets, *lab.threads)
        command("compact", "--store", str(lab.store), *lab.threads)


def run_ingest(lab: Lab, figures: Figures) -> Turn:
    case, files = lab.case, sender(lab.case, lab.work)
    shutil.rmtree(lab.store, ignore_errors=True)
    ran = command(
        *("ingest", str(files / "events"), "--recipients", str(files / "recipients.parquet")),
        *("--store", str(lab.store), "--set", f"store.buckets={case.buckets}", *lab.threads),
        watched=lab.store,
    )
    _expect("events", rows(files), ran.result["events"])
    _expect("recipients", case.users, ran.result["recipients"])
    raw = folder_bytes(files / "events") + (files / "recipients.parquet").stat().st_size
    return measured(figures, ran, case, "store_bytes", raw_bytes=raw, store_bytes=folder_bytes(lab.store))


def run_compact(lab: Lab, figures: Figures) -> Turn:
    store, events = lab.needed_store(), rows(sender(lab.case, lab.work))
    ran = command("compact", "--store", str(store), *lab.threads, watched=store)
    _expect("events", events, ran.result["rows"])
    return measured(figures, ran, lab.case, "store_bytes", store_bytes=folder_bytes(store))


def run_train(lab: Lab, figures: Figures, *more: str, of: Seconds = whole) -> Turn:
    """`more` are further arguments; `of` says which seconds count."""
    out = lab.scratch("bundle")
    # whether it beats a histogram is not the question here
    options = ("--store", str(lab.needed_store()), "--bundle", str(out), "--force", *lab.threads)
    ran = command("train", *options, *more)
    if not ran.result["rows"] or not (out / "bundle.json").exists():
        raise GateFailed(f"train must save a bundle made of rows; found {ran.result['rows']} rows")
    found = {"rows": ran.result["rows"], "bundle_bytes": folder_bytes(out), "driver_mib": ran.ended.own_mib}
    return measured(figures, ran, lab.case, "", of(ran), **found)


def run_score(lab: Lab, figures: Figures, *more: str, of: Seconds = whole) -> Turn:
    """The same of the nightly command, into a folder of its own."""
    out = lab.scratch("runs")
    options = ("--store", str(lab.needed_store()), "--out", str(out), "--bundle", str(lab.bundle()), *lab.threads)
    ran = command("score", *options, *more, watched=out)
    found = {**shards(lab.case, Path(ran.result["run"])), "driver_mib": ran.ended.own_mib}
    return measured(figures, ran, lab.case, "shard_bytes", of(ran), **found)


def shards(case: Case, run: Path) -> dict[str, float]:
    """Bytes of what was committed; GateFailed unless everybody has a row, by the footers."""
    files = [path for kind in SHARDS for path in (run / kind).glob("*.parquet")]
    _expect("rows in the shards", case.users, sum(pq.read_metadata(path).num_rows for path in files))
    if not (run / "manifest.json").exists():
        raise GateFailed(f"the run {run.name} must be committed; it has no manifest")
    return {
        "shard_bytes": float(sum(path.stat().st_size for path in files)),
        "manifest_bytes": float((run / "manifest.json").stat().st_size),
        "files": float(sum(1 for path in run.rglob("*") if path.is_file())),
    }


def measured(
    figures: Figures, ran: Ran, case: Case, written: str, seconds: float | None = None, **found: float
) -> Turn:
    """The turn of a command; where its folder was watched, the most that it held, which is no less than `written`."""
    figures.update(found)
    if written:
        figures["peak_disk_bytes"] = max(float(ran.disk), found[written])
    return as_turn(ran, case.users, seconds)


def _expect(what: str, wanted: int, found: Any) -> None:
    if found != wanted:
        raise GateFailed(f"{wanted} {what} are wanted; found {found}")


_PARTS: Mapping[str, Callable[[Lab, Figures], Turn]] = {
    "ingest": run_ingest,
    "compact": run_compact,
    "train": run_train,
    "score": run_score,
}
