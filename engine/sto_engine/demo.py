"""`demo`: an invented sender from its mailings to tonight's send times, and what the truth says they are worth.

The truth is known because the sender is invented: the figures show that the parts work together, and are no evidence
of what timing is worth to anyone. That takes the control arm of a real sender.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

from sto_engine.config import Config
from sto_engine.errors import CannotCreate
from sto_engine.evaluate.truth import HORIZONS
from sto_engine.evaluate.world import evaluate_world
from sto_engine.files import canonical_json, write_atomic
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Progress
from sto_engine.simulate import simulate
from sto_engine.train_job import train

WORLD, DAYS = "attention", 90
NOTE = "a simulated sender whose truth is known: shows that the parts work together, never evidence of lift"


def run_demo(out: Path, users: int, seed: int, threads: int, config: Config, progress: Progress) -> dict[str, Any]:
    """Simulate, ingest, train and score under `out`; returns the run's summary and its value against the truth.

    `out` is a new folder or that of a demo of the same users and seed. Raises CannotCreate when it is anything else,
    and what the stages raise. The model is kept even where a sender this small lets a histogram look better.
    """
    _claim(out, {"world": WORLD, "days": DAYS, "users": users, "seed": seed})
    world, store, bundle = out / "world", out / "store", out / "bundle"
    day = date.fromisoformat(simulate(world, WORLD, users, DAYS, seed, progress).truth_day)
    ingested = ingest([str(world / "events")], store, world / "recipients.parquet", config, progress)
    trained = train(store, bundle, day, config, threads, seed, None, progress, force=True)
    request = ScoreRequest(store, out / "runs", bundle, day, campaign="demo", threads=threads, seed=seed)
    result = run_score(request, config, progress)
    assert result.run_dir is not None
    return {
        "note": NOTE,
        "run": str(result.run_dir),
        **{key: result.summary[key] for key in ("date", "counts", "by_reason", "by_arm", "by_slot", "warnings")},
        "ingested": ingested.as_dict(),
        "trained": trained.as_dict(),
        **expected_opens(result.run_dir, world),
    }


def expected_opens(run_dir: Path, world: Path) -> dict[str, Any]:
    """Opens that the truth expects of the model arm, of a fixed local hour and of the oracle; see `evaluate.world`."""
    judged = evaluate_world(world, run_dir)
    return {f"expected_opens_in_{horizon}": judged[f"within_{horizon}"] for horizon in HORIZONS}


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
