from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sto_engine.config import Config, load_config
from sto_engine.errors import ConfigError, InputMissing


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sto.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_documented_defaults_hold() -> None:
    config = load_config()
    assert config.model.history_days == 90
    assert config.experiment.control_share == 0.10
    assert config.experiment.control_time == "10:00"
    assert config.ingest.max_bad_share == 0.01
    assert config.spread.min_minutes == 15
    assert config.slots.grid == 24


def test_an_override_lies_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "[train]\ntrees = 10\ndepth = 3\n")
    config = load_config(path, ["train.trees=20"])
    assert (config.train.trees, config.train.depth) == (20, 3)


def test_the_last_override_of_a_key_wins() -> None:
    assert load_config(None, ["train.trees=20", "train.trees=30"]).train.trees == 30


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.policy=histogram", "histogram"),
        ('model.policy="histogram"', "histogram"),
        (" model.policy = histogram ", "histogram"),
    ],
)
def test_bare_words_and_quoted_ones_are_the_same_string(override: str, expected: str) -> None:
    assert load_config(None, [override]).model.policy == expected


def test_lists_and_nested_keys_are_toml(tmp_path: Path) -> None:
    config = load_config(None, ['window.quiet=["22:00-07:00"]', "capacity.providers.gmail=100/s"])
    assert config.window.quiet == ("22:00-07:00",)
    assert config.capacity.providers == {"gmail": "100/s"}


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("window.begin=08:00", 'window.begin.*nearest known: "window'),
        ("modle.policy=x", 'unknown configuration section "modle".*"model"'),
        ("window.start=8:00", "window.start"),
        ("window.start=24:00", "window.start"),
        ("window.quiet=22:00-07:00", "window.quiet"),
        ("experiment.control_share=1.5", "experiment.control_share"),
        ("store.buckets=6", "power of two"),
        ("slots.grid=25", "slots.grid"),
        ("model.half_life_days=0", "half_life_days"),
        ("train.trees=many", "train.trees.*many"),
        ("trees=5", "section.key=value"),
        ("train.trees", "section.key=value"),
        ("=5", "section.key=value"),
        ("train.=5", "section.key=value"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(override: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load_config(None, [override])


def test_shares_above_one_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"at most 1; found 1\.1"):
        load_config(None, ["experiment.control_share=0.6", "experiment.random_share=0.5"])


def test_shares_that_are_one_but_for_rounding_are_taken() -> None:
    shares = {"control": 0.55, "random": 0.34, "explore": 0.11}
    assert sum(shares.values()) > 1
    experiment = load_config(None, [f"experiment.{name}_share={share}" for name, share in shares.items()]).experiment
    assert experiment.explore_share == 0.11
    with pytest.raises(ConfigError, match=r"at most 1"):
        load_config(None, ["experiment.control_share=0.55", "experiment.random_share=0.4500001"])


def test_a_rule_of_ours_speaks_for_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sto\.toml is not valid: store: store\.buckets must be a power of two"):
        load_config(written(tmp_path, "[store]\nbuckets = 6\n"))


def test_a_file_that_is_not_there_is_a_missing_input(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="absent"):
        load_config(tmp_path / "absent.toml")


@pytest.mark.parametrize("text", ["[train", "train = 5", "[train]\ntrees = 1\ntrees = 2", "[train]\ntree = 1"])
def test_a_file_with_a_mistake_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"train|sto\.toml"):
        load_config(written(tmp_path, text))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sto.toml"
    path.write_bytes(b'[experiment]\nname = "caf\xe9"\n')
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(path)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_config().train.trees = 5  # type: ignore[misc]


def test_where_and_how_to_run_is_no_part_of_a_decision() -> None:
    here = load_config(None, ["store.buckets=4", "cluster.address=local", "ingest.max_bad_share=0.5"])
    assert here.decision() == load_config().decision()
    assert load_config(None, ["train.trees=4"]).decision() != load_config().decision()


@given(st.text(max_size=40))
def test_any_override_is_taken_or_refused_as_configuration(text: str) -> None:
    with suppress(ConfigError):
        assert isinstance(load_config(None, [text]), Config)
