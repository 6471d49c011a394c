"""The tensors in one form, whoever computed them, and the gate that holds them to the plain twins of the engine.

Peers answer in frames, as an engine would leave them; ours in tensors. Dense: name -> float64 [U, width], users in the
order of their ids. Totals: name -> sum over users and cells.

    slots     user_id, hour, sends2, opens2, sends24, opens24, seen     a row where anything is
    opens     user_id, cell, opens
    exposure  user_id, e0 .. e47
    acts      user_id, hour, acts, mobile_acts, last_act (ms)
    profile   user_id, sent, opened, log_latency
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_bench.contest import GateFailed
from sto_kernels.journal import NO_TIME, Counts

Dense = dict[str, NDArray[np.float64]]
Frames = Mapping[str, pl.DataFrame]
WIDTHS = {"opens_48": 48, "exposure_48": 48, **dict.fromkeys(("sends2_24", "opens2_24", "sends24_24"), 24)}
WIDTHS |= {**dict.fromkeys(("opens24_24", "seen_24", "acts_24"), 24)}
SLOTS = ("sends2", "opens2", "sends24", "opens24", "seen")
SUMS = ("sent", "opened", "log_latency", "mobile_acts", "acts", "last_act")
NAMES = (*WIDTHS, *SUMS)
TOLERANCE = 1e-5


class LazyFrames(Mapping[str, pl.DataFrame]):
    """Tables that a database holds, each fetched once and only when somebody asks: after the clock has stopped."""

    def __init__(self, names: Sequence[str], fetch: Callable[[str], pl.DataFrame]) -> None:
        self._names, self._fetch = names, fetch
        self._found: dict[str, pl.DataFrame] = {}

    def __getitem__(self, name: str) -> pl.DataFrame:
        if name not in self._found:
            self._found[name] = self._fetch(name)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def of_counts(parts: list[tuple[NDArray[np.uint64], Counts]]) -> Dense:
    """Tensors of ours, in blocks of users with their ids."""
    ids = np.concatenate([part[0] for part in parts])
    order = np.argsort(ids)
    found: Dense = {}
    for field in fields(Counts):
        name = field.name.removesuffix("_U").replace("_U", "_")
        column = np.concatenate([np.asarray(getattr(counts, field.name), np.float64) for _, counts in parts])[order]
        found[name] = column.reshape(len(ids), -1)
    found["last_act"][found["last_act"] == NO_TIME] = 0
    return found


def of_frames(frames: Frames, ids: NDArray[np.uint64]) -> Dense:
    """Tensors of a peer; `ids` are those of all users, ascending."""

    def scatter(table: str, cell: str | None, value: str, width: int) -> NDArray[np.float64]:
        frame, out = frames[table], np.zeros((len(ids), width))
        user = np.searchsorted(ids, frame["user_id"].to_numpy())
        at = frame[cell].cast(pl.Int64).to_numpy() if cell else np.zeros(len(user), np.int64)
        np.add.at(out, (user, at), frame[value].cast(pl.Float64).fill_null(0).to_numpy())
        return out

    found = {f"{name}_24": scatter("slots", "hour", name, 24) for name in SLOTS}
    found["opens_48"] = scatter("opens", "cell", "opens", 48)
    found["exposure_48"] = np.concatenate([scatter("exposure", None, f"e{c}", 1) for c in range(48)], axis=1)
    found["acts_24"] = scatter("acts", "hour", "acts", 24)
    for name in ("sent", "opened", "log_latency"):
        found[name] = scatter("profile", None, name, 1)
    found["mobile_acts"] = scatter("acts", "hour", "mobile_acts", 24).sum(axis=1, keepdims=True)
    found["acts"] = found["acts_24"].sum(axis=1, keepdims=True)
    found["last_act"] = scatter("acts", "hour", "last_act", 24).max(axis=1, keepdims=True)
    return found


def totals_of_frames(frames: Frames) -> dict[str, float]:
    """Sums over a peer's answer; the newest act of all is left out, it is no sum."""

    def total(table: str, name: str) -> float:
        return float(frames[table][name].cast(pl.Float64).sum())

    cells = {"opens_48": ("opens", "opens"), "acts_24": ("acts", "acts"), "acts": ("acts", "acts")}
    cells |= {f"{name}_24": ("slots", name) for name in SLOTS}
    cells |= {name: ("profile", name) for name in ("sent", "opened", "log_latency")}
    found = {name: total(*at) for name, at in cells.items()}
    found["mobile_acts"] = total("acts", "mobile_acts")
    found["exposure_48"] = sum(total("exposure", f"e{cell}") for cell in range(48))
    return found


def totals_of_counts(counts: Counts, into: dict[str, float]) -> None:
    """Add the sums over a block of users."""
    for field in fields(Counts):
        if field.name != "last_act_U":
            name = field.name.removesuffix("_U").replace("_U", "_")
            into[name] = into.get(name, 0.0) + float(getattr(counts, field.name).sum())


def save(path: Path, dense: Dense) -> None:
    with path.open("wb") as file:
        arrays: dict[str, Any] = dense
        np.savez(file, **arrays)


def check(path: Path, truth: Dense) -> None:
    """GateFailed unless the tensors of the file are those of the twins, to 1e-5 of each value."""
    with np.load(path) as found:
        for name in NAMES:
            if name not in found or found[name].shape != truth[name].shape:
                raise GateFailed(f"{name} must have shape {truth[name].shape}")
            wrong = ~(np.abs(found[name] - truth[name]) <= TOLERANCE * np.maximum(1, np.abs(truth[name])))
            if wrong.any():
                user, cell = np.argwhere(wrong)[0]
                raise GateFailed(
                    f"{name} of user {user}, cell {cell} must be {truth[name][user, cell]:.7g}; "
                    f"found {found[name][user, cell]:.7g}; {int(wrong.sum())} of {wrong.size} are wrong"
                )
