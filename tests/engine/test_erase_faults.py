"""An erasure that is killed, or meets damage, leaves the old store or the new one, and nothing of him in the end."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from erasures import content, erase, files, fill, holds_mark, same
from sto_engine.errors import BadData, InputMissing, TryLater, UsageError
from sto_engine.files import folder_lock

CHILD = Path(__file__).with_name("erase_child.py")


# 3 generations: renames 1-3 are the event files, 4 the recipients, 5-7 the quarantine, 8 the manifest; then the old
# files go (9-15) and the audit line gets its name (16)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", [1, 4, 7, 8, 9, 15, 16])
def test_a_killed_erasure_leaves_the_old_or_the_new_store_and_is_finished_by_the_next(
    tmp_path: Path, n: int, when: str
) -> None:
    store = fill(tmp_path / "s", "uint64")
    before, never = content(store), content(fill(tmp_path / "never", "uint64", without=7))
    command = [sys.executable, str(CHILD), str(store), str(n), when, "7"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    committed = n > 8 or (n, when) == (8, "after")
    assert same(content(store), never if committed else before)
    assert erase(store, 7).found == (0 if committed else 1)
    assert same(content(store), never)
    assert not holds_mark(store)
    assert not list(store.rglob("*.tmp"))
    lines = [json.loads(line) for line in (store / "erasures.jsonl").read_text().splitlines()]
    assert [(line["number"], line["found"]) for line in lines] == ([(1, 1), (2, 0)] if committed else [(1, 1)])


def test_the_kill_points_cover_the_whole_erasure(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "uint64")
    assert subprocess.run([sys.executable, str(CHILD), str(store), "17", "before", "7"], check=False).returncode == 0


def test_a_damaged_file_is_not_made_good_by_an_erasure(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "uint64")
    report = erase(store, 7, dry_run=True)
    assert report.found == 1
    for victim in store.glob("gen-000002/*.parquet"):
        data = bytearray(victim.read_bytes())
        data[-20] ^= 1
        victim.write_bytes(data)
    before = files(store)
    with pytest.raises(BadData, match=r"sha256|damaged"):
        erase(store, 7)
    assert files(store) == before


def test_a_store_in_use_no_store_and_no_id_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="sto-engine ingest"):
        erase(tmp_path / "nowhere", 7)
    store = fill(tmp_path / "s", "uint64")
    with folder_lock(store, "store"), pytest.raises(TryLater, match="in use by pid"):
        erase(store, 7)
    with pytest.raises(UsageError, match="--user-id"):
        erase(store)
    with pytest.raises(UsageError, match="whole number"):
        erase(store, "seven")
