"""What is saved of a training: the contract and the card of its bundle."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sto_engine
from sto_engine.models.bundle import save_bundle
from sto_engine.train.fit import Fitted
from sto_engine.train.passes import Source
from sto_engine.train.prepare import Look
from sto_engine.zones import tzdata_version


def write_bundle(
    bundle: Path,
    source: Source,
    seen: Look,
    forest: bytes,
    fitted: Fitted,
    contract: dict[str, Any],
    by: dict[str, Any],
) -> tuple[str, dict[str, Any]]:
    """Write the bundle; returns its id and its card. `contract`: policy, preset, features, seed, and the
    other brand's bundle where there is one; `by`: who trained it. `seen` are the rows that it was trained on.

    The card tells of machines only where they leave a trace in the forest: one process on a CPU makes the bytes that
    this one would have made, and so the same bundle.
    """
    span, config = source.span, source.config
    meta = {
        **contract,
        "engine": sto_engine.__version__,
        "as_of": span.as_of.isoformat(),
        "grid": config.slots.grid,
        "label": span.label,
        "store": source.store.fingerprint(),
        "tzdata": tzdata_version(),
    }
    card: dict[str, Any] = {
        "as_of": span.as_of.isoformat(),
        "label": span.label,
        "first_send": _iso(seen.first_ms) if seen.rows else None,
        "last_send": _iso(seen.last_ms) if seen.rows else None,
        "rows": sum(seen.rows),
        "base_rate": round(seen.rate, 6),
        "train": config.train.model_dump(mode="json"),
        "objections": fitted.objections,
        **fitted.card,
    }
    if by and (by["workers"] > 1 or by["device"] != "cpu"):
        card["trained_by"] = by
    return save_bundle(bundle, meta, forest, fitted.tensors, card), card


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).isoformat()
