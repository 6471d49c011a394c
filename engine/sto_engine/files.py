"""The only way a file gets its final name: written aside, synced, renamed, the folder synced."""

import fcntl
import hashlib
import json
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sto_engine.errors import CannotCreate, OutputFailed, TryLater

_CHUNK = 1 << 20


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; it takes the name `path` when the block ends without an error.

    Raises CannotCreate (73) where the folder does not take files, OutputFailed (74) where writing or renaming fails.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.touch()
    except OSError as error:
        raise CannotCreate(f"{path} cannot be created: {error.strerror}; check the output folder") from error
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise OutputFailed(
            f"{path} cannot be written: {error.strerror or error}; free space or check the disk"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


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
        pq.write_table(
            table,
            temporary,
            row_group_size=row_group,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in dictionary if name in table.column_names],
            column_encoding=dict.fromkeys(split, "BYTE_STREAM_SPLIT") or None,
            write_page_checksum=True,
            store_schema=arrow_types,
        )
    return sha256_file(path)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


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


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
