"""The example settings in configs/ can be run as they stand."""

import re
import tomllib
from pathlib import Path

import pytest

from sto_engine.config import load_config
from sto_engine.history.providers import known_providers, provider_map
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent

FOLDER = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(path.name for path in FOLDER.glob("*.toml"))


def test_the_folder_holds_what_the_readme_names() -> None:
    assert {"nightly.toml", "smoke.toml"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_every_value_of_the_file_is_the_one_that_is_loaded(name: str) -> None:
    loaded = load_config(FOLDER / name).model_dump(mode="json")
    for section, body in tomllib.loads((FOLDER / name).read_text()).items():
        assert {key: loaded[section][key] for key in body} == body


@pytest.mark.parametrize("name", FILES)
def test_what_is_commented_out_is_a_setting_too(name: str, tmp_path: Path) -> None:
    """Lines "# key = value" are settings without their "# "."""
    text, found = re.subn(r"(?m)^# (?=\w+ = )", "", (FOLDER / name).read_text())
    (tmp_path / name).write_text(text)
    loaded = load_config(tmp_path / name)
    if name == "nightly.toml":
        assert found >= 5
        assert provider_map(loaded)["cox.net"] == "other"
        assert {*loaded.capacity.providers, *loaded.capacity.warmup} <= known_providers(loaded)
        assert loaded.capacity.total == ("300/s", "12M/day")


@pytest.mark.parametrize("name", FILES)
def test_the_file_scores_a_store(name: str, store: Path, bundle: Path, tmp_path: Path) -> None:
    request = ScoreRequest(store, tmp_path, bundle=bundle, dry_run=True)
    counts = run_score(request, load_config(FOLDER / name), Silent()).summary["counts"]
    assert counts["assigned"] > 0
