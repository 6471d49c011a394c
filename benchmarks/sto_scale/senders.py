"""Large senders at the price of small ones: a simulated one, copied under other ids until there are enough recipients.

A copy keeps everything of its recipients but the id, which hashes to another bucket, so buckets stay alike whatever the
size; what is lost is variety between copies, which no cost here depends on.

    DIR/sender-u5000000-e10/events/copy-0007.parquet    one file a copy
    DIR/sender-u5000000-e10/recipients.parquet
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sto_pipeline.made import Work
from sto_scale.cases import Case

# of simulated campaigns a day, for events a recipient over 90 days: sends, opens and clicks
CAMPAIGNS_PER_EVENT = 0.013
ROW_GROUP = 131_072


def sender(case: Case, work: Work) -> Path:
    """The folder of the sender of a case: made at the first call, kept afterwards."""
    path = work.root / f"sender-u{case.users}-b{case.base}-e{case.per_user}"
    if not path.exists():
        world = work.world(case.base, f"{CAMPAIGNS_PER_EVENT * case.per_user:.3g}")
        work.watch.info("making", what=path.name)
        temporary = work.root / f".{uuid4().hex}"
        try:
            _copy(world, temporary, case.users // case.base)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return path


def rows(sender: Path) -> int:
    """Events of a sender, by the footers of its files."""
    return sum(pq.read_metadata(path).num_rows for path in (sender / "events").glob("*.parquet"))


def _copy(world: Path, out: Path, copies: int) -> None:
    (out / "events").mkdir(parents=True)
    events, people = pq.read_table(world / "events"), pq.read_table(world / "recipients.parquet")
    for number, table in enumerate(_under_other_ids(events, copies)):
        pq.write_table(table, out / "events" / f"copy-{number:04d}.parquet", ROW_GROUP, compression="zstd")
    with pq.ParquetWriter(out / "recipients.parquet", people.schema, compression="zstd") as writer:
        for table in _under_other_ids(people, copies):
            writer.write_table(table, ROW_GROUP)


def _under_other_ids(table: pa.Table, copies: int) -> Iterator[pa.Table]:
    """The first copy is the table itself. Ids are 64 random bits, so those of two copies do not meet."""
    at, ids = table.schema.get_field_index("user_id"), table["user_id"].to_numpy()
    for number in range(copies):
        other = ids ^ np.uint64(number * 0xD1B54A32D192ED03 % (1 << 64))
        yield table.set_column(at, table.schema.field(at), pa.array(other))
