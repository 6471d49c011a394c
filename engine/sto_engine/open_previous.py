"""`--previous`: from paths to the earlier runs that a night counts, by their manifests.

A path is a run, which then counts whatever its date, or a folder of runs (`score --out`): of those count the committed
ones of earlier days. Runs of such a folder that can no longer matter, as events tell what they sent and they are not
the latest, are left out, so that a folder may keep all its runs.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from sto_engine.errors import BadData, ConfigError, InputMissing
from sto_engine.ingest.manifest import MAX_BUCKETS
from sto_engine.ingest.store import Store
from sto_engine.output import manifest as runs
from sto_engine.previous import PastRun, Previous, Shard, told_until
from sto_engine.slots import grid_of
from sto_engine.zones import midnight_ms
from sto_kernels.hashing import HASH_NAME, HASH_VERSION
from sto_kernels.journal import DAY_MS

_HASH = f"{HASH_NAME}/{HASH_VERSION}"


@dataclass(frozen=True)
class _Found:
    run: PastRun
    named: bool


def open_previous(
    paths: Sequence[Path], store: Store, day: date, channels: Collection[str] | None = None, option: str = "--previous"
) -> Previous | None:
    """The runs at `paths` that count for `day`, of any of `channels` if they are given; None where there are none.

    `option` is what people typed to name them.

    Raises InputMissing (66) for a path that is neither a committed run nor a folder of runs, BadData (65) for a
    manifest that is no run's, and for a run whose ids or hash are not those of the store.
    """
    origin_ms = midnight_ms(day)
    # slots of the day begin half a day before its origin in the easternmost zones
    needed_ms = min(told_until(origin_ms, store.newest_event_ms), origin_ms - DAY_MS)
    kept: dict[str, _Found] = {}
    latest: _Found | None = None
    for found in (found for path in paths for found in _find(path, store, day, option)):
        if channels is not None and not set(found.run.channels) & set(channels):
            continue
        if latest is None or _order(latest.run) < _order(found.run):
            latest = found
        if found.named or found.run.end_ms > needed_ms:
            kept.setdefault(found.run.run_id, found)
    if latest is not None:
        kept.setdefault(latest.run.run_id, latest)
    return Previous(tuple(sorted((found.run for found in kept.values()), key=_order))) if kept else None


def _order(run: PastRun) -> tuple[date, str]:
    return run.date, run.run_id


def _find(path: Path, store: Store, day: date, option: str) -> Iterator[_Found]:
    inside = _names(path, option)
    if runs.MANIFEST in inside:
        yield _Found(_open(path, store, option), named=True)
        return
    if path.name.startswith("run=") or {runs.STAGING, "assignments"} & set(inside):
        raise InputMissing(
            f"run {path} is not committed: it has no {runs.MANIFEST}; run `sto-engine score` to its end, or leave it "
            f"out of {option}"
        )
    found = [path / name for name in inside if name.startswith("run=")]
    if inside and not found:
        raise InputMissing(f"{path} must be a run or a folder of runs; found neither in it; check {option}")
    for run in (run for run in found if runs.MANIFEST in _names(run, option)):
        past = _open(run, store, option)
        if past.date < day:
            yield _Found(past, named=False)


def _names(folder: Path, option: str) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise InputMissing(
            f"{folder} must be a run or a folder of runs; it cannot be read: {error.strerror}; check {option}"
        ) from error


def _open(path: Path, store: Store, option: str) -> PastRun:
    manifest = runs.read_manifest(path)
    try:
        if manifest is None:
            raise ValueError("no JSON")
        run, hashed = _past_run(path, manifest), manifest["schema"]["hash"]
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise BadData(
            f"{path / runs.MANIFEST} must be the manifest of a run; found one without a usable part ({error}); "
            f"restore it, or leave this folder out of {option}"
        ) from error
    if run.id_type != store.id_type:
        raise BadData(
            f"run {path} must have user ids of type {store.id_type}, as store {store.path} has; found {run.id_type}; "
            f"it was scored from another store: leave it out of {option}"
        )
    if hashed != _HASH:
        raise BadData(f"run {path} must be hashed by {_HASH}; found {hashed}; leave it out of {option}")
    return run


def _past_run(path: Path, manifest: dict[str, Any]) -> PastRun:
    """What a manifest says; KeyError, TypeError, AttributeError, ValueError or ConfigError where it does not say it."""
    buckets = int(manifest["store"]["buckets"])
    if not 1 <= buckets <= MAX_BUCKETS or buckets & (buckets - 1):
        raise ValueError(f"{buckets} buckets")
    return PastRun(
        path=path,
        run_id=str(manifest["run_id"]),
        date=date.fromisoformat(manifest["date"]),
        channels=_channels(manifest["channel"]),
        id_type=str(manifest["store"]["id_type"]),
        buckets=buckets,
        slots=grid_of(manifest["config"]["slots"]["grid"]).slots,
        assignments=_shards(path, manifest["files"], "assignments", buckets),
        suppressed=_shards(path, manifest["files"], "suppressed", buckets),
        prices=manifest.get("plan"),
    )


def _channels(told: object) -> tuple[str, ...]:
    if not isinstance(told, str):
        raise TypeError(f"channel {told}")
    return tuple(told.split(","))


def _shards(path: Path, files: dict[str, str], kind: str, buckets: int) -> tuple[Shard, ...]:
    names = [f"{kind}/part-{bucket:04d}.parquet" for bucket in range(buckets)]
    return tuple(Shard(path / name, files[name]) for name in names)
