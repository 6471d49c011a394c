"""The one-integer sort of a bucket against the plain sort by five columns."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sto_engine.ingest.decode import hash_column, hash_runs
from sto_engine.ingest.order import in_order
from sto_engine.tables import EVENT_ENUM, EVENT_TYPES

ORDER = ["h", "user_id", "campaign_id", "event_ts", "event_type"]


def bucket(n: int, campaigns: pl.Series, spread_ms: int, ids: str = "uint64") -> pl.DataFrame:
    rng = np.random.default_rng(n)
    user = rng.integers(0, max(1, n // 4), n)
    user_id = pl.Series([f"ü{u}" for u in user], dtype=pl.String) if ids == "string" else pl.Series(user * 977)
    frame = pl.DataFrame(
        {
            "user_id": user_id,
            "campaign_id": campaigns,
            "event_type": pl.Series(rng.choice(EVENT_TYPES, n).tolist(), dtype=EVENT_ENUM),
            "event_ts": pl.Series(rng.integers(-spread_ms, spread_ms, n)).cast(pl.Datetime("ms", "UTC")),
            "value": rng.random(n),
        }
    )
    twice = pl.concat([frame, frame.head(n // 3).with_columns(value=pl.lit(-1.0))])
    return twice.with_columns(hash_column(twice["user_id"]))


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort(*ORDER, maintain_order=True).unique(ORDER, keep="first", maintain_order=True)


@pytest.mark.parametrize("ids", ["uint64", "string"])
@pytest.mark.parametrize("spread_ms", [3, 10**10, 10**15])
@pytest.mark.parametrize("kind", ["few", "int64", "uint64", "string"])
@pytest.mark.parametrize("n", [0, 1, 2, 900])
def test_any_keys_sort_as_their_columns_do(n: int, kind: str, spread_ms: int, ids: str) -> None:
    rng = np.random.default_rng(7)
    campaigns = {
        "few": pl.Series(rng.integers(10**12, 10**12 + 5, n), dtype=pl.UInt64),
        "int64": pl.Series(rng.integers(-(2**63), 2**63 - 1, n), dtype=pl.Int64),
        "uint64": pl.Series(rng.integers(0, 2**64 - 1, n, dtype=np.uint64)),
        "string": pl.Series([f"c{c}" for c in rng.integers(0, 30, n)], dtype=pl.String),
    }
    frame = bucket(n, campaigns[kind], spread_ms, ids)
    assert_frame_equal(in_order(frame), plain(frame))


def test_two_ids_of_one_hash_stay_apart() -> None:
    frame = bucket(60, pl.Series([1] * 60, dtype=pl.UInt64), 5, "string").with_columns(h=pl.lit(4, pl.UInt64))
    assert_frame_equal(in_order(frame), plain(frame))


def test_runs_hash_as_rows_do() -> None:
    for ids in (pl.Series([5, 5, 7, 9, 9], dtype=pl.UInt64), pl.Series(["a", "a", "b"]), pl.Series([], dtype=pl.Int64)):
        assert hash_runs(ids).equals(hash_column(ids), check_dtypes=True)
