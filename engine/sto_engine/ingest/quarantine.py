"""Bad rows of one ingest: counted by rule, written with file, row and column, and the row itself only if asked."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from sto_engine.files import ParquetSink, sync
from sto_engine.ingest.write import ROW_GROUP, new_folder
from sto_engine.tables import QUARANTINE

_FLUSH_BYTES = 16 << 20


@dataclass
class Quarantine:
    """One file of bad rows, `root/quarantine/name-0000.parquet`, made when there is a first one; few are held."""

    root: Path
    name: str
    payload: bool
    counts: Counter[str] = field(default_factory=Counter)
    _held: list[pl.DataFrame] = field(default_factory=list)
    _rows: int = 0
    _bytes: int = 0
    _sink: ParquetSink | None = None

    def add(self, bad: pl.DataFrame, file: Path) -> None:
        """Bad rows of `file`, with rule, column and row (the position within the file)."""
        if bad.is_empty():
            return
        self.counts.update(dict(bad["rule"].value_counts().iter_rows()))
        values = [name for name in bad.columns if name not in ("rule", "column", "row")]
        payload = pl.struct(values).struct.json_encode() if self.payload else pl.lit(None, pl.String)
        rows = bad.with_columns(file=pl.lit(file.name), payload=payload).select(QUARANTINE.names)
        self._held.append(rows)
        self._rows, self._bytes = self._rows + len(rows), self._bytes + int(rows.estimated_size())
        if self._rows >= ROW_GROUP or self._bytes > _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        table = pl.concat(self._held).to_arrow().cast(QUARANTINE)
        self._held, self._rows, self._bytes = [], 0, 0
        if self._sink is None:
            path = new_folder(self.root / "quarantine") / f"{self.name}-0000.parquet"
            self._sink = ParquetSink(path, QUARANTINE, ["rule", "file", "column"])
        self._sink.write(table, ROW_GROUP)

    def finish(self) -> None:
        """Write what is held; the file takes its name."""
        if self._held:
            self._flush()
        if self._sink is not None:
            assert self._sink.rows == self.counts.total()
            self._sink.finish()
            sync(self.root / "quarantine")

    def abandon(self) -> None:
        if self._sink is not None:
            self._sink.abandon()
