"""The only way a file gets its final name: written aside, synced, renamed, the folder synced."""

import fcntl
import hashlib
import json
import os
import socket
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sto_engine.errors import CannotCreate, OutputFailed, TryLater

_CHUNK = 1 << 20


@contextmanager
def atomic_path(path: Path, synced: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; it takes the name `path` when the block ends without an error.

    Not `synced`, a machine that stops may lose it or leave it torn, a process that is killed does neither.

    Raises CannotCreate (73) where the folder does not take files, OutputFailed (74) where writing or renaming fails.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.touch()
    except OSError as error:
        raise CannotCreate(f"{path} cannot be created: {error.strerror}; check the output folder") from error
    try:
        with writing(path):
            yield temporary
            if synced:
                sync(temporary)
            os.replace(temporary, path)
            if synced:
                sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes, synced: bool = True) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_path(path, synced) as temporary:
        temporary.write_bytes(data)


@contextmanager
def own_path(path: Path) -> Iterator[Path]:
    """Yield `path`, a name that nobody else writes to or reads yet; what it holds is on the disk when the block ends.

    Raises OutputFailed (74) where writing fails.
    """
    with writing(path):
        yield path
        sync(path)


def write_parquet(
    path: Path,
    table: pa.Table,
    row_group: int,
    dictionary: list[str],
    arrow_types: bool = False,
    split: Sequence[str] = (),
) -> str:
    """Write `table` with page checksums and plain types, atomically; returns the sha256 of the file.

    `arrow_types` also stores the Arrow schema, which fixed-size lists need to come back as such.
    Only the columns in `dictionary` are dictionary-encoded: on high-cardinality columns it costs four times the time.
    Those in `split` are stored byte by byte (BYTE_STREAM_SPLIT): times of one period take half the time to read back.
    """
    with atomic_path(path) as temporary:
        put_parquet(temporary, table, row_group, dictionary, arrow_types, split)
    return sha256_file(path)


def put_parquet(
    path: Path,
    table: pa.Table,
    row_group: int,
    dictionary: Sequence[str],
    arrow_types: bool = False,
    split: Sequence[str] = (),
) -> None:
    """The same under a name that nobody else knows: neither synced nor renamed."""
    settings = _settings(table.schema, dictionary, arrow_types, split)
    pq.write_table(table, path, row_group_size=row_group, **settings)


def _settings(schema: pa.Schema, dictionary: Sequence[str], arrow_types: bool, split: Sequence[str]) -> dict[str, Any]:
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [name for name in dictionary if name in schema.names],
        "column_encoding": dict.fromkeys((name for name in split if name in schema.names), "BYTE_STREAM_SPLIT") or None,
        "write_page_checksum": True,
        "store_schema": arrow_types,
    }


class ParquetSink:
    """A Parquet file as `write_parquet` writes it, row group by row group; it takes its name in `finish`.

    Raises as `atomic_path` does. One thread at a time; who does not come to `finish` calls `abandon`.
    """

    def __init__(self, path: Path, schema: pa.Schema, dictionary: Sequence[str], split: Sequence[str] = ()) -> None:
        self.path, self.rows = path, 0
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            self._writer = pq.ParquetWriter(self._temporary, schema, **_settings(schema, dictionary, False, split))
        except OSError as error:
            raise CannotCreate(f"{path} cannot be created: {error.strerror}; check the output folder") from error

    def write(self, table: pa.Table, row_group: int) -> None:
        """Append the rows of `table` in row groups of `row_group` rows."""
        with writing(self.path):
            self._writer.write_table(table, row_group_size=row_group)
        self.rows += table.num_rows

    def finish(self) -> str:
        """Close, sync, rename; returns the sha256. The caller syncs the folder, once for all of its files.

        OutputFailed (74) also where the file does not hold the rows that were written.
        """
        with writing(self.path):
            self._writer.close()
            found = pq.read_metadata(self._temporary).num_rows
            if found != self.rows:
                raise OutputFailed(f"{self.path} must hold {self.rows} rows; found {found}; check disk and memory")
            sync(self._temporary)
            os.replace(self._temporary, self.path)
        return sha256_file(self.path)

    def abandon(self) -> None:
        """Leave nothing behind; no error, whatever the state."""
        with suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An error of the disk while `path` is written, as OutputFailed (74)."""
    try:
        yield
    except OSError as error:
        raise OutputFailed(
            f"{path} cannot be written: {error.strerror or error}; free space or check the disk"
        ) from error


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def footer_crc(path: Path) -> int:
    """CRC-32 of the footer of a Parquet file, which no checksum of the format covers."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little") + 8
        file.seek(max(0, size - length))
        return zlib.crc32(file.read())


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces: equal values, equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


@contextmanager
def folder_lock(folder: Path, kind: str) -> Iterator[None]:
    """Hold `folder`; TryLater (75) names the holder when another process has it. The kernel frees it on death."""
    path = folder / "LOCK"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CannotCreate(f"lock {path} cannot be created: {error.strerror}; check the output folder") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = path.read_text(errors="replace").strip() or "an unknown process"
            raise TryLater(f"{kind} {folder} is in use by {holder}; wait for it or stop it") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def sync(path: Path) -> None:
    """What was written to a file, or the names in a folder, reach the disk before this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
