"""Counts of a bucket as plain JSON values, for its record, and back."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sto_engine.assign.census import Census
from sto_engine.assign.gain import Gain
from sto_engine.choose import BucketCounts

TALLIES = ("suppressed", "reason", "arm", "slot", "preferred", "provider", "held")


def counts_to_json(counts: BucketCounts) -> dict[str, Any]:
    """Spread keys as rows, since JSON has no tuples."""
    spread = sorted([start, provider, n] for (start, provider), n in counts.spread.items())
    tallies = {name: sorted(getattr(counts, name).items()) for name in TALLIES}
    return {
        "audience": counts.audience,
        "nan_rows": counts.nan_rows,
        "spread": spread,
        "gain": counts.gain.to_json(),
        "census": counts.census.to_json(),
        **json.loads(json.dumps(tallies)),
    }


def counts_from_json(record: Mapping[str, Any]) -> BucketCounts:
    """What `counts_to_json` wrote."""
    tallies = {name: Counter(dict(record[name])) for name in TALLIES}
    spread = Counter({(start, provider): n for start, provider, n in record["spread"]})
    return BucketCounts(
        audience=record["audience"],
        nan_rows=record["nan_rows"],
        spread=spread,
        gain=Gain.from_json(record["gain"]),
        census=Census.from_json(record["census"]),
        **tallies,
    )
