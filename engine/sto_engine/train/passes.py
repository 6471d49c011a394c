"""What training does with each bucket: work that may be done anywhere, twice even, and hands back names and counts.

Histories and rows stay in files of the work folder; each attempt writes under names of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.errors import BadData
from sto_engine.files import writing
from sto_engine.history.bucket import window_start
from sto_engine.history.parts import read_history
from sto_engine.ingest.store import Store
from sto_engine.models.bundle import Bundle, read_tensors, tensor_bytes
from sto_engine.models.fit import fit_with_evidence
from sto_engine.models.inherit import inherit
from sto_engine.models.priors import Priors
from sto_engine.tables import CAMPAIGN_TYPES
from sto_engine.train.day_rows import day_rows
from sto_engine.train.draw import Hashes, count_bins, in_bin
from sto_engine.train.moments import Span, bucket_moments, moment_parts
from sto_engine.train.row_files import RowFile, write_rows
from sto_engine.train.rows import Rows, bucket_rows, labelled_sends, seed_rows
from sto_engine.train.scratch import fresh


@dataclass(frozen=True)
class Source:
    """What every pass reads, and the folder it writes to; all machines see both."""

    store: Store
    span: Span
    config: Config
    folder: Path


@dataclass(frozen=True)
class Sums:
    """A bucket after the first pass: names of its sums and sample at each moment, its sends, its rows by bin."""

    origin: str
    now: str
    sends: int
    count_B: NDArray[Any]


@dataclass(frozen=True)
class Drawn:
    """A bucket after the second pass: its rows, and the hashes of those in the last bin."""

    file: RowFile
    last: Hashes


@dataclass(frozen=True)
class MomentPriors:
    """The priors of a moment by the own history, and as they are used: drawn to another brand's, where there is one;
    `users`: how many stand behind the own ones (Evidence)."""

    own: Priors
    used: Priors
    users: float


def sum_bucket(source: Source, bucket: int) -> Sums:
    """First pass of `boosted`: campaign sums and sample at both moments, to files; rows are counted."""
    seen = bucket_moments(source.store, bucket, source.span, source.config)
    parts = moment_parts(seen, source.store.buckets)
    names = {moment: _write(source.folder, f"{moment}-{bucket:04d}", part) for moment, part in parts.items()}
    sends = int(parts["now"]["campaigns.sums_C4"][:, 0].sum())
    order_N = labelled_sends(seen, source.span, source.config).order_N
    return Sums(names["origin"], names["now"], sends, count_bins(order_N))


def count_bucket(source: Source, bucket: int) -> NDArray[Any]:
    """First pass of a preset that needs no priors: rows by bin."""
    seen = bucket_moments(source.store, bucket, source.span, source.config)
    return count_bins(labelled_sends(seen, source.span, source.config).order_N)


def moment_priors(source: Source, names: Sequence[str], end_ms: int, other: Priors | None = None) -> MomentPriors:
    """The priors at a moment, from what every bucket wrote of it, bucket by bucket, a few in memory at a time; `other`
    are those of another brand."""
    found = read_history((_parts(source.folder / name) for name in names), with_sample=True)
    assert found.sample is not None
    window_ms = (window_start(end_ms, source.config), end_ms)
    half_life_days = source.config.model.half_life_days
    kind = CAMPAIGN_TYPES.index(source.config.train.campaign_type)
    own, evidence = fit_with_evidence(found.sample, found.campaigns, window_ms, half_life_days, kind)
    used = own if other is None else inherit(own, evidence, other)
    return MomentPriors(own, used, float(evidence.users_C.sum()))


def draw_bucket(
    source: Source, last_bin: int | None, then: Priors, rival: tuple[Bundle, Priors] | None, bucket: int
) -> Drawn:
    """Second pass of `boosted`: rows up to the last bin, to a file."""
    seen = bucket_moments(source.store, bucket, source.span, source.config)
    return _drawn(source, bucket, bucket_rows(seen, source.span, then, rival, source.config, last_bin), last_bin)


def draw_seed_bucket(source: Source, last_bin: int | None, bucket: int) -> Drawn:
    """Second pass of `seed_boosted`."""
    seen = bucket_moments(source.store, bucket, source.span, source.config)
    return _drawn(source, bucket, seed_rows(seen, source.span, source.config, last_bin), last_bin)


def draw_day_bucket(source: Source, last_bin: int | None, then: Priors | None, bucket: int) -> Drawn:
    """Second pass of the best day: with the priors of the origin those of `day_of_week`, else the preset's."""
    seen = bucket_moments(source.store, bucket, source.span, source.config, history_act="click")
    return _drawn(source, bucket, day_rows(seen, source.span, source.config, then, last_bin), last_bin)


def _drawn(source: Source, bucket: int, rows: Rows, last_bin: int | None) -> Drawn:
    return Drawn(write_rows(source.folder, bucket, rows), in_bin(rows.order_N, last_bin).copy())


def _write(folder: Path, stem: str, part: dict[str, NDArray[Any]]) -> str:
    path = fresh(folder, stem, ".safetensors")
    with writing(path):
        path.write_bytes(tensor_bytes(part))
    return path.name


def _parts(path: Path) -> dict[str, NDArray[Any]]:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise BadData(
            f"sums {path} must be there; found {error.strerror}; train again, in a folder that all machines see"
        ) from error
    return read_tensors(body, f"sums {path}")
