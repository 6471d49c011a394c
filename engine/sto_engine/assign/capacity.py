"""The place between phases A and B where prices will move users off full slots.

Without capacity limits the provisional slots are final; what phase B still needs is, per (UTC start, provider), how
many sends share a spread window and how many of them lie in earlier buckets.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from sto_engine.config import Config
from sto_engine.errors import ConfigError

SpreadKey = tuple[int, str]


def refuse_capacity(config: Config) -> None:
    """Raise ConfigError (78) for limits that this version would silently ignore."""
    for section in ("capacity", "assign"):
        body = getattr(config, section)
        for key, value in body:
            if value != type(body).model_fields[key].default:
                raise ConfigError(f"{section}.{key} is not available in this version; remove it from the configuration")


def spread_starts(counts: Sequence[Mapping[SpreadKey, int]]) -> list[dict[SpreadKey, int]]:
    """Rank of the first send of each key in each bucket: exclusive prefix sums of the counts in bucket order."""
    seen: Counter[SpreadKey] = Counter()
    starts = []
    for bucket in counts:
        starts.append({key: seen[key] for key in bucket})
        seen.update(bucket)
    return starts
