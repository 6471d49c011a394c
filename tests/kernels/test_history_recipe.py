"""The walks on a simulated sender against the recipe's own script, which is kept beside the repository."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from journals import read_journal
from sto_engine.progress import Silent
from sto_engine.simulate import WORLDS, simulate
from sto_kernels import count_walk
from sto_kernels.clean_walk import clean
from sto_kernels.journal import DAY_MS, HOUR_MS, NO_LATENCY, Cleaned

SCRIPT = Path(__file__).resolve().parents[3] / "shared" / "prototypes" / "recipe" / "recipe_ref.py"
AS_OF, DAYS = "2026-04-20", 90
END_MS = int(np.datetime64(AS_OF, "ms").astype(np.int64))
START_MS = END_MS - DAYS * DAY_MS


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    if not SCRIPT.exists():
        pytest.skip(f"{SCRIPT} is not there")
    pytest.importorskip("xgboost")
    spec = importlib.util.spec_from_file_location("recipe_ref", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=[world for world in ("attention", "dirty") if world in WORLDS])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp(request.param)
    simulate(out, request.param, 1500, DAYS, 3, Silent())
    return out


def order_of(user_S: Any, utc_S: Any, campaign_S: Any) -> Any:
    return np.lexsort((campaign_S, utc_S, user_S))


def sums_of(recipe: ModuleType, h: Any, origin: int, rho_C: tuple[Any, Any], g: Any) -> dict[str, Any]:
    """Counts as recipe_ref.features makes them."""
    u, t, observed, users = h.user_S, h.local_S, origin * 24.0 - h.utc_S, h.users.height
    latency = np.where(h.latency_S < observed, h.latency_S, np.inf)
    rho2_S, rho24_S = (rho[h.campaign_S] for rho in rho_C)
    opens, exposure = recipe.attention_counts(h, u, t, latency, observed, rho24_S, g, users)
    cell, full = u * 24 + np.floor(t).astype(int) % 24, observed >= 2
    weights = {
        "sends2_U24": np.where(full, rho2_S, 0),
        "opens2_U24": (latency < 2) & full,
        "sends24_U24": rho24_S,
        "opens24_U24": latency < 24,
        "seen_U24": full,
    }
    slots = {k: np.bincount(cell, w, users * 24).reshape(users, 24).astype(np.float32) for k, w in weights.items()}
    hour_O = np.floor(h.local_O).astype(int) % 24
    acts = np.bincount(h.user_O * 24 + hour_O, minlength=users * 24).reshape(users, 24)
    return {"opens_U48": opens, "exposure_U48": exposure, "acts_U24": acts, **slots}


@pytest.mark.slow
@pytest.mark.parametrize("origin", [30, 90])
def test_the_walks_are_the_recipe(recipe: ModuleType, folder: Path, origin: int) -> None:
    events, zones, users = read_journal(folder)
    origin_ms = START_MS + origin * DAY_MS
    ours = clean(events, zones, START_MS, origin_ms)
    h = recipe.clean(recipe.load(folder, AS_OF), origin)
    compare_cleaned(ours, h)
    campaigns = int(events.campaign_N.max()) + 1
    # by the recipe's campaign codes, which are ranks among the campaigns sent
    sent_C = np.unique(ours.campaign_S)
    rng, g = np.random.default_rng(0), np.exp(-np.arange(24) / 8.0)
    rho_C = tuple(rng.uniform(0.5, 2, campaigns) for _ in range(2))
    kernel = count_walk.unopened_kernel(g)
    counts = count_walk.count(ours, len(users), *rho_C, g, kernel, origin_ms)
    expected = sums_of(recipe, h, origin, (rho_C[0][sent_C], rho_C[1][sent_C]), g)
    for name, theirs in expected.items():
        mine = getattr(counts, name)
        if name == "exposure_U48":
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(mine, theirs.astype(np.float32), err_msg=name)


def compare_cleaned(ours: Cleaned, h: Any) -> None:
    np.testing.assert_array_equal(ours.machine_U, h.machine_U)
    np.testing.assert_array_equal(ours.invalid_U, h.invalid_U)
    np.testing.assert_array_equal(ours.shift_U, h.offset_U - h.users["tz_offset"].to_numpy())
    utc_S = np.rint(h.utc_S * HOUR_MS).astype(np.int64) + START_MS
    mine = order_of(ours.user_S, ours.utc_S, ours.campaign_S)
    theirs = order_of(h.user_S, utc_S, h.campaign_S)
    np.testing.assert_array_equal(ours.user_S[mine], h.user_S[theirs])
    np.testing.assert_array_equal(ours.utc_S[mine], utc_S[theirs])
    np.testing.assert_array_equal(ours.type_S[mine], h.type_S[theirs])
    local_S = np.rint(h.local_S * HOUR_MS).astype(np.int64) + START_MS
    np.testing.assert_array_equal(ours.local_S[mine], local_S[theirs])
    latency_S = np.where(np.isinf(h.latency_S), NO_LATENCY, np.rint(h.latency_S * HOUR_MS))
    np.testing.assert_array_equal(ours.latency_S[mine], latency_S[theirs])
    assert len(ours.utc_A) == len(h.utc_O)
    assert ours.mobile_A.sum() == h.mobile_O.sum()
