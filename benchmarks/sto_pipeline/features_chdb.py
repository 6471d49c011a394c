"""The tensors in chdb (ClickHouse in the process): tables in memory, sums in arrays where its own functions have them.

One group-by over all rows makes the table of sends; exposure is `sumForEach` over the kernel's rows, which takes two
thirds of what 48 sums take. Temporary files go into a folder that is removed with the process.
"""

import io
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from sto_bench.contest import Missing
from sto_pipeline.answers import Frames, LazyFrames
from sto_pipeline.events import DAY_MS, HOUR_MS, ORIGIN_MS, campaign_weights
from sto_pipeline.kernel import kernel

NEVER = 1 << 50
TABLES = ("slots", "opens", "exposure", "acts", "profile")


def _cell(local: str) -> str:
    return f"toInt32(intDiv({local}, {HOUR_MS}) % 24 + 24 * ((intDiv({local}, {DAY_MS}) + 3) % 7 >= 5))"


_WHOLE = f"latency >= {DAY_MS} AND observed >= {DAY_MS}"
_FADE = "greatest(exp(-age / 8.0), 1e-3)"
_QUERIES = {
    "sends": f"""SELECT user_id, sent + offset AS local, if(act = 0, {NEVER}, act - sent) AS latency,
  {ORIGIN_MS} - sent AS observed, rho2, rho24
FROM (SELECT user_id, campaign_id, minIf(ts, event_type = 'send') AS sent, minIf(ts, event_type <> 'send') AS act,
    any(tz_offset) * 60000 AS offset FROM events GROUP BY user_id, campaign_id) AS joined
JOIN b.weights AS w USING (campaign_id)""",
    "slots": f"""SELECT user_id, intDiv(local, {HOUR_MS}) % 24 AS hour,
  sumIf(rho2, observed >= {2 * HOUR_MS}) AS sends2,
  countIf(observed >= {2 * HOUR_MS} AND latency < {2 * HOUR_MS}) AS opens2, sum(rho24) AS sends24,
  countIf(latency < {DAY_MS}) AS opens24, countIf(observed >= {2 * HOUR_MS}) AS seen
FROM b.sends GROUP BY user_id, hour""",
    "opens": f"""SELECT user_id, {_cell("local + latency")} AS cell, count() AS opens
FROM b.sends WHERE latency < {DAY_MS} GROUP BY user_id, cell""",
    "acts": f"""SELECT user_id, intDiv(ts + tz_offset * 60000, {HOUR_MS}) % 24 AS hour, count() AS acts,
  countIf(mobile) AS mobile_acts, max(ts) AS last_act FROM events WHERE event_type <> 'send' GROUP BY user_id, hour""",
    "profile": f"""SELECT user_id, count() AS sent, countIf(latency < {NEVER}) AS opened,
  sumIf(log(greatest(latency / {HOUR_MS}, 1e-3)), latency < {NEVER}) AS log_latency FROM b.sends GROUP BY user_id""",
    "exposure": f"""SELECT user_id, sumForEach(arrayMap(x -> x * weight, k)) AS e FROM (
  SELECT user_id, toInt32((intDiv(local, {DAY_MS}) + 3) % 7 * 24 + intDiv(local, {HOUR_MS}) % 24) AS row,
    rho24 AS weight
  FROM b.sends WHERE {_WHOLE}
  UNION ALL
  SELECT user_id, 168 + {_cell("low")} AS row, (high - low) / {HOUR_MS} * {_FADE} * rho24 AS weight FROM (
    SELECT user_id, rho24, greatest(local, at * {HOUR_MS}) AS low, least((at + 1) * {HOUR_MS}, stop) AS high,
      least(intDiv(low + high - 2 * local, {2 * HOUR_MS}), 23) AS age
    FROM (SELECT user_id, rho24, local, local + least(latency, observed, {DAY_MS}) AS stop,
        toInt64(arrayJoin(range(toUInt64(intDiv(local, {HOUR_MS})), toUInt64(intDiv(stop - 1, {HOUR_MS}) + 1)))) AS at
      FROM b.sends WHERE NOT ({_WHOLE})))) AS rows
JOIN b.kernel AS kernel USING (row) GROUP BY user_id""",
}


class Chdb:
    """One session with its database `b`."""

    def __init__(self, threads: int) -> None:
        try:
            from chdb import session
        except ImportError as error:
            raise Missing(f"chdb cannot be imported ({error}); pip install 'sto-engine[bench]'") from error
        self.folder = tempfile.TemporaryDirectory()
        make: Any = session.Session  # untyped
        self.session = make(self.folder.name)
        self.settings = f"SETTINGS max_threads = {threads}"
        self._ask("CREATE DATABASE IF NOT EXISTS b")
        self._ask("CREATE TABLE b.weights (campaign_id UInt64, rho2 Float64, rho24 Float64) ENGINE = Memory")
        self._ask(f"INSERT INTO b.weights VALUES {', '.join(map(str, campaign_weights().rows()))}")
        self._ask("CREATE TABLE b.kernel (row Int32, k Array(Float64)) ENGINE = Memory")
        rows = (f"({row}, {values})" for row, values in enumerate(kernel().tolist()))
        self._ask(f"INSERT INTO b.kernel VALUES {', '.join(rows)}")

    def run(self, store: Path) -> Frames:
        read = f"""(SELECT user_id, campaign_id, event_type, toUnixTimestamp64Milli(assumeNotNull(event_ts)) AS ts,
  assumeNotNull(tz_offset) AS tz_offset, device_type = 'mobile' AS mobile
  FROM file('{store}/gen-*/*.parquet', Parquet) WHERE ts < {ORIGIN_MS} AND event_type IN ('send', 'open', 'click'))"""
        for name, query in _QUERIES.items():
            asked = query.replace("FROM events", f"FROM {read} AS events")
            self._ask(f"DROP TABLE IF EXISTS b.{name}")
            self._ask(f"CREATE TABLE b.{name} ENGINE = Memory AS {asked} {self.settings}")
        return LazyFrames(TABLES, self.table)

    def _ask(self, query: str, form: str = "CSV") -> Any:
        return self.session.query(query, form)

    def table(self, name: str) -> pl.DataFrame:
        frame = pl.read_parquet(io.BytesIO(self._ask(f"SELECT * FROM b.{name}", "Parquet").bytes()))
        if name != "exposure":
            return frame
        cells = [frame["e"].list.get(cell).alias(f"e{cell}") for cell in range(48)]
        return frame.select("user_id").with_columns(cells)
