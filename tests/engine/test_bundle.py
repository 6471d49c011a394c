"""A bundle that cannot be changed unnoticed, nor used for what it was not trained for."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histories import known
from sto_engine.config import Config, load_config
from sto_engine.errors import BadData, CannotCreate, ConfigError, InputMissing
from sto_engine.files import canonical_json
from sto_engine.history.bucket import Bucket
from sto_engine.ingest.store import Store
from sto_engine.models import bundle as bundles
from sto_engine.models.boosted import Boosted, check_features
from sto_engine.models.bundle import BUNDLE_VERSION, Bundle, load_bundle, read_tensors, save_bundle, tensor_bytes
from sto_engine.models.features import CROSS, FEATURES, USER_FEATURES, build_features, know
from sto_engine.models.forest import Batch, Recipe, fit_forest, forest_bytes
from sto_engine.models.priors import Priors, from_tensors
from sto_engine.models.registry import make_policy
from sto_engine.slots import grid_of
from sto_engine.zones import tzdata_version

DAY = date(2026, 4, 20)


@pytest.fixture(scope="module")
def loaded(bundle: Path) -> Bundle:
    return load_bundle(bundle)


@pytest.fixture(scope="module")
def bucket(store: Path) -> Bucket:
    return known(Store.open(store), at=datetime(2026, 4, 20, tzinfo=UTC), everyone=True)


def rewritten(bundle: Path, to: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The bundle with another `bundle.json`, signed as if it had been written so."""
    meta = {k: v for k, v in json.loads((bundle / "bundle.json").read_text()).items() if k != "sha256"}
    change(meta)
    meta["sha256"] = hashlib.sha256(canonical_json(meta)).hexdigest()
    to.mkdir()
    for file in bundle.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    (to / "bundle.json").write_bytes(canonical_json(meta))
    return to


@pytest.mark.parametrize("name", ["forest.ubj", "priors.safetensors", "card.json", "bundle.json"])
def test_a_flipped_bit_anywhere_in_a_bundle_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    size = (bundle / name).stat().st_size
    for at in sorted({0, size // 10, size // 3, size // 2, size * 9 // 10, size - 1}):
        copy = tmp_path / str(at)
        copy.mkdir()
        for file in bundle.iterdir():
            data = bytearray(file.read_bytes())
            if file.name == name:
                data[at] ^= 1
            (copy / file.name).write_bytes(data)
        with pytest.raises(BadData):
            load_bundle(copy)


@pytest.mark.parametrize("name", ["forest.ubj", "priors.safetensors", "card.json"])
def test_a_bundle_that_lacks_a_file_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    copy = rewritten(bundle, tmp_path / "copy", lambda meta: None)
    (copy / name).unlink()
    with pytest.raises(BadData, match=name):
        load_bundle(copy)


def test_bundles_of_another_kind_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="sto-engine train"):
        load_bundle(tmp_path / "absent")
    (tmp_path / "bundle.json").write_bytes(b"\x80\x04\x95")
    with pytest.raises(BadData, match="no JSON"):
        load_bundle(tmp_path)
    for version in (1, BUNDLE_VERSION + 1, None):
        other = rewritten(bundle, tmp_path / f"v{version}", lambda meta, v=version: meta.update(bundle_version=v))
        with pytest.raises(BadData, match=f"found {version}"):
            load_bundle(other)
    for body in (b"[]", b"7", b"null"):
        (tmp_path / "bundle.json").write_bytes(body)
        with pytest.raises(BadData, match="version"):
            load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda names: names[:-1], r"missing \['sends_near'\], extra \[\]"),
        (lambda names: [*names, "shoe_size"], r"missing \[\], extra \['shoe_size'\]"),
        (lambda names: [names[1], names[0], *names[2:]], "another order"),
        (lambda names: [], "missing"),
    ],
    ids=["missing", "extra", "reordered", "none"],
)
def test_a_bundle_of_other_features_is_refused(bundle: Path, tmp_path: Path, change: Any, text: str) -> None:
    other = load_bundle(rewritten(bundle, tmp_path / "b", lambda meta: meta.update(features=change(meta["features"]))))
    with pytest.raises(BadData, match=text):
        Boosted(grid_of(24), Config().model, other)
    with pytest.raises(BadData, match="train it again"):
        check_features(other, FEATURES)


def test_the_features_of_a_bundle_are_a_contract_in_order(loaded: Bundle) -> None:
    assert loaded.features == list(FEATURES) == [*USER_FEATURES, *CROSS]
    assert len(set(FEATURES)) == len(FEATURES)


@pytest.mark.parametrize("name", sorted(Priors.__dataclass_fields__))
def test_a_table_that_is_missing_misshapen_or_not_finite_is_refused(loaded: Bundle, name: str) -> None:
    tensors = {k: np.array(v) for k, v in loaded.tensors.items()}
    with pytest.raises(BadData, match=f"table {name}"):
        from_tensors({k: v for k, v in tensors.items() if k != name}, "here")
    if tensors[name].dtype.kind == "f":
        broken = tensors[name].copy()
        broken.flat[-1] = np.nan
        with pytest.raises(BadData, match=f"{name} must be finite"):
            from_tensors({**tensors, name: broken}, "here")
    if tensors[name].ndim == 2 or name in ("rate2_G", "rate24_G"):
        with pytest.raises(BadData, match="must have shape"):
            from_tensors({**tensors, name: tensors[name][:-1]}, "here")


@pytest.mark.parametrize("broken", [None, np.zeros(4), np.array([0.0, 1, 1, 1, np.inf])])
def test_base_weights_that_are_none_are_refused(loaded: Bundle, bucket: Bucket, broken: Any) -> None:
    tensors = {**loaded.tensors, "base_weight_5": broken}
    if broken is None:
        del tensors["base_weight_5"]
    policy = Boosted(grid_of(24), Config().model, replace(loaded, tensors=tensors))
    with pytest.raises(BadData, match="base_weight_5"):
        policy.utilities(bucket, policy.reduce([policy.sums(bucket, 1)]), DAY)


def test_a_forest_that_is_not_whole_is_refused(loaded: Bundle, bucket: Bucket) -> None:
    for forest in (b"", b"{}", loaded.forest[: len(loaded.forest) // 2]):
        policy = Boosted(grid_of(24), Config().model, replace(loaded, forest=forest))
        with pytest.raises(BadData, match="no usable forest"):
            policy.utilities(bucket, policy.reduce([policy.sums(bucket, 1)]), DAY)


def test_the_question_of_a_bundle_is_not_answered_by_another(bundle: Path, loaded: Bundle) -> None:
    assert loaded.meta["label"] == "open_2h"
    for keys, text in ((["model.label=click"], "model.label"), (["model.preset=seed_boosted"], "model.preset")):
        with pytest.raises(ConfigError, match=text):
            make_policy(load_config(None, keys), loaded)
    assert make_policy(load_config(None, ["model.label=open_2h"]), loaded).name == "boosted"
    assert make_policy(load_config(), loaded).bundle_id == loaded.bundle_id
    with pytest.raises(ConfigError, match="needs a trained bundle"):
        make_policy(load_config(None, ["model.policy=boosted"]), None)


def test_attention_takes_the_priors_of_a_bundle(loaded: Bundle, bucket: Bucket) -> None:
    policy = make_policy(load_config(None, ["model.policy=attention"]), loaded)
    priors = policy.reduce([policy.sums(bucket, 1)])
    assert set(priors) == {"campaign_key_G", "rate2_G", "rate24_G"}
    assert np.isfinite(policy.utilities(bucket, priors, DAY).utility_US).all()


@pytest.mark.parametrize("day", [DAY, date(2026, 4, 24), date(2026, 4, 26)])
def test_a_bundle_scores_as_it_was_trained(loaded: Bundle, bucket: Bucket, day: date) -> None:
    """Every (user, slot) as a row of its own through XGBoost, base margin beside it."""
    xgboost = pytest.importorskip("xgboost")
    policy = Boosted(grid_of(24), Config().model, loaded)
    tonight = policy.reduce([policy.sums(bucket, 1)])
    found = policy.utilities(bucket, tonight, day)
    priors = loaded.priors.with_campaigns(tonight["campaign_key_G"], tonight["rate2_G"], tonight["rate24_G"])
    features = build_features(know(bucket, priors), day.weekday())
    users = len(bucket.users)
    rows = np.stack([np.repeat(row, 24) for row in features.user_FU] + [x.T.reshape(-1) for x in features.cross_XSU])
    base = loaded.tensors["base_weight_5"] @ np.stack([np.ones(users * 24), rows[0], rows[1], rows[16], rows[18]])
    booster = xgboost.Booster(model_file=bytearray(loaded.forest))
    matrix = xgboost.DMatrix(rows.T, base_margin=base.astype(np.float32), feature_names=list(FEATURES))
    truth_US = booster.predict(matrix, output_margin=True).reshape(users, 24)
    np.testing.assert_allclose(found.utility_US, truth_US, atol=5e-5)
    assert found.p_open_US is not None
    np.testing.assert_allclose(found.p_open_US, 1 / (1 + np.exp(-truth_US)), atol=2e-5)


def test_calibration_moves_chances_and_no_slot(loaded: Bundle, bucket: Bucket) -> None:
    curve = {"calibration_x": np.array([0.0, 0.05, 0.2, 1.0]), "calibration_y": np.array([0.01, 0.02, 0.02, 0.6])}
    plain, bent = (
        Boosted(grid_of(24), Config().model, replace(loaded, tensors={**loaded.tensors, **more}))
        for more in ({}, curve)
    )
    tonight = plain.reduce([plain.sums(bucket, 1)])
    before, after = (policy.utilities(bucket, tonight, DAY) for policy in (plain, bent))
    np.testing.assert_array_equal(before.utility_US, after.utility_US)
    assert before.p_open_US is not None
    assert after.p_open_US is not None
    assert not np.array_equal(before.p_open_US, after.p_open_US)
    order = np.argsort(before.p_open_US, axis=None)
    assert (np.diff(after.p_open_US.reshape(-1)[order]) >= 0).all()


def test_tensors_come_back_as_they_went_and_in_the_same_bytes() -> None:
    tensors = {"b": np.arange(6.0).reshape(2, 3), "a": np.array([2**64 - 1], np.uint64), "c": np.array([True])}
    body = tensor_bytes(tensors)
    assert body == tensor_bytes(dict(reversed(tensors.items())))
    found = read_tensors(body, "here")
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    for broken in (b"", body[:-1], b"x" * 40):
        with pytest.raises(BadData, match="safetensors"):
            read_tensors(broken, "here")


def test_a_folder_of_other_files_is_not_overwritten(bundle: Path, loaded: Bundle, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(CannotCreate, match="other files"):
        save_bundle(tmp_path, {}, loaded.forest, {}, {})
    assert [file.name for file in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_bundle_that_cannot_be_written_leaves_the_former_one(
    bundle: Path, loaded: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = rewritten(bundle, tmp_path / "copy", lambda meta: None)
    before = {file.name: file.read_bytes() for file in copy.iterdir()}

    def full(path: Path, body: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundles, "write_atomic", full)
    with pytest.raises(Exception, match="No space"):
        save_bundle(copy, {}, loaded.forest, {}, {})
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_what_a_bundle_says_of_itself(loaded: Bundle) -> None:
    assert set(loaded.meta) == {
        *("engine", "policy", "preset", "as_of", "grid", "label", "features", "seed", "store", "tzdata"),
        *("bundle_version", "files", "sha256"),
    }
    assert loaded.meta["tzdata"] == tzdata_version()
    keys = {"as_of", "label", "first_send", "last_send", "rows", "base_rate", "train", "objections"}
    assert keys | {"holdout", "rivals", "base_weights", "gain", "monotone_violations"} <= set(loaded.card)
    assert set(loaded.card["holdout"]) == {
        *("days", "rows", "auc", "auc_error", "logloss", "ece", "mean_p", "base_rate"),
    }
    assert set(loaded.card["rivals"]) == {"attention", "histogram", "seed_histogram"}
    assert sum(loaded.card["gain"].values()) == pytest.approx(1, abs=1e-4)
    assert loaded.card["monotone_violations"] == 0
    assert loaded.card["objections"] == []


def test_a_forest_without_trees_that_split_still_scores(loaded: Bundle, bucket: Bucket) -> None:
    rng = np.random.default_rng(0)
    rows, label = rng.random((50, len(FEATURES)), np.float32), (rng.random(50) < 0.5).astype(np.float32)
    batch = Batch(rows, label, base_N=np.zeros(50, np.float32))
    forest = forest_bytes(fit_forest([lambda: batch], Recipe(FEATURES, Config().train, 0)))
    policy = Boosted(grid_of(24), Config().model, replace(loaded, forest=forest))
    found = policy.utilities(bucket, policy.reduce([policy.sums(bucket, 1)]), DAY)
    assert np.isfinite(found.utility_US).all()
