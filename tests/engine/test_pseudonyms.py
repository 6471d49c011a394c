"""Pseudonyms are the keyed BLAKE2b that hashlib computes, everywhere the same, and no raw id is on disk."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sto_engine.cli import run_command
from sto_engine.config import Config, load_config
from sto_engine.errors import BadData, ConfigError, InputMissing, StoError
from sto_engine.explain.run import explain_user
from sto_engine.ingest import ingest as run_ingest
from sto_engine.ingest.compact import compact
from sto_engine.ingest.erase import erase
from sto_engine.ingest.export import export_user
from sto_engine.ingest.pseudonyms import Pseudonyms
from sto_engine.ingest.store import Store
from sto_engine.job import ScoreRequest, run_score
from sto_engine.prepare import ScoreRequest as ExplainRequest
from sto_engine.progress import Silent
from support import table

KEY, OTHER = bytes(range(40)), bytes(range(1, 65))
# openssl mac -macopt hexkey:00...00 -macopt size:8 BLAKE2BMAC, the first read as little-endian
VECTOR_64, VECTOR_128 = int.from_bytes(bytes.fromhex("fc1b5cd7bb229029"), "little"), "a3a1a25b45c7d524e560bc5ccdd0f145"
T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST = 7_700_000_000  # raw ids are easy to find on disk


def expected(text: str, bits: int, key: bytes = KEY) -> int | str:
    digest = hashlib.blake2b(text.encode(), key=key, digest_size=bits // 8).digest()
    return int.from_bytes(digest, "little") if bits == 64 else digest.hex()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "secret.key").write_bytes(KEY)
    return tmp_path / "secret.key"


def settings(key: Path | None, *keys: str, bits: int = 64) -> Config:
    own = [f"ingest.pseudonym_key_file={key}", f"ingest.pseudonym_bits={bits}"] if key else []
    return load_config(None, ["store.buckets=4", "ingest.max_bad_share=0.5", *own, *keys])


def events(n: int = 300, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    times = [T0 + timedelta(minutes=int(m)) for m in rng.integers(0, 50_000, n)]
    return pl.DataFrame(
        {
            "user_id": pl.Series(FIRST + rng.integers(1, 20, n), dtype=pl.UInt64),
            "campaign_id": pl.Series(rng.integers(1, 5, n), dtype=pl.UInt64),
            "event_type": pl.Series(rng.choice(["send", "open", "click"], n).tolist()),
            "event_ts": pl.Series(times).cast(pl.Datetime("ms", "UTC")),
        }
    )


def people() -> pl.DataFrame:
    return pl.DataFrame({"user_id": pl.Series(range(FIRST + 1, FIRST + 20), dtype=pl.UInt64), "country": "DE"})


def fill(folder: Path, config: Config) -> Path:
    spoilt = events().with_columns(event_type=pl.when(pl.int_range(300) < 9).then(pl.lit("?")).otherwise("event_type"))
    spoilt.write_parquet(folder / "e.parquet")
    people().write_parquet(folder / "r.parquet")
    run_ingest([str(folder / "e.parquet")], folder / "s", folder / "r.parquet", config, Silent())
    return folder / "s"


def stored(store: Path) -> pl.DataFrame:
    opened = Store.open(store)
    return pl.concat([opened.read_events(bucket) for bucket in range(opened.buckets)])


@pytest.mark.parametrize("bits", [64, 128])
def test_a_pseudonym_is_the_keyed_hash_of_the_text_of_the_id(bits: int) -> None:
    own = Pseudonyms(KEY, bits)
    for ids, texts in (
        (pl.Series([0, 42, None, 2**64 - 1], dtype=pl.UInt64), ["0", "42", None, str(2**64 - 1)]),
        (pl.Series([-5, 42], dtype=pl.Int64), ["-5", "42"]),
        (pl.Series(["42", " 42 ", "é@x", None, ""]), ["42", "42", "é@x", None, None]),
        (pl.Series(["42", "é@x"], dtype=pl.Categorical), ["42", "é@x"]),
        (pl.Series([None, None], dtype=pl.Null), [None, None]),
        (pl.Series([], dtype=pl.String), []),
    ):
        found = own.of(ids, "file: user_id")
        assert found.to_list() == [None if text is None else expected(text, bits) for text in texts]
        assert found.dtype == (pl.UInt64 if bits == 64 else pl.String)
    assert own.of_text(" 42") == expected("42", bits)
    with pytest.raises(BadData, match="never export ids as floats"):
        own.of(pl.Series([1.0]), "file: user_id")
    assert str(KEY) not in repr(own)


def test_pseudonyms_never_change() -> None:
    """Of 42 under a key of 32 zero bytes, by OpenSSL; joins made elsewhere rely on them."""
    assert Pseudonyms(bytes(32), 64).of_text("42") == VECTOR_64
    assert Pseudonyms(bytes(32), 128).of_text("42") == VECTOR_128


@pytest.mark.parametrize("bits", [64, 128])
def test_a_store_of_pseudonyms_holds_the_events_and_no_raw_id(tmp_path: Path, key: Path, bits: int) -> None:
    store = fill(tmp_path, settings(key, "ingest.quarantine_payload=true", bits=bits))
    raw = events().filter(pl.int_range(300) >= 9).sort("event_ts", "user_id")
    found = stored(store)
    wanted = {(expected(str(u), bits), t) for u, t in raw.select("user_id", "event_ts").iter_rows()}
    assert set(found.select("user_id", "event_ts").iter_rows()) == wanted
    assert Store.open(store).id_type == ("uint64" if bits == 64 else "string")
    named = {str(user) for user in raw["user_id"]}
    for path in store.rglob("*"):
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path).select(pl.all().cast(pl.String))
            assert not frame.select(pl.any_horizontal(pl.all().str.contains_any(sorted(named)).any())).item()
        elif path.is_file():
            assert not any(user.encode() in path.read_bytes() for user in named)
            assert KEY not in path.read_bytes()
    record = json.loads((store / "manifest.json").read_text())["pseudonyms"]
    assert record["bits"] == bits
    assert KEY.hex() not in json.dumps(record)


def test_text_of_csv_and_integers_of_parquet_are_one_person(tmp_path: Path, key: Path) -> None:
    frame = events()
    frame.write_parquet(tmp_path / "e.parquet")
    frame.write_csv(tmp_path / "e.csv")
    for name in ("parquet", "csv"):
        run_ingest([str(tmp_path / f"e.{name}")], tmp_path / name, None, settings(key), Silent())
    assert stored(tmp_path / "parquet").equals(stored(tmp_path / "csv"))


@pytest.mark.parametrize("act", ["ingest", "erase", "export", "explain", "audience"])
@pytest.mark.parametrize(
    ("wrong", "code", "text"),
    [
        ("none", 78, "holds pseudonyms; found no key"),
        ("another key", 65, "must be the key that"),
        ("other bits", 65, "pseudonym_bits must be 64"),
        ("gone", 66, "lost for good"),
        ("inside", 78, "outside of the store"),
        ("id type", 78, "ingest.id_type must be uint64"),
    ],
)
def test_a_key_that_does_not_fit_is_refused_everywhere(
    tmp_path: Path, key: Path, act: str, wrong: str, code: int, text: str
) -> None:
    store = fill(tmp_path, settings(key))
    before = (store / "manifest.json").read_bytes()
    (tmp_path / "other.key").write_bytes(OTHER)
    config = {
        "none": lambda: settings(None),
        "another key": lambda: settings(tmp_path / "other.key"),
        "other bits": lambda: settings(key, bits=128),
        "gone": lambda: settings(tmp_path / "gone.key"),
        "inside": lambda: settings(Path((store / "inside.key").write_bytes(KEY) and store / "inside.key")),
        "id type": lambda: settings(key, "ingest.id_type=string"),
    }[wrong]()
    people().write_parquet(tmp_path / "audience.parquet")
    events(50, 5).write_parquet(tmp_path / "more.parquet")
    request = ExplainRequest(store, tmp_path / "out")
    acts = {
        "ingest": lambda: run_ingest([str(tmp_path / "more.parquet")], store, None, config, Silent()),
        "erase": lambda: erase(store, [str(FIRST + 1)], None, config, Silent()),
        "export": lambda: export_user(store, str(FIRST + 1), config),
        "explain": lambda: explain_user(request, str(FIRST + 1), config, Silent()),
        "audience": lambda: run_score(
            ScoreRequest(store, tmp_path / "out", audience=tmp_path / "audience.parquet"), config, Silent()
        ),
    }
    with pytest.raises(StoError) as caught:
        acts[act]()
    assert (caught.value.exit_code, text in str(caught.value)) == (code, True), caught.value
    assert (store / "manifest.json").read_bytes() == before


def test_a_store_of_plain_ids_takes_no_key(tmp_path: Path, key: Path) -> None:
    store = fill(tmp_path, settings(None))
    events(50, 5).write_parquet(tmp_path / "more.parquet")
    with pytest.raises(BadData, match="holds plain ids"):
        run_ingest([str(tmp_path / "more.parquet")], store, None, settings(key), Silent())


@pytest.mark.parametrize(("length", "kind"), [(31, ConfigError), (65, ConfigError), (None, InputMissing)])
def test_a_key_of_another_length_is_none(tmp_path: Path, length: int | None, kind: type[StoError]) -> None:
    path = tmp_path / "short.key"
    if length is not None:
        path.write_bytes(bytes(length))
    with pytest.raises(kind, match=r"short\.key"):
        fill(tmp_path, settings(path))
    assert not (tmp_path / "s" / "manifest.json").exists()


@pytest.mark.parametrize("bits", [64, 128])
def test_people_are_named_by_their_raw_ids_all_the_way(tmp_path: Path, key: Path, bits: int) -> None:
    config = settings(key, "experiment.control_share=0", bits=bits)
    store = fill(tmp_path, config)
    compact(store, 1, Silent())
    user = FIRST + 3
    found = export_user(store, str(user), config)
    assert found["stored_as"] == expected(str(user), bits)
    good = events().filter(pl.int_range(300) >= 9).filter(user_id=user)
    assert len(found["events"]) == len(good)
    told = explain_user(ExplainRequest(store, tmp_path / "out"), str(user), config, Silent())
    assert told["user"]["in_recipients"]
    pl.DataFrame({"user_id": [user, user + 1]}).write_csv(tmp_path / "audience.csv")
    run = run_score(ScoreRequest(store, tmp_path / "out", audience=tmp_path / "audience.csv"), config, Silent()).run_dir
    assert run is not None
    assert set(table(run, "assignments")["user_id"]) == {expected(str(each), bits) for each in (user, user + 1)}
    assert erase(store, [str(user)], None, config, Silent()).found == 1
    assert not export_user(store, str(user), config)["found"]


def test_the_nightly_score_needs_no_key(tmp_path: Path, key: Path) -> None:
    store = fill(tmp_path, settings(key))
    run = run_score(ScoreRequest(store, tmp_path / "out"), settings(None), Silent()).run_dir
    assert run is not None
    assert len(table(run, "assignments")) == 19


def test_a_list_of_ids_gets_its_pseudonyms_to_join_back_by(
    tmp_path: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people().write_csv(tmp_path / "ids.csv")
    out = tmp_path / "map.parquet"
    arguments = ["pseudonyms", str(tmp_path / "ids.csv"), "--out", str(out), "--quiet"]
    assert run_command([*arguments, "--set", f"ingest.pseudonym_key_file={key}"]) == 0
    found = pl.read_parquet(out)
    assert found["user_id"].to_list() == [str(user) for user in people()["user_id"]]
    assert found["pseudonym"].to_list() == [expected(str(user), 64) for user in people()["user_id"]]
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "rows": 19, "without_id": 0}
    assert run_command(arguments) == 78
    assert "pseudonym_key_file" in capsys.readouterr().err
