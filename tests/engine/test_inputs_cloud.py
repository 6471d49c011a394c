"""URLs go through pyarrow.fs: its in-memory file system stands for a cloud, what cannot be had is a missing input."""

from pathlib import Path

import polars as pl
import pyarrow.fs as fs
import pytest

from inputs import FORMATS, event, read, write
from sto_engine.errors import InputMissing
from sto_engine.files import sha256_file
from sto_engine.ingest.readers import enumerate_files


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> fs.FileSystem:
    """What s3:// and gs:// name in this test."""
    memory = fs._MockFileSystem()
    asked: list[str] = []

    def from_uri(uri: str) -> tuple[fs.FileSystem, str]:
        asked.append(uri)
        return memory, uri.partition("://")[2].partition("?")[0]

    monkeypatch.setattr("sto_engine.ingest.cloud._from_uri", from_uri)
    return memory


def put(cloud: fs.FileSystem, key: str, path: Path) -> None:
    cloud.create_dir(key.rpartition("/")[0], recursive=True)
    with cloud.open_output_stream(key, compression=None) as sink:
        sink.write(path.read_bytes())


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_in_a_cloud_is_the_file_on_the_disk(tmp_path: Path, cloud: fs.FileSystem, suffix: str) -> None:
    frame = pl.DataFrame([event(user_id=each, user_agent="x") for each in range(1, 40)])
    here = write(frame, tmp_path / f"e{suffix}")
    put(cloud, f"bucket/in/event_type=click/e{suffix}", here)
    (path,) = enumerate_files([f"s3://bucket/in/event_type=click/e{suffix}"])
    assert str(path) == f"s3://bucket/in/event_type=click/e{suffix}"
    assert read(path).good.equals(read(here).good)
    assert sha256_file(path) == sha256_file(here)


def test_folders_and_globs_in_a_cloud_name_their_files(tmp_path: Path, cloud: fs.FileSystem) -> None:
    here = write(pl.DataFrame([event()]), tmp_path / "e.csv")
    for key in ("b/in/date=1/x.csv", "b/in/date=2/y.csv", "b/in/_SUCCESS", "b/in/date=1/.hidden.csv", "b/other/z.csv"):
        put(cloud, key, here)
    assert [path.name for path in enumerate_files(["gs://b/in"])] == ["x.csv", "y.csv"]
    assert [path.name for path in enumerate_files(["gs://b/in/*/y.csv"])] == ["y.csv"]
    assert [path.name for path in enumerate_files(["gs://b/in/date=1*"])] == ["x.csv"]
    with pytest.raises(InputMissing, match="no file matches"):
        enumerate_files(["gs://b/nothing/*.csv"])


@pytest.mark.parametrize("error", [OSError("no credentials"), NotImplementedError("not built"), ImportError("no s3")])
def test_a_cloud_that_does_not_let_in_is_a_missing_input(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(uri: str) -> tuple[fs.FileSystem, str]:
        raise error

    monkeypatch.setattr("sto_engine.ingest.cloud._from_uri", refuse)
    with pytest.raises(InputMissing, match=r"s3://bucket/e\.csv cannot be read: .*credentials in the environment"):
        enumerate_files(["s3://bucket/e.csv"])


def test_a_file_that_is_gone_when_it_is_opened_is_a_missing_input(tmp_path: Path, cloud: fs.FileSystem) -> None:
    put(cloud, "b/e.csv", write(pl.DataFrame([event()]), tmp_path / "e.csv"))
    (path,) = enumerate_files(["s3://b/e.csv"])
    cloud.delete_file("b/e.csv")
    with pytest.raises(InputMissing, match=r"s3://b/e\.csv cannot be read: it is gone"):
        read(path)
