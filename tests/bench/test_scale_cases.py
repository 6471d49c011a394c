"""The cases of the benchmark of scale with commands and bucket work that are fakes: gates, figures, stubs."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sto_bench.contest import GateFailed
from sto_engine.output import manifest as runs
from sto_engine.progress import Silent
from sto_pipeline.contest import contest
from sto_pipeline.made import Work
from sto_pipeline.processes import ChildFailed, Ended
from sto_scale import commands, cost, driver, pair, senders, stub, suite
from sto_scale.cases import CASES
from sto_scale.commands import Ran
from sto_scale.records import make_lines

TINY = CASES["cost_u3k"]
PAIR = CASES["pair_score_u3k"]


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work.at(tmp_path / "work", Silent(), 2)


def test_copies_have_the_same_events_under_other_ids(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def world(self: Work, users: int, campaigns_per_day: str) -> Path:
        folder = self.root / "world"
        (folder / "events").mkdir(parents=True)
        ids = pa.array(np.random.default_rng(0).integers(0, 2**64, users, np.uint64))
        pq.write_table(pa.table({"user_id": ids, "n": pa.array(range(users))}), folder / "events" / "part-0.parquet")
        pq.write_table(pa.table({"user_id": ids}), folder / "recipients.parquet")
        return folder

    monkeypatch.setattr(Work, "world", world)
    found = senders.sender(TINY, work)
    assert senders.rows(found) == TINY.users
    events = pq.read_table(found / "events")
    people = pq.read_table(found / "recipients.parquet")["user_id"].to_numpy()
    assert len(np.unique(people)) == TINY.users
    assert set(people.tolist()) == set(events["user_id"].to_pylist())
    assert senders.sender(TINY, work) == found


LOG = "\n".join(
    [
        '{"ts": "2026-11-28T00:00:05+00:00", "event": "cluster", "start_s": 4}',
        '{"ts": "2026-11-28T00:00:06+00:00", "event": "phase_started", "phase": "choose"}',
        "what Ray prints",
        '{"ts": "2026-11-28T00:00:08+00:00", "event": "phase_ended", "phase": "choose", "seconds": 2.0}',
        '{"ts": "2026-11-28T00:00:09+00:00", "event": "phase_ended", "phase": "spread", "seconds": 1.0}',
    ]
)


def test_phases_and_work_are_read_from_the_log() -> None:
    assert commands.phases(LOG) == {"choose": 2.0, "spread": 1.0}
    assert commands.worked_s(LOG) == 3.0


def ran(result: dict[str, Any], seconds: float = 10.0) -> Ran:
    return Ran(Ended(seconds, 4.0, 500.0, "", LOG), result, commands.phases(LOG))


class Shipped:
    """The shipped commands, as if they had done their work: `rows` is what they claim or write instead."""

    def __init__(self, lab: cost.Lab, **rows: int) -> None:
        self.lab, self.rows = lab, rows

    def __call__(self, name: str, *arguments: str, watched: Path | None = None) -> Ran:
        if self.rows.get(name) == -1:
            raise ChildFailed(f"{name} ended with 65")
        if name == "ingest":
            store = Path(arguments[arguments.index("--store") + 1])
            store.mkdir(exist_ok=True)
            (store / "manifest.json").write_text("{}")
        elif name == "train":
            bundle = Path(arguments[arguments.index("--bundle") + 1])
            bundle.mkdir()
            (bundle / "bundle.json").touch()
        elif name == "score":
            run = Path(arguments[arguments.index("--out") + 1]) / "run=1"
            (run / "assignments").mkdir(parents=True)
            rows = self.rows.get("score", self.lab.case.users)
            pq.write_table(pa.table({"n": pa.array(range(rows))}), run / "assignments" / "part-0000.parquet")
            (run / "manifest.json").write_text("{}")
            seconds = 10.0 if "--cluster" in arguments else 5.0
            return ran({"run": str(run)}, seconds)
        return ran({"events": 100, "recipients": 3_000, "rows": self.rows.get(name, 100)})


@pytest.fixture
def shipped(work: Work, monkeypatch: pytest.MonkeyPatch) -> Shipped:
    files = work.root / "sender"
    (files / "events").mkdir(parents=True)
    pq.write_table(pa.table({"n": pa.array(range(100))}), files / "events" / "copy-0000.parquet")
    (files / "recipients.parquet").touch()
    fake = Shipped(cost.Lab(TINY, work))
    monkeypatch.setattr(cost, "command", fake)
    monkeypatch.setattr(cost, "sender", lambda case, work: files)
    monkeypatch.setattr(cost.Lab, "bundle", lambda self: work.root / "bundle")
    return fake


def test_a_night_is_measured_command_by_command(work: Work, shipped: Shipped) -> None:
    players = cost.players(TINY, work)
    contest([player.entrant for player in players], Silent())
    found = make_lines(TINY, players, 2)
    assert [(one.impl, one.status, one.median) for one in found] == [
        ("ingest", "ok", 10.0),
        ("compact", "ok", 10.0),
        ("train", "ok", 10.0),
        ("score", "ok", 5.0),
    ]
    assert found[0].figures.keys() == {"raw_bytes", "store_bytes", "peak_disk_bytes"}
    assert found[3].figures["shard_bytes"] <= found[3].figures["peak_disk_bytes"]
    assert found[3].stages == {"choose": 2.0, "spread": 1.0}


@pytest.mark.parametrize(
    ("claims", "statuses", "reason"),
    [
        ({"score": 2_999}, ["ok", "ok", "ok", "wrong"], "3000 rows in the shards are wanted; found 2999"),
        ({"compact": 99}, ["ok", "wrong", "ok", "ok"], "100 events are wanted; found 99"),
        ({"ingest": -1}, ["failed", "skipped", "skipped", "skipped"], "ended with 65"),
    ],
)
def test_a_command_that_loses_a_row_or_fails_has_no_figure(
    claims: dict[str, int], statuses: list[str], reason: str, work: Work, shipped: Shipped
) -> None:
    shipped.rows = claims
    players = cost.players(TINY, work)
    contest([player.entrant for player in players], Silent())
    found = make_lines(TINY, players, 2)
    assert [one.status for one in found] == statuses
    bad = next(one for one in found if one.status in ("wrong", "failed"))
    assert (bad.median, bad.figures, bad.stages) == (None, {}, {})
    assert reason in bad.reason
    assert len(suite.red_gates(found)) == 1


def test_a_pair_is_told_by_its_work_and_the_start_apart(work: Work, shipped: Shipped) -> None:
    players = pair.players(PAIR, work)
    contest([player.entrant for player in players], Silent())
    ray, threads = make_lines(PAIR, players, 2)
    assert (ray.impl, ray.median, ray.stages["start"]) == ("ray", 3.0, 7.0)
    assert (threads.median, threads.stages["start"]) == (3.0, 2.0)
    assert ray.figures["work_ratio"] == 1.0
    assert "work_ratio" not in threads.figures


def test_a_run_without_a_manifest_is_not_committed(tmp_path: Path) -> None:
    (tmp_path / "assignments").mkdir()
    pq.write_table(pa.table({"n": pa.array(range(3_000))}), tmp_path / "assignments" / "part-0000.parquet")
    with pytest.raises(GateFailed, match="must be committed"):
        cost.shards(TINY, tmp_path)


class Works:
    """Bucket work as the engine's: its record names the files that it wrote in a folder of its own."""

    def __init__(self, run: Path) -> None:
        self.run = run
        runs.begin(run)

    def stage(self, more: str, bucket: int, told: int) -> dict[str, Any]:
        with runs.attempt(self.run) as made:
            name = f"{runs.STAGING}/rows/bucket-{bucket:04d}.arrow"
            made.path(name).write_bytes(b"rows")
            made.files[name] = "0" * 64
            return made.record(told=told, more=more)

    def priors(self) -> dict[str, Any]:
        with runs.attempt(self.run) as made:
            made.path("priors").write_bytes(b"tables")
            made.files["priors"] = "1" * 64
            return made.record()


def test_a_stub_hands_out_the_records_of_one_bucket_for_all(tmp_path: Path) -> None:
    capturing, first = stub.Capturing(), Works(tmp_path / "first")
    work = partial(first.stage, "more")
    ((_, real),) = capturing.run(work, [0], lambda bucket: bucket)
    capturing.call(first.priors)
    many = Works(tmp_path / "many")
    hands, asked = stub.Stub(json.loads(json.dumps(capturing.templates))), list[int]()
    for bucket, record in hands.run(partial(many.stage, "more"), range(3), asked.append):
        assert record["attempt"] != real["attempt"]
        adopted = runs.adopt(many.run, record)
        assert adopted["files"] == {f"{runs.STAGING}/rows/bucket-{bucket:04d}.arrow": "0" * 64}
        assert (many.run / next(iter(adopted["files"]))).exists()
    assert asked == [0, 1, 2]
    assert (hands.records, hands.files) == (3, 3)
    runs.adopt(many.run, hands.call(many.priors))
    assert (many.run / "priors").read_bytes() == b"tables"


def test_a_store_is_stretched_by_its_manifest(tmp_path: Path) -> None:
    store = tmp_path / "one"
    tables = []
    for name in ("gen-000002", "recipients-000001"):
        (store / name).mkdir(parents=True)
        (store / name / "bucket-0000-0000.parquet").touch()
        tables.append({"name": name, "rows": 7, "files": [{"bucket": 0, "path": f"{name}/bucket-0000-0000.parquet"}]})
    body = {"buckets": 1, "generations": tables[:1], "recipients": tables[1]}
    (store / "manifest.json").write_text(json.dumps(body))
    stub.stretch(store, tmp_path / "many", 4, 2)
    found = json.loads((tmp_path / "many" / "manifest.json").read_text())
    assert found["buckets"] == 4
    assert [table["name"] for table in found["generations"]] == ["gen-000001", "gen-000002"]
    assert found["generations"][0]["files"][3] == {"bucket": 3, "path": "gen-000001/bucket-0003-0000.parquet"}
    assert (found["recipients"]["rows"], len(found["recipients"]["files"])) == (28, 4)
    assert (tmp_path / "many" / "gen-000001" / "bucket-0000-0000.parquet").exists()


def test_a_driver_that_loses_recipients_has_no_figure(
    work: Work, shipped: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["driver_b8"]
    found: dict[str, Any] = {
        "buckets": 8,
        "audience": 24_000,
        "seconds": 2.0,
        "stages": {"choose": 1.0},
        "figures": {"manifest_bytes": 9.0},
    }
    monkeypatch.setattr(driver, "stretch", lambda *_: None)
    monkeypatch.setattr(driver, "_child", lambda *_: Ended(3.0, 1.0, 200.0, json.dumps(found), own_mib=150.0))
    for audience, status, figures in ((24_000, "ok", {"manifest_bytes": 9.0}), (23_999, "wrong", {})):
        found["audience"] = audience
        players = driver.players(case, work)
        contest([player.entrant for player in players], Silent())
        (one,) = make_lines(case, players, 2)
        assert (one.status, one.figures) == (status, figures)
        assert one.median == (2.0 if status == "ok" else None)
