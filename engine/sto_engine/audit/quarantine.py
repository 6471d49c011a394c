"""What ingest kept out of a store, from the files that it left there."""

from collections import Counter
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from sto_engine.ingest.store import Store


def quarantined(store: Store) -> dict[str, Counter[str]]:
    """Rows in quarantine by rule, of events and of the recipients snapshot."""
    generations = store.manifest["generations"]
    names = {name for g in generations for name in (g["name"], *g.get("merged", []))}
    snapshot = store.manifest["recipients"]
    people = (snapshot["name"], *snapshot.get("merged", [])) if snapshot is not None else ()
    found: dict[str, Counter[str]] = {"events": Counter(), "recipients": Counter()}
    for path in sorted((store.path / "quarantine").glob("*.parquet")):
        owner = path.name.rpartition("-")[0]
        if owner in names:
            found["events"].update(_by_rule(path))
        elif owner in people:
            found["recipients"].update(_by_rule(path))
    return found


def _by_rule(path: Any) -> dict[str, int]:
    counted = pc.value_counts(pq.read_table(path, columns=["rule"])["rule"])
    return {item["values"].as_py(): item["counts"].as_py() for item in counted}
