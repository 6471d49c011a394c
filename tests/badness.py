"""What the tests of bad input share: a command run in this process, held to what every failure must keep."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sto_engine.cli import run_command
from sto_engine.ingest.store import Store

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def events(n: int = 300, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": pl.Series(rng.integers(1, 40, n), dtype=pl.UInt64),
            "campaign_id": pl.Series(rng.integers(1, 5, n), dtype=pl.UInt64),
            "event_type": pl.Series(rng.choice(["send", "open", "click"], n).tolist(), dtype=pl.String),
            "event_ts": pl.Series([T0 + timedelta(minutes=int(m)) for m in rng.integers(0, 90_000, n)]).cast(
                pl.Datetime("ms", "UTC")
            ),
            "tz_offset": pl.Series(rng.choice([60, -300, 345], n), dtype=pl.Int16),
            "user_agent": pl.Series(rng.choice(["Mail/1", "Web/2"], n).tolist(), dtype=pl.String),
        }
    )


def write(frame: pl.DataFrame, path: Path) -> Path:
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


def content(store: Path) -> pl.DataFrame:
    opened = Store.open(store)
    return pl.concat([opened.read_events(bucket) for bucket in range(opened.buckets)])


@dataclass(frozen=True)
class Told:
    """How a command ended: exit code, result, and the sentence on stderr."""

    code: int
    result: dict[str, Any]
    error: str


class Shop:
    """A folder with a good store `s`, and the commands that are tried on it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.store, self._capsys = folder, folder / "s", capsys
        write(events(), folder / "good.parquet")
        assert self.ingest(folder / "good.parquet").code == 0
        self._before, self._manifest = content(self.store), (self.store / "manifest.json").read_bytes()

    def run(self, *arguments: object) -> Told:
        """Run a command line; whatever happens, nobody sees a traceback."""
        code = run_command([str(each) for each in arguments])
        told = self._capsys.readouterr()
        assert "Traceback" not in told.err, told.err
        assert code == 0 or told.out == ""
        assert code == 0 or told.err.startswith("error: "), told.err
        return Told(code, json.loads(told.out) if code == 0 else {}, told.err)

    def ingest(self, *paths: object, keys: tuple[str, ...] = (), store: Path | None = None) -> Told:
        """Ingest, and hold the report to its own sum: rows in = stored + quarantined + blocked."""
        settings = [each for key in ("ingest.max_bad_share=1", *keys) for each in ("--set", key)]
        buckets = ["--set", "store.buckets=4"]
        told = self.run("ingest", *paths, "--store", store or self.store, *buckets, *settings, "--quiet")
        if told.code == 0:
            report = told.result
            assert report["rows"] == report["events"] + sum(report["quarantined"].values()) + report["blocked"]
        return told

    def refuses(self, code: int, *words: str, told: Told) -> None:
        """The command ended with `code`, said these words, and the store is what it was."""
        assert told.code == code, told
        for word in words:
            assert word in told.error, told.error
        self.is_whole()

    def is_whole(self) -> None:
        assert (self.store / "manifest.json").read_bytes() == self._manifest
        assert content(self.store).equals(self._before)
        named = {g["name"] for g in Store.open(self.store).manifest["generations"]}
        assert {path.name for path in self.store.glob("gen-*")} == named
        assert not list(self.store.rglob("*.tmp"))
