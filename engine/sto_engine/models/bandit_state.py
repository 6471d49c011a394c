"""The state of a bandit between campaigns: what `bandit update` writes and `score --bandit-state` reads.

    DIR/state.json                              what the state is, sealed; written last, and all that readers trust
    DIR/content=<id>/priors.safetensors         tables of models.bandit_fit.Learnt
    DIR/content=<id>/outcomes/part-0007.parquet users of a bucket with mature sends: user_id, sends and hits by slot

Everything but state.json is named by what it holds: the same outcomes give the same bytes, however they came.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.errors import BadData, ConfigError, InputMissing
from sto_engine.files import canonical_json, sha256_file
from sto_engine.ingest.store import Store
from sto_engine.models.bundle import read_tensors
from sto_engine.models.outcomes import Outcomes
from sto_engine.tables import id_arrow

STATE_VERSION = 1
STATE, PRIORS = "state.json", "priors.safetensors"
REBUILD = "delete the folder and run: sto-engine bandit update"


def outcomes_name(bucket: int) -> str:
    return f"outcomes/part-{bucket:04d}.parquet"


def outcomes_table(users: pl.DataFrame, outcomes: Outcomes, id_type: str) -> pa.Table:
    """Users with outcomes, in the order of the bucket; a list of float32 a user."""
    has_U = outcomes.sends_US.any(axis=1) | outcomes.hits_US.any(axis=1)
    ids = users["user_id"].filter(pl.Series(has_U)).to_arrow()
    lists = [
        pa.FixedSizeListArray.from_arrays(pa.array(x_US[has_U].reshape(-1)), x_US.shape[1])
        for x_US in (outcomes.sends_US, outcomes.hits_US)
    ]
    return pa.table([ids.cast(id_arrow(id_type)), *lists], ["user_id", "sends", "hits"])


@dataclass(frozen=True)
class State:
    """A checked state; `meta` is the body of state.json."""

    path: Path
    meta: dict[str, Any]
    tensors: dict[str, NDArray[Any]]

    @property
    def content(self) -> Path:
        return self.path / f"content={self.meta['content']}"

    @property
    def through(self) -> date:
        return date.fromisoformat(self.meta["through"])

    def read(self, bucket: int) -> pa.Table:
        """Outcomes of a bucket; BadData (65) where they are not what was written."""
        name = outcomes_name(bucket)
        path = self.content / name
        if not _matches(path, self.meta["files"][name]):
            raise BadData(f"state file {path} is not as it was written; {REBUILD}")
        return pq.read_table(path)

    def outcomes(self, bucket: int, ids: pl.Series, slots: int) -> Outcomes:
        """Of these users, all 0 of those it does not know."""
        table = self.read(bucket)
        known = pl.DataFrame({"user_id": pl.from_arrow(table["user_id"])}).with_row_index("row")
        row_U = ids.to_frame("user_id").join(known, on="user_id", how="left", maintain_order="left")["row"]
        has_U, row_N = row_U.is_not_null().to_numpy(), row_U.drop_nulls().to_numpy()
        found = []
        for name in ("sends", "hits"):
            values = np.asarray(table[name].combine_chunks().flatten().to_numpy(), np.float32).reshape(-1, slots)
            x_US = np.zeros((len(ids), slots), np.float32)
            x_US[has_U] = values[row_N]
            found.append(x_US)
        return Outcomes(*found)


def read_state(path: Path) -> State | None:
    """The state at `path`, None where there is none yet; BadData (65) for one that is not whole."""
    file = path / STATE
    try:
        body = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputMissing(f"bandit state {path} cannot be read: {error.strerror}; check --bandit-state") from error
    except ValueError as error:
        raise BadData(f"bandit state {file} is not JSON ({error}); {REBUILD}") from error
    if not isinstance(body, dict) or body.get("state_version") != STATE_VERSION:
        found = body.get("state_version") if isinstance(body, dict) else None
        raise BadData(f"bandit state {path} must be of version {STATE_VERSION}; found {found}; {REBUILD}")
    if body.get("seal") != seal(body):
        raise BadData(f"bandit state {file} was changed after it was written; {REBUILD}")
    priors = path / f"content={body['content']}" / PRIORS
    if not _matches(priors, body["files"][PRIORS]):
        raise BadData(f"state file {priors} is not as it was written; {REBUILD}")
    return State(path, body, read_tensors(priors.read_bytes(), str(priors)))


def seal(body: Mapping[str, Any]) -> str:
    """What shows that a state is read as it was written."""
    return hashlib.sha256(canonical_json({key: x for key, x in body.items() if key != "seal"})).hexdigest()


def state_for(path: Path, store: Store, day: date, config: Config, bundle_id: str | None) -> State:
    """The state for a run: of this store, not from after its day, and counted as the run would count.

    Raises InputMissing (66) where there is none, BadData (65) or ConfigError (78) where it does not fit.
    """
    state = read_state(path)
    if state is None:
        raise InputMissing(f"{path} holds no {STATE}; make one with: sto-engine bandit update --state {path}")
    gone = set(state.meta["sources"]) - set(sources_of(store))
    if gone or state.meta["buckets"] != store.buckets or state.meta["id_type"] != store.id_type:
        raise BadData(
            f"bandit state {path} must be of store {store.path} as it is bucketed now; {len(gone)} of its "
            f"{len(state.meta['sources'])} sources were never ingested there; run: sto-engine bandit update"
        )
    if state.through > day:
        raise BadData(
            f"bandit state {path} knows outcomes up to {state.through}, after the day {day}; run: sto-engine bandit "
            f"update --as-of {day}"
        )
    asked = terms_of(config, bundle_id)
    other = [f"{key} = {state.meta['terms'].get(key)} for {x}" for key, x in asked.items() if x != told(state, key)]
    if other:
        raise ConfigError(f"bandit state {path} was made by other settings: {', '.join(other)}; run bandit update")
    return state


def told(state: State, key: str) -> Any:
    return state.meta["terms"].get(key)


def sources_of(store: Store) -> list[str]:
    """sha256 of every file that was ever ingested, in order: what a store stays known by while it grows."""
    return sorted(
        {source["sha256"] for generation in store.manifest["generations"] for source in generation["sources"]}
    )


def terms_of(config: Config, bundle_id: str | None) -> dict[str, Any]:
    """The settings that decide what is counted and fitted, as plain JSON values."""
    decision = config.decision()
    model, bandit = decision["model"], decision["bandit"]
    return {
        "slots.grid": decision["slots"]["grid"],
        **{f"model.{key}": model[key] for key in ("label", "history_days", "half_life_days")},
        **{f"bandit.{key}": bandit[key] for key in ("prior", "discount")},
        "train.outcome_lag_hours": decision["train"]["outcome_lag_hours"],
        **{section: decision[section] for section in ("cohort", "timezone", "clean")},
        "bundle": bundle_id,
    }


def _matches(path: Path, sha256: str) -> bool:
    try:
        return sha256_file(path) == sha256
    except OSError:
        return False
