"""The truth of a simulated world, as its simulator wrote it: P(open | user, hour in his true zone).

U users, H = 24 hours of the first day after the history, or 168 hours of the week, Monday first.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.errors import BadData, InputMissing

DAY_H, WEEK_H = 24, 168
HORIZONS = ("2h", "24h")
_USERS = ("user_id", "true_timezone", "true_offset", "eligible")
_CHANCES = {f"p{horizon}{part}": size for horizon in HORIZONS for part, size in (("", DAY_H), ("_week", WEEK_H))}


@dataclass(frozen=True)
class Truth:
    """`users`: user_id, true_timezone, true_offset (minutes), eligible and `truth_row`, the row in the file."""

    path: Path
    users: pl.DataFrame

    def chances(self, horizon: str, is_week: bool, row_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """P(open within `horizon` | sent at the start of each true local hour) of these rows, [N, 24] or [N, 168].

        BadData (65) where a value is no probability. Only the column asked for is in memory.
        """
        column = f"p{horizon}{'_week' if is_week else ''}"
        values = pl.read_parquet(self.path, columns=[column])[column].cast(pl.Array(pl.Float32, _CHANCES[column]))
        p_NH = np.asarray(values.to_numpy(), np.float32)[row_N]
        bad_N = ~((p_NH >= 0) & (p_NH <= 1)).all(axis=1)
        if bad_N.any():
            raise BadData(
                f"{self.path}: {column} must hold probabilities in 0..1; found others in {int(bad_N.sum())} rows; "
                "simulate the world again"
            )
        return p_NH


def read_truth(world: Path) -> Truth:
    """The truth of the folder `world` of `sto-engine simulate`.

    InputMissing (66) where there is none; BadData (65) where it lacks columns, or a user stands in it twice.
    """
    path = world / "truth.parquet"
    try:
        schema = pl.read_parquet_schema(path)
    except OSError as error:
        raise InputMissing(
            f"{world} must be a folder of `sto-engine simulate`, which writes truth.parquet; found none that can be "
            f"read ({error.strerror or error}); only a simulated world has a truth to judge by"
        ) from error
    except pl.exceptions.PolarsError as error:
        raise BadData(f"{path} must be a Parquet file; found something else ({error}); simulate it again") from error
    _check_columns(path, schema)
    users = pl.read_parquet(path, columns=list(_USERS)).with_row_index("truth_row")
    if users["user_id"].n_unique() != len(users):
        raise BadData(f"{path}: user_id must be unique; found {users['user_id'].n_unique()} ids in {len(users)} rows")
    return Truth(path, users.with_columns(pl.col("truth_row").cast(pl.Int64)))


def _check_columns(path: Path, schema: Any) -> None:
    missing = [name for name in (*_USERS, *_CHANCES) if name not in schema]
    if missing:
        raise BadData(f"{path} must hold the columns of a truth; it lacks {', '.join(missing)}; simulate it again")
    for name, size in _CHANCES.items():
        kind = schema[name]
        if not (isinstance(kind, pl.Array) and kind.shape == (size,)):
            raise BadData(f"{path}: {name} must be a fixed-size list of {size} numbers; found {kind}")
