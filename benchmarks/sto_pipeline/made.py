"""What the cases run on, made once and kept: event files, compacted stores, a simulated sender, a trained bundle.

Under `--work DIR`, by default the cache folder of the benchmarks. Names carry what decides the content: files of events
the code that invents them, stores the code that writes them. What a folder of the same kind held before is removed.

    DIR/events-u1000000-<digest>/       no cleaning needed (events.py)
    DIR/store-u1000000-<digest>/        its compacted store
    DIR/world-u1000000/                 sto-engine simulate: events/, recipients.parquet
    DIR/world-store-u1000000-<digest>/  its compacted store
    DIR/bundle-u1000000/                a forest of the default settings, trained on the store of 50,000 recipients
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import sto_engine
from sto_bench import cache
from sto_bench.contest import Watch
from sto_engine.config import load_config
from sto_engine.ingest import ingest
from sto_engine.ingest.compact import compact
from sto_engine.progress import Silent
from sto_pipeline import events, processes
from sto_pipeline.cases import Case

SEED, CAMPAIGNS_PER_DAY = 0, "0.13"
TRAIN_USERS = 50_000


@dataclass(frozen=True)
class Work:
    """The folder that holds it all, and the one to tell what is being made."""

    root: Path
    watch: Watch
    threads: int

    @classmethod
    def at(cls, root: Path | None, watch: Watch, threads: int) -> "Work":
        folder = root or cache.folder() / "pipeline"
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, watch, threads)

    def events(self, case: Case) -> Path:
        """Event files that need no cleaning."""
        name = f"events-u{case.users}"
        return self._made(name, _digest(Path(events.__file__)), lambda out: _write_events(out, case.users))

    def store(self, case: Case) -> Path:
        """Their compacted store."""
        files = self.events(case)
        name, source = f"store-u{case.users}", _digest(*_store_code(), Path(events.__file__))
        return self._made(name, source, lambda out: _compacted(out, files, None, case.buckets, self.threads))

    def world(self, users: int, campaigns_per_day: str = CAMPAIGNS_PER_DAY) -> Path:
        """A simulated sender, by default of some 10 events a recipient: `events`, `recipients.parquet`."""
        name = f"world-u{users}" + ("" if campaigns_per_day == CAMPAIGNS_PER_DAY else f"-c{campaigns_per_day}")
        return self._made(name, "", lambda out: _simulate(out, users, campaigns_per_day, self.threads))

    def world_store(self, users: int, buckets: int) -> Path:
        """Its compacted store."""
        world = self.world(users)
        files, people = world / "events", world / "recipients.parquet"
        name, source = f"world-store-u{users}", _digest(*_store_code())
        return self._made(name, source, lambda out: _compacted(out, files, people, buckets, self.threads))

    def bundle(self, users: int) -> Path:
        """A bundle trained on a sender of its own, of at most TRAIN_USERS recipients."""
        few = min(users, TRAIN_USERS)
        return self._made(f"bundle-u{few}", "", lambda out: _train(out, self.world_store(few, 2), self.threads))

    def _made(self, name: str, digest: str, make: Callable[[Path], None]) -> Path:
        path = self.root / (f"{name}-{digest}" if digest else name)
        if not path.exists():
            self.watch.info("making", what=path.name)
            for old in self.root.glob(f"{name}-*") if digest else ():
                shutil.rmtree(old)
            temporary = self.root / f".{uuid4().hex}"
            try:
                make(temporary)
                os.replace(temporary, path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return path


def _write_events(out: Path, users: int) -> None:
    events.write_events(out, users, SEED)


def _compacted(out: Path, files: Path, people: Path | None, buckets: int, threads: int) -> None:
    ingest([str(files)], out, people, load_config(None, [f"store.buckets={buckets}"]), Silent())
    compact(out, threads, Silent())


def _simulate(out: Path, users: int, campaigns_per_day: str, threads: int) -> None:
    options = ["--users", str(users), "--campaigns-per-day", campaigns_per_day, "--threads", str(threads)]
    engine("simulate", "--out", str(out), *options)
    # what was true decides nothing here, and is the largest file
    (out / "truth.parquet").unlink()


def _train(out: Path, store: Path, threads: int) -> None:
    # whether it beats a histogram is not the question here
    engine("train", "--store", str(store), "--bundle", str(out), "--threads", str(threads), "--force")


def engine(*arguments: str) -> processes.Ended:
    """The shipped command as a process of its own."""
    return processes.run([sys.executable, "-m", "sto_engine.cli", *arguments, "--quiet"], {})


def _store_code() -> list[Path]:
    """The files that decide what a store's files look like."""
    root = Path(next(iter(sto_engine.__path__)))
    return [*sorted((root / "ingest").glob("*.py")), root / "files.py", root / "tables.py"]


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
