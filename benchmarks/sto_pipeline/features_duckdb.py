"""The tensors in DuckDB: one pass makes the table of sends, four more queries sum it.

Reading the files twice beats keeping the events as a table; 48 sums over a join with the kernel's 48 columns beat a row
a cell. Insertion order is not kept, which lets two threads work.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sto_bench.contest import Missing
from sto_pipeline.answers import Frames, LazyFrames
from sto_pipeline.events import DAY_MS, DECAY_24, HOUR_MS, ORIGIN_MS, campaign_weights
from sto_pipeline.features_polars import files_of
from sto_pipeline.kernel import ROWS, kernel_columns

NEVER = 1 << 50
TABLES = ("slots", "opens", "exposure", "acts", "profile")
_SENDS = f"""
WITH first AS (SELECT user_id, campaign_id, min(ts) act FROM events WHERE event_type <> 'send' GROUP BY ALL)
SELECT user_id, ts + tz_offset * 60000 AS local, coalesce(act - ts, {NEVER}) latency, {ORIGIN_MS} - ts AS observed,
  rho2, rho24
FROM events LEFT JOIN first USING (user_id, campaign_id) JOIN weights USING (campaign_id) WHERE event_type = 'send'
"""


def _cell(local: str) -> str:
    return f"(({local} // {HOUR_MS}) % 24 + 24 * ((({local} // {DAY_MS} + 3) % 7 >= 5)::INT))::INT"


_WHOLE = f"latency >= {DAY_MS} AND observed >= {DAY_MS}"
_QUERIES = {
    "slots": f"""SELECT user_id, (local // {HOUR_MS}) % 24 AS hour,
  sum(rho2) FILTER (observed >= {2 * HOUR_MS}) sends2,
  count(*) FILTER (observed >= {2 * HOUR_MS} AND latency < {2 * HOUR_MS}) opens2,
  sum(rho24) sends24, count(*) FILTER (latency < {DAY_MS}) opens24,
  count(*) FILTER (observed >= {2 * HOUR_MS}) seen FROM sends GROUP BY ALL""",
    "opens": f"""SELECT user_id, {_cell("(local + latency)")} AS cell, count(*) opens
  FROM sends WHERE latency < {DAY_MS} GROUP BY ALL""",
    "acts": f"""SELECT user_id, ((ts + tz_offset * 60000) // {HOUR_MS}) % 24 AS hour, count(*) acts,
  count(*) FILTER (mobile) mobile_acts, max(ts) last_act FROM events WHERE event_type <> 'send' GROUP BY ALL""",
    "profile": f"""SELECT user_id, count(*) sent, count(*) FILTER (latency < {NEVER}) opened,
  sum(ln(greatest(latency / {HOUR_MS}.0, 1e-3))) FILTER (latency < {NEVER}) log_latency FROM sends GROUP BY ALL""",
    "exposure": f"""WITH cut AS (
  SELECT user_id, rho24, local, least(latency, observed, {DAY_MS}) stay,
    unnest(range(local // {HOUR_MS}, (local + least(latency, observed, {DAY_MS}) - 1) // {HOUR_MS} + 1)) clock
  FROM sends WHERE NOT ({_WHOLE})),
stays AS (SELECT *, greatest(local, clock * {HOUR_MS}) low, least((clock + 1) * {HOUR_MS}, local + stay) high FROM cut),
weighed AS (
  SELECT user_id, (((local // {DAY_MS} + 3) % 7) * 24 + (local // {HOUR_MS}) % 24)::INT AS place, rho24 AS weight
  FROM sends WHERE {_WHOLE}
  UNION ALL
  SELECT user_id, 168 + {_cell("low")} AS place, (high - low) / {HOUR_MS}.0 * fade * rho24 AS weight
  FROM stays JOIN fades ON age = least((low + high - 2 * local) // {2 * HOUR_MS}, 23))
SELECT user_id, {", ".join(f"sum(weight * k{c})::FLOAT AS e{c}" for c in range(48))}
FROM weighed JOIN kernel USING (place) GROUP BY user_id""",
}


class DuckDb:
    """One connection; a run replaces the tables of the one before."""

    def __init__(self, threads: int) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise Missing(f"duckdb cannot be imported ({error}); pip install 'sto-engine[bench]'") from error
        self.connection: Any = duckdb.connect()
        self.connection.execute(f"SET threads = {threads}; SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
        tables = {
            "kernel": pa.table({"place": pa.array(np.arange(ROWS), pa.int32()), **kernel_columns()}),
            "weights": campaign_weights().to_arrow(),
            "fades": pa.table({"age": pa.array(np.arange(24), pa.int64()), "fade": DECAY_24}),
        }
        for name, table in tables.items():
            self.connection.register(f"arrow_{name}", table)
            self.connection.execute(f"CREATE TABLE {name} AS SELECT * FROM arrow_{name}")

    def run(self, store: Path) -> Frames:
        files = [str(path) for path in files_of(store)]
        self.connection.execute(f"""CREATE OR REPLACE TEMP VIEW events AS
  SELECT user_id, campaign_id, event_type, epoch_ms(event_ts) ts, tz_offset, device_type = 'mobile' AS mobile
  FROM read_parquet({files!r}) WHERE epoch_ms(event_ts) < {ORIGIN_MS} AND event_type IN ('send', 'open', 'click')""")
        for name, query in {"sends": _SENDS, **_QUERIES}.items():
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")
        return LazyFrames(TABLES, lambda name: self.connection.table(name).pl())
