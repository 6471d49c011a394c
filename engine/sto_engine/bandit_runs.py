"""What past runs of a bandit came to: mature sends of their model arm against what was expected of them.

A send is a run's where it went to the recipient within MOST_HOURS of the planned time, in the run's campaign if it has
one. Nothing is kept: figures are worked out anew from store and runs, so they are as exact as both. N planned rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sto_engine.errors import BadData, InputMissing
from sto_engine.executor import Executor
from sto_engine.files import sha256_file
from sto_engine.history.bucket import Bucket
from sto_engine.in_order import in_order
from sto_engine.models.bandit import Bandit
from sto_engine.models.outcomes import mature_sends
from sto_engine.output import manifest as runs
from sto_engine.plan import Plan
from sto_engine.tables import hash_ids, id_polars
from sto_engine.view import look
from sto_kernels.journal import HOUR_MS

MOST_HOURS = 12
COLUMNS = ["user_id", "send_at", "p_open", "arm"]
# recipients, sends found, hits, expected hits of those found
Sums = tuple[int, int, int, float]


@dataclass(frozen=True)
class Run:
    """A committed run of a bandit, by its manifest."""

    path: Path
    body: dict[str, Any]

    def rows(self, bucket: int) -> pl.DataFrame:
        """Planned sends of the model arm in a bucket; BadData (65) where they are not what was committed."""
        name = f"assignments/part-{bucket:04d}.parquet"
        path, sha256 = self.path / name, self.body["files"].get(name)
        try:
            if sha256_file(path) != sha256:
                raise BadData(f"{path} does not match its manifest; score again")
        except OSError as error:
            raise BadData(f"{path} cannot be read: {error.strerror}; score again") from error
        rows = pl.from_arrow(pq.read_table(path, columns=COLUMNS))
        assert isinstance(rows, pl.DataFrame)
        return rows.filter(pl.col("arm").fill_null("model") == "model")


def open_runs(paths: Sequence[Path], buckets: int) -> list[Run]:
    """The bandit's runs at `paths`, each a run or a folder of them, by date and id.

    InputMissing (66) where a path holds none; BadData (65) for runs of a store that was bucketed otherwise.
    """
    found: dict[str, Run] = {}
    for path in paths:
        bodies = [(p, body) for p in (path, *sorted(path.glob("run=*"))) if (body := runs.read_manifest(p)) is not None]
        if not bodies:
            raise InputMissing(f"--runs expects a committed run or a folder of runs; found none in {path}")
        for folder, body in bodies:
            if (body.get("summary") or {}).get("bandit") is None:
                continue
            if body["store"]["buckets"] != buckets:
                raise BadData(f"{folder} must be of {buckets} buckets, as the store; found {body['store']['buckets']}")
            found[body["run_id"]] = Run(folder, body)
    return sorted(found.values(), key=lambda run: (run.body["date"], run.body["run_id"]))


def realised(plan: Plan, past: Sequence[Run], executor: Executor) -> list[dict[str, Any]]:
    """Figures of each run, sums in bucket order."""
    buckets = range(plan.store.buckets)
    totals: list[Sums] = [(0, 0, 0, 0.0)] * len(past)
    for sums in in_order(executor.run(partial(_bucket, plan, tuple(past)), buckets), buckets):
        totals = [(a + e, b + f, c + g, d + h) for (a, b, c, d), (e, f, g, h) in zip(totals, sums, strict=True)]
    return [_figures(run, total) for run, total in zip(past, totals, strict=True)]


def _bucket(plan: Plan, past: tuple[Run, ...], bucket: int) -> list[Sums]:
    known = look(plan, bucket).known
    return [_sums(plan, known, run.body["campaign"], run.rows(bucket)) for run in past]


def _sums(plan: Plan, known: Bucket, campaign: str | None, rows: pl.DataFrame) -> Sums:
    """Planned sends against those that were mature, each matched with the nearest in time of its recipient."""
    assert isinstance(plan.policy, Bandit)
    cleaned, terms = known.cleaned, plan.policy.terms
    sends = mature_sends(cleaned, terms, known.end_ms)
    if campaign is not None:
        sends = sends[known.campaign_key_C[cleaned.campaign_S[sends]] == _key(campaign, plan.store.campaign_type)]
    sent = pl.DataFrame(
        {
            "user_id": known.users["user_id"].gather(cleaned.user_S[sends]),
            "at": cleaned.utc_S[sends],
            "hit": terms.hits(cleaned, sends),
        }
    )
    planned = rows.select("user_id", pl.col("send_at").dt.epoch("ms").alias("planned"), "p_open")
    pairs = planned.join(sent, on="user_id").with_columns(apart=(pl.col("at") - pl.col("planned")).abs())
    pairs = pairs.filter(pl.col("apart") <= MOST_HOURS * HOUR_MS).sort("user_id", "apart", "at")
    pairs = pairs.unique("user_id", keep="first", maintain_order=True)
    return len(rows), len(pairs), int(pairs["hit"].sum()), float(pairs["p_open"].cast(pl.Float64).sum())


def _key(campaign: str, kind: str) -> NDArray[np.uint64]:
    """Hash of the campaign as events name it; of nothing where it cannot be such an id."""
    typed = pl.Series([campaign]).cast(id_polars(kind), strict=False).drop_nulls()
    return hash_ids(typed) if len(typed) else np.zeros(1, np.uint64)


def _figures(run: Run, total: Sums) -> dict[str, Any]:
    recipients, found, hits, expected = total
    told = run.body["summary"]["bandit"]
    return {
        "run_id": run.body["run_id"],
        "date": run.body["date"],
        "campaign": run.body["campaign"],
        "recipients": recipients,
        "sends": found,
        "opens": hits,
        "rate": round(hits / found, 6) if found else None,
        "expected_rate": round(expected / found, 6) if found else None,
        "expected_best_rate": told["expected_best"],
        "expected_regret": told["regret"],
    }
