"""How long a recipient's mail may wait, beside his choice."""

import polars as pl

from sto_engine.models.policy import Utilities
from sto_engine.tables import URGENCIES


def with_urgency(rows: pl.DataFrame, utilities: Utilities) -> pl.DataFrame:
    """The rows with a column `urgency`, where the policy knows it."""
    if utilities.urgency_U is None:
        return rows
    return rows.with_columns(pl.Series("urgency", utilities.urgency_U.tolist(), dtype=pl.Enum(URGENCIES)))


def urgencies(rows: pl.DataFrame) -> dict[str, int]:
    """How many rows have each; none where the policy knows none."""
    if "urgency" not in rows.columns:
        return {}
    return dict(rows["urgency"].drop_nulls().cast(pl.String).value_counts().iter_rows())
