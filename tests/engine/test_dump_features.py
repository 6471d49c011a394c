"""`score --dump-features`: what it writes, against sums of the raw events and against the counting twin."""

import json
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from histories import known
from sto_engine.config import Config, load_config
from sto_engine.history.rates import look_up
from sto_engine.ingest.store import Store
from sto_engine.job import ScoreRequest, run_score
from sto_engine.models.bundle import Bundle, load_bundle
from sto_engine.models.registry import make_policy
from sto_engine.progress import Silent
from sto_engine.tables import features_schema
from sto_kernels import naive_counts
from sto_kernels.count_walk import unopened_kernel
from sto_kernels.journal import NO_TIME, Counts
from support import digest, table

DAY = date(2026, 4, 20)
ORIGIN = datetime(2026, 4, 20, tzinfo=UTC)


def dump(store: Path, out: Path, config: Config, bundle: Path | None = None, **fields: object) -> Path:
    request = ScoreRequest(store, out, bundle, DAY, dump_features=True, **fields)  # type: ignore[arg-type]
    run = run_score(request, config, Silent()).run_dir
    assert run is not None
    return run


@pytest.fixture(scope="module")
def run(store: Path, bundle: Path, small_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dump(store, tmp_path_factory.mktemp("out"), small_config, bundle)


def test_nothing_is_written_unless_asked_and_the_run_has_another_name(
    store: Path, bundle: Path, small_config: Config, run: Path, tmp_path: Path
) -> None:
    plain = run_score(ScoreRequest(store, tmp_path, bundle, DAY), small_config, Silent()).run_dir
    assert plain is not None
    assert plain.name != run.name
    assert not (plain / "features").exists()
    # the second within the spread window is drawn by the run's name
    theirs, ours = (table(folder, "assignments").drop("send_at") for folder in (plain, run))
    assert theirs.equals(ours)


def test_the_files_carry_their_types_and_stand_in_the_manifest(run: Path) -> None:
    paths = sorted(run.glob("features/*.parquet"))
    assert len(paths) == 4
    named = json.loads((run / "manifest.json").read_text())["files"]
    assert {f"features/{path.name}" for path in paths} <= set(named)
    for path in paths:
        assert pq.read_schema(path).equals(features_schema("uint64"))
    assert pq.read_schema(paths[0]).field("exposure_48").type == pa.list_(pa.float32(), 48)


def test_there_is_one_row_for_each_assignment_in_its_order(run: Path) -> None:
    assert table(run, "features")["user_id"].to_list() == table(run, "assignments")["user_id"].to_list()


@pytest.mark.parametrize("policy", ["attention", "boosted", "histogram"])
def test_the_counts_are_those_of_the_twin_under_the_weights_of_the_policy(
    policy: str, store: Path, bundle: Path, small_config: Config, tmp_path: Path
) -> None:
    config = load_config(None, [f"model.policy={policy}"])
    trained = bundle if policy == "boosted" else None
    written = table(dump(store, tmp_path, config, trained), "features")
    expected = expected_counts(Store.open(store), config, load_bundle(trained) if trained else None)
    rows = written.join(expected.select("user_id"), on="user_id").sort("user_id")
    expected = expected.join(written.select("user_id"), on="user_id").sort("user_id")
    assert len(rows) == len(expected) > 50
    for field in fields(Counts):
        name = field.name.removesuffix("_U").replace("_U", "_")
        found = rows[name].dt.epoch("ms").fill_null(NO_TIME) if name == "last_act" else rows[name]
        theirs = expected[name].to_numpy()
        np.testing.assert_allclose(found.to_numpy(), theirs, rtol=1e-5, atol=1e-6, err_msg=name)


def expected_counts(store: Store, config: Config, bundle: Bundle | None) -> pl.DataFrame:
    """Counts of the recipients of bucket 0 by the twin, with the appeal of campaigns and the decay of the policy."""
    policy = make_policy(config, bundle)
    parts = [policy.sums(known(store, b, config, at=ORIGIN), store.buckets) for b in range(store.buckets)]
    priors = policy.weighed_by(policy.reduce(parts))
    assert priors is not None
    bucket = known(store, 0, config, everyone=True, at=ORIGIN)
    rates = [look_up(bucket.campaign_key_C, priors.campaign_key_G, r) for r in (priors.rate2_G, priors.rate24_G)]
    kernel = np.stack([unopened_kernel(decay) for decay in priors.decay_T24])
    type_C = np.zeros(len(rates[0]), np.int8)
    np.maximum.at(type_C, bucket.cleaned.campaign_S, bucket.cleaned.type_S)
    counts = naive_counts.count(
        *(bucket.cleaned, len(bucket.users), *rates, priors.decay_T24, kernel, bucket.end_ms),
        type_C=type_C,
        follow_T=priors.follow_T,
    )
    columns = {f.name.removesuffix("_U").replace("_U", "_"): getattr(counts, f.name) for f in fields(Counts)}
    return pl.DataFrame({"user_id": bucket.users["user_id"], **columns}).sort("user_id")


def test_a_preset_without_weights_dumps_plain_counts(store: Path, world: Path, tmp_path: Path) -> None:
    config = load_config(None, ["model.preset=seed_thompson"])
    written = table(dump(store, tmp_path, config), "features")
    events = pl.scan_parquet(world / "events" / "*.parquet")
    recent = pl.col("event_ts").is_between(ORIGIN - timedelta(days=90), ORIGIN, closed="left")
    sends = events.filter(recent, pl.col("event_type") == "send").group_by("user_id").len("n").collect()
    people = pl.read_parquet(world / "recipients.parquet").filter(pl.col("consent_profiling").fill_null(True))
    rows = written.join(people.select("user_id"), on="user_id").join(sends, on="user_id", how="left")
    assert len(rows) > 400
    assert rows["sent"].to_list() == rows["n"].fill_null(0).to_list()
    weighed = rows["sends24_24"].arr.sum().to_list()
    assert weighed == rows["sent"].to_list()
    # a mail lies unread for a day, or less where it was opened or the day is not over
    assert (rows["exposure_48"].arr.sum() <= 24 * rows["sent"] + 1e-3).all()
    assert rows["machine"].unique().is_in(["human", "prefetch", "scanner"]).all()


def test_threads_do_not_change_a_byte(
    store: Path, bundle: Path, small_config: Config, run: Path, tmp_path: Path
) -> None:
    assert digest(dump(store, tmp_path, small_config, bundle, threads=1)) == digest(run)
