"""Training by work that travels: the same bundle, the same rows, and nothing left beside it."""

from dataclasses import fields
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from executors import Travelling
from groups import Processes
from sto_engine.config import Config, load_config
from sto_engine.errors import BadData, CannotCreate
from sto_engine.executor import Executor, Threads
from sto_engine.files import folder_lock
from sto_engine.ingest.store import Store
from sto_engine.models.bundle import load_bundle
from sto_engine.progress import Silent
from sto_engine.train.draw import Tally, below_edge, count_bins, edge_of, in_bin, up_to
from sto_engine.train.moments import bucket_moments, span_of
from sto_engine.train.row_files import RowSet, write_rows
from sto_engine.train.rows import Rows, bucket_rows
from sto_engine.train.scratch import work_folder
from sto_engine.train_job import TrainReport, train

SMALL = ("train.trees=20", "train.depth=3", "train.min_rows=200")


def trained(store: Path, bundle: Path, executor: Executor | None, *keys: str, force: bool = False) -> TrainReport:
    config = load_config(None, [*SMALL, *keys])
    return train(store, bundle, None, config, 1, 0, None, Silent(), force, executor)


def test_a_group_of_one_makes_the_local_bundle_byte_for_byte(store: Path, bundle: Path, tmp_path: Path) -> None:
    keys = ("cluster.external_memory=true", "cluster.on_lost_worker=checkpoint", "cluster.checkpoint_trees=8")
    report = trained(store, tmp_path / "b", Travelling(group=Processes()), *keys)
    assert report.trained_by == {"workers": 1, "device": "cpu", "external_memory": True}
    assert report.bundle_id == load_bundle(bundle).bundle_id
    for file in bundle.iterdir():
        assert (tmp_path / "b" / file.name).read_bytes() == file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_bundle_of_several_machines_says_so(store: Path, bundle: Path, tmp_path: Path) -> None:
    executor = Threads(2, group=Processes(2))
    trained(store, tmp_path / "b", executor, "cluster.train_cpus=1", force=True)
    card, local = load_bundle(tmp_path / "b").card, load_bundle(bundle).card
    assert card["trained_by"] == {"workers": 2, "device": "cpu", "external_memory": False}
    assert card["holdout"]["auc"] == pytest.approx(local["holdout"]["auc"], abs=0.02)
    assert "trained_by" not in local


def test_the_plain_recipe_travels_too(store: Path, tmp_path: Path) -> None:
    keys = ("model.preset=seed_boosted", "train.trees=5", "train.max_rows=3000")
    first, second = (
        trained(store, tmp_path / name, executor, *keys) for name, executor in (("a", None), ("b", Travelling()))
    )
    assert first == second
    assert 2990 <= first.rows <= 3000


@pytest.mark.parametrize("last_bin", [3_000, 30_000])
def test_rows_up_to_a_bin_are_those_rows_of_all(
    last_bin: int, store: Path, bundle: Path, small_config: Config, tmp_path: Path
) -> None:
    span = span_of(date(2026, 4, 20), small_config)
    seen, priors = bucket_moments(Store.open(store), 0, span, small_config), load_bundle(bundle).priors
    every, some = (
        bucket_rows(seen, span, priors, (load_bundle(bundle), priors), small_config, last) for last in (None, last_bin)
    )
    kept_N = up_to(every.order_N, last_bin)
    assert 0 < len(some) < len(every)
    for field in fields(Rows):
        np.testing.assert_array_equal(getattr(some, field.name), getattr(every, field.name)[kept_N])
    names = [field.name for field in fields(Rows)]
    ((_, back),) = RowSet(tmp_path, (write_rows(tmp_path, 0, some),)).all_blocks(names)
    for field in fields(Rows):
        assert back[field.name].dtype == getattr(some, field.name).dtype
        np.testing.assert_array_equal(back[field.name], getattr(some, field.name))


@pytest.mark.parametrize("buckets", [1, 7])
@pytest.mark.parametrize("limit", [1, 999, 1_000, 1_001, 5_000])
def test_what_is_drawn_are_the_rows_of_the_lowest_hashes(limit: int, buckets: int) -> None:
    """Many rows in one bin, and rows of one hash, which are drawn together or not at all."""
    rng = np.random.default_rng(0)
    order = rng.integers(0, 2**64, 2_000, np.uint64) >> np.uint64(8)
    order[:60] = np.repeat(np.sort(order)[990:1_002:2], 10)
    parts, tally = np.array_split(rng.permutation(order), buckets), Tally()
    for part in parts:
        tally.add(count_bins(part))
    last_bin = tally.last_bin(limit)
    kept = [part[up_to(part, last_bin)] for part in parts]
    last = [in_bin(part, last_bin) for part in kept]
    edge = None
    if last_bin is not None:
        edge = edge_of(last, sum(len(part) - len(own) for part, own in zip(kept, last, strict=True)), limit)
    found = np.sort(np.concatenate([part[below_edge(part, edge)] for part in kept]))
    ordered = np.sort(order)
    np.testing.assert_array_equal(found, ordered if limit >= 2_000 else ordered[ordered < ordered[limit]])
    assert limit - 10 <= len(found) <= limit or limit > 2_000


def test_what_a_killed_training_left_goes_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    dead, living, young, other = (
        tmp_path / f".{name}" for name in ("b.training-1", "b.training-2", "b.training-3", "bb")
    )
    for folder in (dead, living, young, other):
        folder.mkdir()
        (folder / "LOCK").write_text("" if folder == young else "pid 1 on somewhere")
    with folder_lock(living, "training"), work_folder(tmp_path / "b") as own:
        assert own.parent == tmp_path
        assert {path.name for path in tmp_path.iterdir()} == {living.name, young.name, other.name, own.name}
    assert not own.exists()
    with pytest.raises(CannotCreate, match="check --bundle"), work_folder(other / "LOCK" / "b"):
        pass


def test_a_training_that_is_refused_leaves_nothing(store: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"must give 1000000 training rows"):
        trained(store, tmp_path / "b", Travelling(), "train.min_rows=1000000")
    assert list(tmp_path.iterdir()) == []


def test_sums_that_another_machine_cannot_see_are_told(store: Path, tmp_path: Path) -> None:
    class Apart(Threads):
        """Its workers have a disk of their own."""

        def run(self, *arguments, **named):  # type: ignore[no-untyped-def]
            for bucket, result in super().run(*arguments, **named):
                for file in tmp_path.glob(".b.training-*/*.safetensors"):
                    file.unlink()
                yield bucket, result

    with pytest.raises(BadData, match="in a folder that all machines see"):
        trained(store, tmp_path / "b", Apart(1))
