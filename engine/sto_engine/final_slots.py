"""Rows of a bucket with the slots that prices gave them, and what that changes of its counts."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.assign.market import Market
from sto_engine.bucket_work import SlotsFile, staged_rows
from sto_engine.output.manifest import Record
from sto_engine.plan import Plan
from sto_engine.records import counts_to_json
from sto_engine.settle import Noise, Settled, read_bucket, settle


@dataclass(frozen=True)
class FinalSlots:
    """What is done to a bucket once there is a plan (bucket_work.Final); `reason` is that of those left out."""

    plan: Plan
    market: Market
    run: Path
    noise: Noise
    reason: str

    def __call__(self, table: pa.Table, slot_U: NDArray[np.uint8] | None) -> tuple[pl.DataFrame, pa.Table]:
        settled = self._settled(table, slot_U)
        left = settled.left_out.with_columns(reason=pl.lit(self.reason, pl.String))
        return settled.rows, left.to_arrow()

    def count(self, check_hash: bool, bucket: int, slots: SlotsFile | None) -> Record:
        """Counts of the final slots and what moved; those who were suppressed before are not among them."""
        table = staged_rows(self.run, bucket, check_hash)
        settled = self._settled(table, None if slots is None else slots.read(self.run))
        if len(settled.left_out):
            settled.counts.suppressed[self.reason] = len(settled.left_out)
        return {"moves": asdict(settled.moves), **counts_to_json(settled.counts)}

    def _settled(self, table: pa.Table, slot_U: NDArray[np.uint8] | None) -> Settled:
        staged = read_bucket(self.plan, self.market, table)
        slot_U = staged.slot_U if slot_U is None else slot_U
        return settle(self.plan, self.market, staged, table, slot_U, self.noise)
