"""What the walks counted of each recipient, as a table: for those who fit models of their own or check ours."""

from dataclasses import fields

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.history.bucket import Bucket
from sto_engine.history.rates import TYPES, look_up
from sto_engine.models.counts import Weights, bucket_counts
from sto_engine.models.priors import Priors
from sto_engine.tables import MACHINES, features_schema
from sto_kernels.journal import NO_TIME, Counts


def feature_table(
    bucket: Bucket, priors: Priors | None, half_life_days: float | None, id_type: str, keep_U: NDArray[np.bool_]
) -> pa.Table:
    """One row a user of `keep_U` in the order of the bucket, in the columns of `features_schema`.

    Sends are weighed as `priors` say; without them every campaign, type and age of a mail weighs 1.
    """
    weights = _weights(bucket, priors)
    has_sends = priors.has_sends if priors is not None else True
    window_ms = bucket.start_ms, bucket.end_ms
    counts = bucket_counts(bucket.counted, len(bucket.users), weights, window_ms, has_sends, half_life_days)
    columns = {_column_name(f.name): _arrow(f.name, getattr(counts, f.name)[keep_U]) for f in fields(Counts)}
    cleaned, schema = bucket.cleaned, features_schema(id_type)
    columns["user_id"] = bucket.users["user_id"].filter(keep_U).to_arrow()
    columns["machine"] = pa.DictionaryArray.from_arrays(pa.array(cleaned.machine_U[keep_U]), list(MACHINES))
    columns["invalid"] = pa.array(cleaned.invalid_U[keep_U])
    columns["shift_min"] = pa.array(cleaned.shift_U[keep_U])
    return pa.table([columns[name].cast(schema.field(name).type) for name in schema.names], schema)


def _weights(bucket: Bucket, priors: Priors | None) -> Weights:
    key_C = bucket.campaign_key_C
    if priors is None:
        one_C = np.ones(len(key_C))
        return Weights(one_C, one_C, np.ones((TYPES, 24)), np.ones(TYPES))
    rate2_C, rate24_C = (look_up(key_C, priors.campaign_key_G, rate) for rate in (priors.rate2_G, priors.rate24_G))
    return Weights(rate2_C, rate24_C, priors.decay_T24, priors.follow_T)


def _column_name(field: str) -> str:
    """`opens_U48` -> `opens_48`, `sent_U` -> `sent`."""
    return field.removesuffix("_U") if field.endswith("_U") else field.replace("_U", "_")


def _arrow(field: str, values: NDArray[np.generic]) -> pa.Array:
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    if field == "last_act_U":
        return pa.array(values, pa.int64(), mask=values == NO_TIME).cast(pa.timestamp("ms", tz="UTC"))
    return pa.array(values)
