"""Files in the cloud behind the face of a path: s3://, gs://, abfs:// (az://) and file:// through pyarrow.fs.

Credentials and regions are those that pyarrow finds in the environment (AWS_ACCESS_KEY_ID, AWS_REGION,
GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT ...). Parquet and Arrow files are read by ranges, text is
streamed; nothing is copied to the disk.
"""

import fnmatch
import io
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.fs as fs

from sto_engine.errors import InputMissing

SCHEMES = ("s3://", "gs://", "gcs://", "abfs://", "abfss://", "az://", "file://")
_GOOGLE_S = 30
_GLOB = frozenset("*?[")
T = TypeVar("T")


def is_url(pattern: str) -> bool:
    """Whether a pattern names files through pyarrow.fs."""
    return pattern.lower().startswith(SCHEMES)


class Url(type(Path())):  # type: ignore[misc]
    """A file of a pyarrow file system. It is a path in name, suffix and parents, and opens for reading."""

    filesystem: fs.FileSystem
    key: str
    url: str

    @classmethod
    def of(cls, filesystem: fs.FileSystem, key: str, scheme: str) -> "Url":
        path = cls(key)
        path.filesystem, path.key, path.url = filesystem, key, f"{scheme}://{key}"
        return path

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels with its file system, which finds its credentials anew where it arrives."""
        return Url.of, (self.filesystem, self.key, self.url.partition("://")[0])

    def native(self, random: bool) -> pa.NativeFile:
        """The bytes, for reading anywhere or from the start; InputMissing (66) where they cannot be had."""
        if random:
            return _had(self.url, lambda: self.filesystem.open_input_file(self.key))
        return _had(self.url, lambda: self.filesystem.open_input_stream(self.key, compression=None))

    def open(self, mode: str = "r", *_: Any, **__: Any) -> IO[Any]:
        """Only "rb": a stream of the bytes."""
        assert mode == "rb", mode
        return io.BufferedReader(_Raw(self.native(random=False)))

    def resolve(self, strict: bool = False) -> "Url":
        return self

    def size(self) -> int:
        """Bytes of the file."""
        info = _had(self.url, lambda: self.filesystem.get_file_info(self.key))
        if info.type == fs.FileType.NotFound:
            raise InputMissing(f"{self.url} cannot be read: it is gone; check the URL")
        return int(info.size or 0)


class _Raw(io.RawIOBase):
    """A pyarrow file for `io`: readinto over read."""

    def __init__(self, file: pa.NativeFile) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def expand_url(pattern: str, is_hidden: Callable[[str], bool]) -> list[Url]:
    """Files named by a URL: one file, a folder with all below it, or a glob; sorted by key.

    Raises InputMissing (66) for a URL that names nothing, a missing library, or credentials that do not let in.
    """
    scheme, _, rest = pattern.partition("://")
    name = "abfs" if scheme == "az" else scheme
    glob_at = next((i for i, part in enumerate(rest.split("/")) if _GLOB & set(part)), None)
    parts = rest.split("/")
    base = "/".join(parts if glob_at is None else parts[:glob_at])
    # pyarrow would try Google for a quarter of an hour
    patience = f"?retry_limit_seconds={_GOOGLE_S}" if name in ("gs", "gcs") and "?" not in base else ""
    filesystem, root = _had(pattern, lambda: _from_uri(f"{name}://{base}{patience}"))
    info = _had(pattern, lambda: filesystem.get_file_info(root))
    if info.type == fs.FileType.File:
        return [Url.of(filesystem, root, scheme)]
    found = list_folder(filesystem, root, pattern, is_hidden)
    if glob_at is not None:
        shape = "/".join([root.rstrip("/"), *parts[glob_at:]])
        found = [key for key in found if fnmatch.fnmatchcase(key, shape) or fnmatch.fnmatchcase(key, shape + "/*")]
    if not found:
        raise InputMissing(f'no file matches "{pattern}"; expected a file, a folder of files or a glob')
    return [Url.of(filesystem, key, scheme) for key in sorted(found)]


def _from_uri(uri: str) -> tuple[fs.FileSystem, str]:
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(uri)
    return found


def list_folder(filesystem: fs.FileSystem, root: str, pattern: str, is_hidden: Callable[[str], bool]) -> list[str]:
    """Keys of the files below `root`, without hidden ones."""
    chosen = fs.FileSelector(root, recursive=True, allow_not_found=True)
    infos = _had(pattern, lambda: filesystem.get_file_info(chosen))
    files = [info.path for info in infos if info.type == fs.FileType.File]
    return [key for key in files if not any(is_hidden(part) for part in _below(key, root))]


def _below(key: str, root: str) -> tuple[str, ...]:
    return PurePosixPath(key[len(root) :].strip("/")).parts


def _had(what: str, get: Callable[[], T]) -> T:
    try:
        return get()
    except (pa.ArrowException, NotImplementedError, ImportError, OSError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise InputMissing(
            f"{what} cannot be read: {reason}; check the URL, the credentials in the environment, and that this "
            "pyarrow was built for that cloud"
        ) from error
