"""Stores made on a Ray cluster whose machines die in the middle of the work."""

import shutil
from pathlib import Path

import pytest

from clusters import Nodes, losing
from executors import Travelling
from sto_engine.config import load_config
from sto_engine.executor import Executor
from sto_engine.ingest import across, ingest
from sto_engine.ingest.compact import compact
from sto_engine.progress import Silent
from support import files_of

pytestmark = [pytest.mark.ray, pytest.mark.long]
DEATHS = {
    "reading": ("sto_engine.ingest.across:Reading.read", {"HOLD_CALL": "2"}),
    "reading, done but not told": ("sto_engine.ingest.across:Reading.read", {"HOLD_AFTER": "1"}),
    "reading, half a file written": ("sto_engine.ingest.segments:SegmentWriter._append", {"HOLD_AFTER": "1"}),
    "splitting": ("sto_engine.ingest.across:Splitting.split", {}),
    "splitting, done but not told": ("sto_engine.ingest.across:Splitting.split", {"HOLD_CALL": "3", "HOLD_AFTER": "1"}),
    "compacting": ("sto_engine.ingest.ranges:Ranges.write", {"HOLD_CALL": "2"}),
    "compacting, done but not told": ("sto_engine.ingest.ranges:Ranges.write", {"HOLD_AFTER": "1"}),
}


def made(world: Path, store: Path, executor: Executor) -> dict[str, str]:
    """Files of the store that was ingested and compacted, by hash."""
    events, people = [str(world / "events")], world / "recipients.parquet"
    ingest(events, store, people, load_config(None, ["store.buckets=8"]), Silent(), 2, executor)
    first = {f"first/{name}": found for name, found in files_of(store).items()}
    compact(store, 2, Silent(), buckets=4, executor=executor)
    return first | files_of(store)


@pytest.mark.parametrize("name", DEATHS)
def test_a_machine_that_dies_changes_no_byte(
    nodes: Nodes, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(across, "GROUP_FILES", 20)
    expected = made(world, tmp_path / "expected", Travelling())
    hold, env = DEATHS[name]
    with nodes.executor(nodes.config(hold=hold, folder=tmp_path, **env)) as ray:
        with losing(nodes, tmp_path):
            found = made(world, tmp_path / "found", ray)
        assert ray.tries.retries >= 1
    assert found == expected
    shutil.rmtree(tmp_path / "found")
