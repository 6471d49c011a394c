"""What kind of file a name promises, its bytes (unpacked where they are packed), and what a failed read means."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sto_engine.errors import BadData, InputMissing
from sto_engine.ingest.cloud import Url

BATCH_ROWS = 524_288
_KINDS = {
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".arrow", ".arrows", ".ipc", ".feather"), "arrow"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    **dict.fromkeys((".ndjson", ".jsonl", ".json"), "ndjson"),
}
_CODECS = {".gz": "gzip", ".zst": "zstd"}
_TEXT = tuple(suffix for suffix, kind in _KINDS.items() if kind in ("csv", "ndjson"))
SUFFIXES = (*_KINDS, *(text + codec for text in _TEXT for codec in _CODECS))


@dataclass(frozen=True)
class Format:
    """`kind` is parquet, arrow, csv or ndjson; `codec` is gzip, zstd or None."""

    kind: str
    codec: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether every value arrives as text and is typed by us."""
        return self.kind in ("csv", "ndjson")


def format_of(path: Path) -> Format:
    """The format that the name of a file promises; BadData (65) for a name that promises none of ours."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    codec = _CODECS.get(suffixes[-1]) if suffixes else None
    kind = _KINDS.get(suffixes[-2 if codec else -1] if len(suffixes) > bool(codec) else "")
    if kind is None or (codec is not None and kind not in ("csv", "ndjson")):
        raise BadData(
            f"{path}: expected a file ending in {', '.join(_KINDS)}, or in .gz or .zst after {', '.join(_TEXT)}; "
            f'found "{"".join(suffixes[-2:]) or path.name}"'
        )
    return Format(kind, codec)


def open_random(path: Path) -> pa.NativeFile:
    """The bytes of a file, to be read anywhere."""
    return path.native(random=True) if isinstance(path, Url) else pa.OSFile(str(path))


def open_stream(path: Path) -> pa.NativeFile:
    """The bytes of a file from its start, unpacked as its name says."""
    codec = format_of(path).codec
    raw = path.native(random=False) if isinstance(path, Url) else pa.OSFile(str(path))
    return pa.CompressedInputStream(raw, codec) if codec else raw


@contextmanager
def reading(path: Path, opening: bool = False) -> Iterator[None]:
    """Arrow's errors as ours: BadData (65) for a damaged file, InputMissing (66) for one that cannot be read."""
    try:
        yield
    except (pa.ArrowNotImplementedError, ImportError) as error:
        raise BadData(f"{path} uses what this pyarrow cannot read ({_short(error)}); write it otherwise") from error
    except pa.ArrowException as error:
        what = f"not a whole {format_of(path).kind} file" if opening else "damaged"
        raise BadData(f"{path} is {what} ({_short(error)}); write it again") from error
    except UnicodeDecodeError as error:
        raise BadData(f"{path} is damaged (a name in it is not UTF-8); write it again") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> BadData | InputMissing:
    """Arrow raises OSError both for files that may not be read and for damaged ones; only the first has an errno."""
    if error.errno is not None:
        return InputMissing(f"{path} cannot be read: {error.strerror or error}; check its permissions")
    if "Truncated compressed stream" in str(error):
        return BadData(f"{path} ends before its compressed data do; copy or write it again")
    return BadData(f"{path} is damaged ({_short(error)}); write it again")


def _short(error: Exception) -> str:
    """The first line of a message, without the values that Arrow quotes after it."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def slices(batch: pa.RecordBatch) -> Iterator[pa.Table]:
    """A batch as tables of at most BATCH_ROWS rows."""
    for start in range(0, batch.num_rows, BATCH_ROWS):
        yield pa.Table.from_batches([batch.slice(start, BATCH_ROWS)])
