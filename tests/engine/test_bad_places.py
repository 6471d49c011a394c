"""Stores, folders, disks, settings and models that are not what they should be: an exit code, a sentence, no harm."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from badness import Shop, events, write

LIMITED = """
import resource, signal, sys
from sto_engine.cli import run_command
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(run_command(sys.argv[2:]))
"""
AS_NOBODY = """
import os, sys
from sto_engine.cli import run_command
import sto_engine.cluster, sto_engine.ingest.compact, sto_engine.ingest.erase, sto_engine.ingest.run
run_command(["export-user", "--store", "/nowhere", "--user-id", "7", "--quiet"])  # loads what nobody may read
sys.stderr.flush()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(run_command(sys.argv[1:]))
"""


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    return Shop(tmp_path, capsys)


def commands(shop: Shop) -> dict[str, list[object]]:
    """One line of every command that reads the store, or changes it."""
    store = ["--store", shop.store, "--quiet"]
    return {
        "ingest": ["ingest", write(events(200, 1), shop.folder / "more.parquet"), *store],
        "compact": ["compact", *store],
        "erase": ["erase", "--user-id", "7", *store],
        "export": ["export-user", "--user-id", "7", *store],
        "explain": ["explain", "--user-id", "7", *store],
        "score": ["score", "--out", shop.folder / "out", *store],
        "train": ["train", "--bundle", shop.folder / "bundle", *store],
    }


NAMES = ("ingest", "compact", "erase", "export", "explain", "score", "train")


def child(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


KEYS = ("hash", "id_type", "campaign_type", "buckets", "generations", "recipients", "newest_event_ms")
WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    **{f"without {key}": lambda m, key=key: {k: v for k, v in m.items() if k != key} for key in KEYS},  # type: ignore[misc]
    "a list": lambda m: [m],
    "a number": lambda m: 7,
    "generations are a word": lambda m: {**m, "generations": "gen-000001"},
    "a generation without files": lambda m: {**m, "generations": [{"name": "gen-000001", "rows": 3}]},
    "files without rows": lambda m: {
        **m,
        "generations": [{**g, "files": [{"path": "x", "bucket": 0}]} for g in m["generations"]],
    },
    "a path that leaves the store": lambda m: {
        **m,
        "generations": [
            {**g, "files": [{**f, "path": f"../../{f['path']}"} for f in g["files"]]} for g in m["generations"]
        ],
    },
    "three buckets": lambda m: {**m, "buckets": 3},
    "another id type": lambda m: {**m, "id_type": "uuid"},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [*WRONG, "torn", "empty", "not UTF-8"])
def test_a_manifest_that_is_none_is_bad_data_for_every_command(shop: Shop, name: str, wrong: str) -> None:
    path = shop.store / "manifest.json"
    whole = path.read_bytes()
    raw = {"torn": whole[: len(whole) // 2], "empty": b"", "not UTF-8": b'{"\xff": 1}'}
    path.write_bytes(raw[wrong] if wrong in raw else json.dumps(WRONG[wrong](json.loads(whole))).encode())
    told = shop.run(*commands(shop)[name])
    assert told.code == 65, told
    assert str(shop.store) in told.error
    path.write_bytes(whole)
    shop.is_whole()


@pytest.mark.parametrize("name", NAMES)
def test_a_store_that_is_a_file_is_told(shop: Shop, name: str) -> None:
    line = [shop.folder / "good.parquet" if each == shop.store else each for each in commands(shop)[name]]
    told = shop.run(*line)
    assert told.code in (66, 73), told
    assert "good.parquet" in told.error
    shop.is_whole()


@pytest.mark.parametrize("command", ["ingest", "compact", "erase"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_at_any_call_leaves_the_old_store(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, command: str, call: str, number: int
) -> None:
    line, real = commands(shop)[command], getattr(os, call)
    for n in (1, 2, 5, 9):
        calls = iter(range(1, 10**6))

        def fails(*arguments: object, n: int = n, calls: Any = calls) -> object:
            if next(calls) == n:
                raise OSError(number, os.strerror(number))
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fails)
            told = shop.run(*line)
        if told.code == 0:
            break
        assert told.code == 74, told
        assert os.strerror(number) in told.error
        if call == "replace" or n == 1:  # the fsync behind the last rename fails when all is done
            shop.is_whole()


@pytest.mark.parametrize("command", ["ingest", "erase", "compact"])
def test_files_that_may_not_grow_end_as_a_full_disk_does(shop: Shop, command: str) -> None:
    done = child(LIMITED, 500, *commands(shop)[command])
    assert done.returncode == 74, done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    shop.is_whole()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert shop.run(*commands(shop)[command]).code == 0


@pytest.mark.skipif(os.getuid() != 0, reason="dropping privileges needs root; others are covered by the same check")
@pytest.mark.parametrize("command", ["ingest", "compact", "erase"])
def test_a_store_that_may_not_be_written_is_told(shop: Shop, command: str) -> None:
    line = commands(shop)[command]
    for parent in [shop.folder, *shop.folder.parents][:4]:
        parent.chmod(parent.stat().st_mode | 0o755)
    done = child(AS_NOBODY, *line)
    assert done.returncode == 73, done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert str(shop.store) in done.stderr
    assert "Traceback" not in done.stderr
    shop.is_whole()


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("[ingest]\nmax_bad = 1\n", 78, "max_bad_share"),
        ("[ingets]\n", 78, "ingest"),
        ("[ingest\n", 78, "not valid TOML"),
        ('[ingest]\nmax_bad_share = "few"\n', 78, "max_bad_share"),
        ("[store]\nbuckets = 3\n", 78, "power of two"),
        ("[store]\nbuckets = 1000000000\n", 78, "buckets"),
        ("ingest = 3\n", 78, "ingest"),
        ("\x00", 78, "not valid TOML"),
    ],
)
def test_settings_that_are_none_are_told(shop: Shop, text: str, code: int, word: str) -> None:
    path = shop.folder / "c.toml"
    path.write_text(text)
    told = shop.run(*commands(shop)["ingest"], "--config", path)
    shop.refuses(code, "c.toml", word, told=told)


def test_settings_that_are_a_folder_or_binary_are_told(shop: Shop) -> None:
    (shop.folder / "b.toml").write_bytes(b"\xff\xfe\x00")
    shop.refuses(78, "b.toml", "UTF-8", told=shop.run(*commands(shop)["ingest"], "--config", shop.folder / "b.toml"))
    shop.refuses(66, "cannot be read", told=shop.run(*commands(shop)["ingest"], "--config", shop.folder))


@pytest.mark.parametrize("kind", ["empty", "file", "pickle", "no json", "a list"])
def test_a_model_that_is_none_is_told(shop: Shop, kind: str) -> None:
    bundle = shop.folder / "bundle"
    if kind == "file":
        bundle.write_text("a file")
    else:
        bundle.mkdir()
    if kind in ("pickle", "no json", "a list"):
        body = {"pickle": b"\x80\x04cos\nsystem\n", "no json": b"{", "a list": b"[]"}[kind]
        (bundle / "bundle.json").write_bytes(body)
    told = shop.run(*commands(shop)["score"], "--bundle", bundle)
    shop.refuses(66 if kind in ("empty", "file") else 65, "bundle", told=told)
    assert not list((shop.folder / "out").glob("run=*/manifest.json"))


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        (pl.DataFrame({"user_id": [1.5, 2.5]}), "user_id"),
        (pl.DataFrame({"user_id": [None, None]}, schema={"user_id": pl.UInt64}), "no row with a user_id"),
        (pl.DataFrame({"user_id": []}, schema={"user_id": pl.UInt64}), "no row with a user_id"),
        (pl.DataFrame({"name": ["x"]}), "user_id"),
        (pl.DataFrame({"user_id": [1], "timezone": [[1]]}), "timezone"),
        (pl.DataFrame({"user_id": [1], "signup_ts": [True]}), "signup_ts"),
        (pl.DataFrame({"user_id": [1], "b2b": [1.5]}), "b2b"),
    ],
)
def test_recipients_with_a_broken_column_are_refused(shop: Shop, frame: pl.DataFrame, word: str) -> None:
    path = write(frame, shop.folder / "people.parquet")
    keys = ["--set", "ingest.max_bad_share=1", "--quiet"]
    told = shop.run("ingest", "--recipients", path, "--store", shop.store, *keys)
    shop.refuses(65, "people.parquet", word, told=told)


def test_a_broken_snapshot_keeps_the_events_beside_it_out_too(shop: Shop) -> None:
    path = write(pl.DataFrame({"user_id": ["x"]}), shop.folder / "people.parquet")
    shop.refuses(65, "people.parquet", told=shop.run(*commands(shop)["ingest"], "--recipients", path))
