"""`demo`: an invented sender from its mailings to tonight's send times, and what the truth says they are worth.

The truth is known because the sender is invented: the figures show that the parts work together, and are no evidence
of what timing is worth to anyone. That takes the control arm of a real sender.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sto_engine.config import Config
from sto_engine.errors import CannotCreate
from sto_engine.files import canonical_json, write_atomic
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Progress
from sto_engine.simulate import simulate
from sto_engine.train import train

WORLD, DAYS, FIXED_HOUR, HOURS = "attention", 90, 10, 24
SMALL_FOREST = {"trees": 60, "depth": 4}
NOTE = "a simulated sender whose truth is known: shows that the parts work together, never evidence of lift"


def run_demo(out: Path, users: int, seed: int, threads: int, config: Config, progress: Progress) -> dict[str, Any]:
    """Simulate, ingest, train and score under `out`; returns the run's summary and its value against the truth.

    `out` is a new folder or that of a demo of the same users and seed. Raises CannotCreate when it is anything else,
    and what the stages raise. The forest is small unless `config` says how large it is to be.
    """
    _claim(out, {"world": WORLD, "days": DAYS, "users": users, "seed": seed})
    chosen = {key: size for key, size in SMALL_FOREST.items() if key not in config.train.model_fields_set}
    config = config.model_copy(update={"train": config.train.model_copy(update=chosen)})
    world, store, bundle = out / "world", out / "store", out / "bundle"
    day = date.fromisoformat(simulate(world, WORLD, users, DAYS, seed, progress).truth_day)
    ingested = ingest([str(world / "events")], store, world / "recipients.parquet", config, progress)
    trained = train(store, bundle, day, config, threads, seed, None, progress)
    request = ScoreRequest(store, out / "runs", bundle, day, campaign="demo", threads=threads, seed=seed)
    result = run_score(request, config, progress)
    assert result.run_dir is not None
    return {
        "note": NOTE,
        "run": str(result.run_dir),
        **{key: result.summary[key] for key in ("date", "counts", "by_reason", "by_arm", "by_slot", "warnings")},
        "ingested": ingested.as_dict(),
        "trained": trained.as_dict(),
        "expected_opens_in_2h": expected_opens(result.run_dir, world / "truth.parquet"),
    }


def expected_opens(run_dir: Path, truth_path: Path) -> dict[str, float | int | None]:
    """Opens within two hours that the truth expects of the model arm, against a fixed local hour and the best slot.

    Recipients are at the hour their true zone says, whatever the profile said. `captured_percent` is
    (ours - fixed) / (best - fixed); None where even the best slot gains nothing.
    """
    columns = ["user_id", "arm", "slot", "tz_offset"]
    sent = pl.concat([pl.read_parquet(p, columns=columns) for p in sorted(run_dir.glob("assignments/part-*.parquet"))])
    truth = pl.read_parquet(truth_path, columns=["user_id", "true_offset", "p2h"])
    both = sent.filter(pl.col("arm") == "model").join(truth, on="user_id", how="inner", maintain_order="left")
    p_US = both["p2h"].cast(pl.Array(pl.Float64, HOURS)).to_numpy()
    late_U = (both["true_offset"].cast(pl.Int64) - both["tz_offset"].cast(pl.Int64)).to_numpy() // 60
    user = np.arange(len(both))
    ours = p_US[user, (both["slot"].cast(pl.Int64).to_numpy() + late_U) % HOURS].sum()
    fixed = p_US[user, (FIXED_HOUR + late_U) % HOURS].sum()
    best = p_US.max(axis=1, initial=0.0).sum()
    gain = best - fixed
    return {
        "recipients": len(both),
        "model": round(float(ours), 2),
        f"fixed_{FIXED_HOUR}": round(float(fixed), 2),
        "best_possible": round(float(best), 2),
        "captured_percent": round(float(100 * (ours - fixed) / gain), 1) if gain > 0 else None,
    }


def _claim(out: Path, facts: dict[str, object]) -> None:
    """Make `out` the folder of this demo; nothing that lies there already is mixed with it."""
    mark = out / "demo.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        found = json.loads(mark.read_bytes()) if mark.exists() else None
        is_free = not any(out.iterdir())
    except (OSError, ValueError) as error:
        raise CannotCreate(f"demo folder {out} cannot be used: {error}; pass another --out") from error
    if found != facts and not is_free:
        raise CannotCreate(
            f"demo expects a new folder or one of the same demo; found {found or 'other files'} in {out}; "
            "pass another --out or remove it"
        )
    write_atomic(mark, canonical_json(facts))
