"""Labels, and when a bundle may stand: what is refused, kept, forced and repeated."""

import subprocess
import sys
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histories import DAY, ORIGIN, Row, before, mail, opens, people, store_of
from sto_engine.config import Config, load_config
from sto_engine.errors import BadData, ConfigError
from sto_engine.ingest.store import Store
from sto_engine.models.bundle import load_bundle
from sto_engine.progress import Silent
from sto_engine.train import fit as fit_module
from sto_engine.train.fit import isotonic
from sto_engine.train.moments import bucket_moments, span_of
from sto_engine.train.quality import calibration_error
from sto_engine.train.rows import RIVALS, labelled_sends
from sto_engine.train_job import TrainReport, train

HOURS = (8, 13, 19)
SMALL = ("train.trees=20", "train.min_child_weight=20")


def fit(store: Path, bundle: Path, *keys: str, as_of: date = DAY, **more: Any) -> TrainReport:
    options = {"threads": 1, "seed": 0, "if_older_than_days": None, "progress": Silent(), **more}
    return train(store, bundle, as_of, load_config(None, list(keys)), **options)


def labels(store: Store, *keys: str) -> dict[int, list[float]]:
    """Labels of each user's rows in the order of their sends."""
    config = load_config(None, list(keys))
    span = span_of(DAY, config)
    seen = bucket_moments(store, 0, span, config)
    found = labelled_sends(seen, span, config)
    ids, order = seen.now.users["user_id"].to_list(), np.lexsort((found.time_N, found.user_N))
    out: dict[int, list[float]] = {}
    for row in order:
        out.setdefault(ids[found.user_N[row]], []).append(float(found.label_N[row]))
    return out


def test_labels_are_acts_within_the_window_of_the_last_send_before_them(tmp_path: Path) -> None:
    def row(user: int, kind: str, hour: float) -> Row:
        return Row(user, kind, before(12, 8 + hour), 5)

    rows = [row(1, "send", h) for h in (0, 24, 48, 49, 96)]
    rows += [row(1, "open", h) for h in (1.99, 26.01, 49.5, 96 + 23.9)]
    rows += [
        row(2, kind, h) for kind, h in (("send", 0), ("click", 23), ("send", 48), ("open", 49), ("click", 48 + 24.1))
    ]
    rows += [row(3, kind, h) for kind, h in (("send", 0), ("conversion", 23.9), ("send", 48), ("conversion", 73))]
    store = store_of(rows, tmp_path)
    assert labels(store) == {1: [1, 0, 0, 1, 0], 2: [0, 1], 3: [0, 0]}
    assert labels(store, "model.label=open_24h") == {1: [1, 1, 0, 1, 1], 2: [1, 1], 3: [0, 0]}
    assert labels(store, "model.label=click") == {1: [0] * 5, 2: [1, 0], 3: [0, 0]}
    assert labels(store, "model.label=conversion") == {1: [0] * 5, 2: [0, 0], 3: [1, 0]}


def test_the_clock_of_a_label_starts_at_the_delivery(tmp_path: Path) -> None:
    rows = [Row(1, "send", before(9, 8), 5), Row(1, "delivered", before(9, 9), 5), Row(1, "open", before(9, 10.5), 5)]
    assert labels(store_of(rows, tmp_path)) == {1: [1]}


def test_sends_too_young_too_old_or_of_machines_are_no_rows(tmp_path: Path) -> None:
    ages_h = {1: 7.9, 2: 8.1, 3: 60 * 24 + 0.1, 4: 60 * 24 - 0.1}
    rows = [row for user, age in ages_h.items() for row in mail(user, ORIGIN - timedelta(hours=age), 0.5)]
    rows += [row for day in range(2, 30) for row in mail(5, before(day, 8), 0.01)]
    rows += [row for day in range(2, 30) for row in mail(6, before(day, 8))]  # a dead address
    refuses = [row for day in range(2, 30) for row in mail(7, before(day, 8), 0.5)]
    store = store_of(rows + refuses, tmp_path, people(range(1, 8), consent_profiling=[None] * 6 + [False]))
    assert labels(store) == {2: [1], 4: [1]}
    assert labels(store, "model.label=open_24h") == {4: [1]}
    assert labels(store, "train.outcome_lag_hours=0", "train.label_days=30") == {1: [1], 2: [1]}


def test_histories_that_cannot_be_trained_are_refused(tmp_path: Path) -> None:
    activity = store_of(opens(1, 9, 20), tmp_path / "activity").path
    with pytest.raises(BadData, match=r'no sends to learn from; .*model\.policy = "attention"'):
        fit(activity, tmp_path / "b")
    few = store_of([Row(1, "send", before(d), d) for d in range(1, 10)], tmp_path / "few").path
    with pytest.raises(BadData, match="14 days of sends"):
        fit(few, tmp_path / "b")
    with pytest.raises(BadData, match=r"1000 training rows; found 9 sends"):
        fit(few, tmp_path / "b", "train.min_label_days=1")
    with pytest.raises(BadData, match="both must occur"):
        fit(few, tmp_path / "b", "train.min_label_days=1", "train.min_rows=5")
    with pytest.raises(BadData, match=r"no sends|days of sends"):
        fit(few, tmp_path / "b", as_of=date(2020, 1, 1))
    for keys in (["model.policy=histogram"], ["model.preset=seed_histogram"]):
        with pytest.raises(ConfigError, match="needs no training"):
            fit(few, tmp_path / "b", *keys)
    assert not (tmp_path / "b").exists()


def clocks(seed: int, turned_before: float = 0, turned_until: float = 0, users: int = 150) -> Iterable[Row]:
    """Users who look at HOURS[u % 3]; in the days between, mails are opened half a day off that."""
    rng = np.random.default_rng(seed)
    for user in range(users):
        for day in range(2, 91, 2):
            sent, look = int(rng.integers(0, 24)), HOURS[user % 3] + rng.uniform(0.1, 0.9)
            look += 12 if turned_until < day <= turned_before else 0
            yield from mail(user, before(day, sent), (look - sent) % 24 if rng.random() < 0.7 else None)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_of(clocks(0), tmp_path_factory.mktemp("honest"), buckets=4).path


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is learnt from in this store is wrong for its last days: days 60 to 16 before the end are turned."""
    return store_of(clocks(1, 60, 15), tmp_path_factory.mktemp("turned")).path


class Told(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, event: str, **fields: object) -> None:
        self.warnings.append(f"{event} {fields}")


def test_a_bundle_worse_than_the_histogram_on_later_data_is_refused_unless_forced(
    turned: Path, honest: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadData, match=r"not saved: on \d+ later rows its AUC is .* that of histogram .*--force"):
        fit(turned, tmp_path / "b", *SMALL)
    assert not (tmp_path / "b").exists()
    told = Told()
    fit(turned, tmp_path / "b", *SMALL, force=True, progress=told)
    assert "histogram" in load_bundle(tmp_path / "b").card["objections"][0]
    assert any("forced" in warning for warning in told.warnings)
    assert load_bundle_of(honest, tmp_path / "good").card["objections"] == []


def load_bundle_of(store: Path, path: Path, as_of: date = DAY) -> Any:
    fit(store, path, *SMALL, as_of=as_of)
    return load_bundle(path)


def test_a_bundle_worse_than_its_predecessor_on_what_came_after_it_is_refused(
    turned: Path, honest: Path, tmp_path: Path
) -> None:
    former = load_bundle_of(honest, tmp_path / "b", as_of=DAY - timedelta(days=14))
    with pytest.raises(BadData, match="that of previous"):
        fit(turned, tmp_path / "b", *SMALL)
    assert load_bundle(tmp_path / "b").bundle_id == former.bundle_id
    report = fit(honest, tmp_path / "b", *SMALL)
    assert set(report.rivals) == set(RIVALS)
    assert load_bundle(tmp_path / "b").bundle_id == report.bundle_id != former.bundle_id


def test_a_predecessor_of_another_label_or_that_is_damaged_is_no_rival(honest: Path, tmp_path: Path) -> None:
    fit(honest, tmp_path / "b", *SMALL, "model.label=open_24h", as_of=DAY - timedelta(days=14))
    assert "previous" not in fit(honest, tmp_path / "b", *SMALL).rivals
    (tmp_path / "b" / "forest.ubj").write_bytes(b"x")
    assert "previous" not in fit(honest, tmp_path / "b", *SMALL).rivals


def test_a_young_bundle_is_kept(honest: Path, tmp_path: Path) -> None:
    path, day = tmp_path / "b", DAY
    first = fit(honest, path, *SMALL, as_of=day - timedelta(days=8))
    kept = fit(honest, path, *SMALL, as_of=day - timedelta(days=1), if_older_than_days=7, seed=5)
    assert (kept.skipped, kept.bundle_id) == (True, first.bundle_id)
    fresh = fit(honest, path, *SMALL, as_of=day, if_older_than_days=7, seed=5)
    assert not fresh.skipped
    older = fit(honest, path, *SMALL, as_of=day - timedelta(days=3), if_older_than_days=7)
    assert not older.skipped  # a bundle of the future has not seen what it is asked about, but has seen too much


def test_a_young_bundle_for_another_question_is_not_kept(honest: Path, tmp_path: Path) -> None:
    path = tmp_path / "b"
    fit(honest, path, *SMALL)
    assert not fit(honest, path, *SMALL, "model.label=open_24h", if_older_than_days=7).skipped
    seeded = fit(honest, path, "model.preset=seed_boosted", "train.trees=5", if_older_than_days=7)
    assert not seeded.skipped
    assert fit(honest, path, "model.preset=seed_boosted", "train.trees=9", if_older_than_days=7).skipped
    assert not fit(honest, path, *SMALL, if_older_than_days=7).skipped


def test_calibration_on_the_last_days_mends_the_chances_there(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def spied(p: np.ndarray, label: np.ndarray) -> Any:
        seen.append((p, label))
        return isotonic(p, label)

    monkeypatch.setattr(fit_module, "isotonic", spied)
    fit(honest, tmp_path / "b", *SMALL, "train.calibrate=isotonic")
    bundle, ((p, label),) = load_bundle(tmp_path / "b"), seen
    x, y = bundle.tensors["calibration_x"], bundle.tensors["calibration_y"]
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) >= 0).all()
    assert ((y > 0) & (y < 1)).all()
    assert bundle.card["holdout"]["ece"] == pytest.approx(calibration_error(p, label), abs=1e-6)
    assert calibration_error(np.interp(p, x, y), label) < 0.5 * calibration_error(p, label)
    fit(honest, tmp_path / "plain", *SMALL)
    plain = load_bundle(tmp_path / "plain")
    assert plain.forest == bundle.forest
    assert "calibration_x" not in plain.tensors


@pytest.mark.parametrize("label", ["open_24h", "click", "conversion"])
def test_other_labels_train_and_say_so(label: str, tmp_path: Path) -> None:
    kind = {"open_24h": "open", "click": "click", "conversion": "conversion"}[label]
    rows = [Row(r.user, kind if r.kind == "open" else r.kind, r.at, r.campaign) for r in clocks(2, users=60)]
    store = store_of(rows, tmp_path).path
    report = fit(store, tmp_path / "b", *SMALL, f"model.label={label}", force=True)
    assert load_bundle(tmp_path / "b").meta["label"] == label
    assert report.base_rate == pytest.approx(0.7, abs=0.05)


def test_the_plain_recipe_of_the_field_trains_a_bundle_of_its_own(honest: Path, tmp_path: Path) -> None:
    fit(honest, tmp_path / "b", "model.preset=seed_boosted", "train.trees=5")
    bundle = load_bundle(tmp_path / "b")
    assert bundle.preset == "seed_boosted"
    assert bundle.features[-5:] == ["hour", "hour_sin", "hour_cos", "weekday", "weekend"]


def test_training_again_gives_the_same_bytes(store: Path, bundle: Path, small_config: Config, tmp_path: Path) -> None:
    train(store, tmp_path / "b", None, small_config, threads=1, seed=0, if_older_than_days=None, progress=Silent())
    for file in bundle.iterdir():
        assert (tmp_path / "b" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_threads_of_the_libraries_do_not_change_a_byte(
    threads: str, store: Path, bundle: Path, tmp_path: Path
) -> None:
    keys = [f"--set={key}" for key in ("train.trees=20", "train.depth=3", "train.min_rows=200")]
    command = [sys.executable, "-m", "sto_engine.cli", "train", "--store", str(store), "--bundle", str(tmp_path / "b")]
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), **dict.fromkeys(names, threads)}
    subprocess.run([*command, *keys, "--threads", threads], env=env, check=True, capture_output=True)
    for file in bundle.iterdir():
        assert (tmp_path / "b" / file.name).read_bytes() == file.read_bytes()


def test_fewer_rows_by_max_rows_are_the_same_for_any_number_of_threads(honest: Path, tmp_path: Path) -> None:
    for threads in (1, 2):
        report = fit(honest, tmp_path / str(threads), *SMALL, "train.max_rows=1100", threads=threads)
        assert report.rows == 1100
    one, two = (load_bundle(tmp_path / name) for name in ("1", "2"))
    assert one.bundle_id == two.bundle_id
