"""One turn of a peer of `ingest`: read all files, write them by bucket of the id. Says why where it cannot run.

python -m sto_pipeline.ingest_child '{"impl": ..., "files": GLOB, "out": DIR, "buckets": 16, "threads": 2}'
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main(request: Mapping[str, Any]) -> str:
    Path(request["out"]).mkdir(parents=True)
    try:
        {"polars": _polars, "duckdb": _duckdb}[request["impl"]](request)
    except ImportError as error:
        return f"{error}; pip install 'sto-engine[bench]'"
    return ""


def _polars(request: Mapping[str, Any]) -> None:
    import polars as pl

    bucket = (pl.col("user_id").hash() % request["buckets"]).cast(pl.Int32)
    rows = pl.scan_parquet(request["files"]).with_columns(bucket=bucket)
    rows.sink_parquet(pl.PartitionBy(request["out"], key="bucket"), compression="zstd", compression_level=1)


def _duckdb(request: Mapping[str, Any]) -> None:
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {request['threads']}; SET preserve_insertion_order = false")
    connection.execute(
        f"COPY (SELECT *, hash(user_id) % {request['buckets']} AS bucket FROM read_parquet('{request['files']}')) "
        f"TO '{request['out']}' (FORMAT parquet, PARTITION_BY (bucket), COMPRESSION zstd, COMPRESSION_LEVEL 1, "
        "OVERWRITE_OR_IGNORE)"
    )


if __name__ == "__main__":
    print(main(json.loads(sys.argv[1])))
