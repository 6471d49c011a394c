"""The files of one ingest while it reads them: their content by its hash, how far it is, and that they do not change.

A file may be replaced or written on while it is read. Its size, time and inode are taken before its schema is read and
compared after its last row; where only the time of the inode moved (another name, other rights), its bytes are hashed
once more.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sto_engine.config import Config
from sto_engine.errors import InputMissing, StoError, TryLater
from sto_engine.files import sha256_file
from sto_engine.ingest.source import Source, Types, open_source

MIB = 1 << 20


@dataclass(frozen=True)
class State:
    """What tells one content of a file from another, as far as its folder knows."""

    size: int
    modified_ns: int
    inode: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> "State":
        """InputMissing (66) where the file is gone."""
        filesystem: Any = getattr(path, "filesystem", None)  # of a file in the cloud, which has no inode
        if filesystem is not None:
            info = filesystem.get_file_info(getattr(path, "key", str(path)))
            return cls(int(info.size or 0), int(info.mtime_ns or 0), 0, 0)
        try:
            status = path.stat()
        except OSError as error:
            raise InputMissing(f"{path} cannot be read: {error.strerror}; check that it is there") from error
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


@dataclass(frozen=True)
class Input:
    """A file that was opened, and its state before."""

    source: Source
    state: State

    @classmethod
    def open(cls, path: Path, table: str, config: Config) -> "Input":
        """Raises as `open_source` does."""
        state = State.of(path)
        return cls(open_source(path, table, config), state)

    def seen_here(self) -> "Input":
        """The file as this machine sees it, which may know it by another inode than the one that opened it did.

        Raises TryLater (75) where it changed since.
        """
        now, then = State.of(self.source.path), self.state
        if (now.size, now.modified_ns) != (then.size, then.modified_ns):
            raise _changed(self.source.path, then, now)
        return replace(self, state=now)

    def hashed(self) -> "HashedInput":
        """The file with its sha256; InputMissing (66) where it is gone."""
        try:
            return HashedInput(self.source, self.state, sha256_file(self.source.path))
        except OSError as error:
            raise InputMissing(f"{self.source.path} cannot be read: {error.strerror or error}; check it") from error


@dataclass(frozen=True)
class HashedInput(Input):
    """A file whose content is known."""

    sha256: str

    def batches(self, types: Types) -> Iterator[tuple[int, pa.Table, int]]:
        """(position in the file of its first row, batch, about how many bytes of the file were read so far).

        Raises TryLater (75) where the file changed since it was opened, before any other complaint about its rows.
        """
        row, seen, total = 0, 0, _row_count(self.source.path)
        try:
            for batch in self.source.raw(types):
                seen += batch.nbytes
                done = self.state.size * (row + batch.num_rows) // total if total else seen
                yield row, batch, min(done, self.state.size)
                row += batch.num_rows
        except StoError:
            self._check()
            raise
        self._check()

    def _check(self) -> None:
        now, then = State.of(self.source.path), self.state
        same = (now.size, now.modified_ns, now.inode) == (then.size, then.modified_ns, then.inode)
        if same and (now.changed_ns == then.changed_ns or sha256_file(self.source.path) == self.sha256):
            return
        raise _changed(self.source.path, then, now)


def _changed(path: Path, then: State, now: State) -> TryLater:
    return TryLater(
        f"{path} must stay as it is while it is read; it had {then.size} bytes and has {now.size}, changed meanwhile; "
        "nothing was ingested: wait for the export to end and run the command again"
    )


def _row_count(path: Path) -> int:
    """Rows of a local Parquet file, from its footer; 0 where that is not to be had so cheaply."""
    if path.suffix != ".parquet" or hasattr(path, "filesystem"):
        return 0
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return 0
