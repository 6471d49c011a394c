"""The assignments to be judged: of a committed run, through its manifest, or of any Parquet file or folder.

A plain table needs `user_id` and either `send_at` (UTC) or `slot` (hour 0..23) with `tz_offset` (minutes); it may hold
`arm`, `reason`, `n_eff` and `p_open` as a run does; a list in `p_open` has one value a slot. Without arms, all of it is
the model arm.
"""

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.errors import BadData, InputMissing
from sto_engine.output import manifest as runs
from sto_engine.slots import grid_of, window_mask

_OPTIONAL = {"arm": pl.String, "reason": pl.String, "n_eff": pl.Float64, "p_open": pl.Float64}


@dataclass(frozen=True)
class Sent:
    """A row a recipient who is mailed: user_id, send_at_ms, slot, tz_offset and the optional columns, null if absent.

    `slots` is the size of the grid of `slot`; `allowed_S` the slots of the run's window, None where nothing is closed
    or nothing known; `day` the local day it was made for, where known, the first of `days` on which mail may go out.
    """

    name: str
    rows: pl.DataFrame
    slots: int = 24
    allowed_S: NDArray[np.bool_] | None = None
    day: date | None = None
    days: int = 1

    def only(self, users: pl.Series) -> "Sent":
        """The rows of these users."""
        kept = self.rows.filter(pl.col("user_id").is_in(users.implode()))
        return replace(self, rows=kept)


def read_sent(path: Path) -> Sent:
    """The assignments of a run folder, or of a plain Parquet file or folder of such files.

    InputMissing (66) for what is not there or not committed, BadData (65) for shards that do not match the manifest
    and for tables that say not whom to mail when.
    """
    if path.is_dir() and (path.name.startswith("run=") or (path / runs.MANIFEST).exists()):
        return _read_run(path)
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
        if not files:
            inside = sorted(p.name for p in path.glob("run=*"))
            hint = f"; pass one of its runs: {', '.join(inside[:5])}" if inside else "; check --run"
            raise InputMissing(f"{path} must be a run folder or hold Parquet files; found neither{hint}")
    elif path.is_file():
        files = [path]
    else:
        raise InputMissing(f"{path} must be a run folder or a Parquet file; found nothing there; check --run")
    return Sent(str(path), plain_rows(_concat(files), str(path)))


def _read_run(run: Path) -> Sent:
    manifest = runs.read_manifest(run)
    if manifest is None:
        raise InputMissing(
            f"{run} is not committed: it has no whole {runs.MANIFEST}; run `sto-engine score` to its end"
        )
    shards = {name: sha for name, sha in manifest.get("files", {}).items() if name.startswith("assignments/")}
    if not shards:
        raise BadData(f"{run / runs.MANIFEST} must name the shards of assignments; found none; score again")
    if not runs.files_match(run, shards):
        raise BadData(f"{run}: the shards must have the sha256 of the manifest; found others; score again")
    rows = plain_rows(_concat([run / name for name in sorted(shards)]), str(run))
    config, grid = manifest["config"], grid_of(manifest["config"]["slots"]["grid"])
    window = config["window"]
    open_S = window_mask(grid, window["start"], window["end"], window["quiet"])
    allowed_S = None if open_S.all() else open_S
    days = int(manifest.get("horizon_days", 1))
    return Sent(str(run), rows, grid.slots, allowed_S, date.fromisoformat(manifest["date"]), days)


def _concat(files: list[Path]) -> pl.DataFrame:
    try:
        return pl.concat([pl.read_parquet(file) for file in files], how="vertical_relaxed")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadData(f"{files[0].parent} must hold Parquet files of one schema; found: {error}") from error


def plain_rows(table: pl.DataFrame, name: str) -> pl.DataFrame:
    """The columns that a judge reads, in their types, absent ones null; BadData (65) where they do not suffice."""
    has_time, has_slot = "send_at" in table.columns, {"slot", "tz_offset"} <= set(table.columns)
    if "user_id" not in table.columns or not (has_time or has_slot):
        raise BadData(
            f"{name} must have user_id and either send_at or slot and tz_offset; found {', '.join(table.columns)}"
        )
    if table["user_id"].null_count() or table["user_id"].n_unique() != len(table):
        ids = table["user_id"].n_unique()
        raise BadData(f"{name}: user_id must be unique and not null; found {ids} ids in {len(table)} rows")
    columns: list[Any] = ["user_id", _send_at(table, name) if has_time else pl.lit(None, pl.Int64).alias("send_at_ms")]
    for column in ("slot", "tz_offset"):
        columns.append(pl.col(column).cast(pl.Int64) if column in table.columns else _null(column, pl.Int64))
    columns += [pl.col(c).cast(t) if c in table.columns else _null(c, t) for c, t in _OPTIONAL.items()]
    if isinstance(table.schema.get("p_open"), pl.List) and has_slot:
        table = table.with_columns(pl.col("p_open").list.get(pl.col("slot").cast(pl.Int64), null_on_oob=True))
    try:
        rows = table.select(columns)
    except pl.exceptions.PolarsError as error:
        raise BadData(f"{name} must have columns of the types of a run's assignments; found: {error}") from error
    if not has_time:
        _check_slots(rows, name)
    return rows


def _null(column: str, kind: Any) -> pl.Expr:
    return pl.lit(None, kind).alias(column)


def _send_at(table: pl.DataFrame, name: str) -> pl.Expr:
    kind = table.schema["send_at"]
    if not (isinstance(kind, pl.Datetime) and kind.time_zone):
        raise BadData(f"{name}: send_at must be a time with its zone (UTC); found {kind}")
    if table["send_at"].null_count():
        raise BadData(f"{name}: send_at must not be null; found {table['send_at'].null_count()} nulls")
    return pl.col("send_at").dt.epoch("ms").alias("send_at_ms")


def _check_slots(rows: pl.DataFrame, name: str) -> None:
    bad = rows.filter(~pl.col("slot").is_between(0, 23).fill_null(False) | pl.col("tz_offset").is_null())
    if len(bad):
        raise BadData(
            f"{name}: without send_at, slot must be an hour 0..23 and tz_offset minutes; found others in {len(bad)} "
            f"rows (first: slot {bad['slot'][0]}, tz_offset {bad['tz_offset'][0]})"
        )
