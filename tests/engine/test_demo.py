from datetime import date
from pathlib import Path

import pytest

from sto_engine.config import load_config
from sto_engine.demo import run_demo
from sto_engine.errors import CannotCreate
from sto_engine.evaluate.world import evaluate_world
from sto_engine.progress import Silent

USERS = 400
SMALL = load_config(None, ["train.min_rows=200", "train.trees=5"])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("demo")
    return out, run_demo(out, USERS, 1, 2, SMALL, Silent())


def test_a_demo_accounts_for_everyone_on_the_day_of_the_truth(demo: tuple[Path, dict[str, object]]) -> None:
    out, summary = demo
    assert summary["counts"]["audience"] == USERS  # type: ignore[index]
    assert summary["date"] == date(2026, 4, 20).isoformat()
    assert Path(str(summary["run"])).parent == out / "runs"
    assert "never evidence" in str(summary["note"])


def test_the_forest_has_the_trees_that_were_asked_for(demo: tuple[Path, dict[str, object]]) -> None:
    assert demo[1]["trained"]["trees"] == 5  # type: ignore[index]


def test_a_second_demo_in_its_folder_comes_to_the_same(demo: tuple[Path, dict[str, object]]) -> None:
    out, summary = demo
    again = run_demo(out, USERS, 1, 1, SMALL, Silent())
    for key in ("counts", "by_reason", "by_slot", "expected_opens_in_2h"):
        assert again[key] == summary[key]


def test_a_demo_never_mixes_with_what_lies_in_its_folder(demo: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    with pytest.raises(CannotCreate, match=r"'users': 400"):
        run_demo(demo[0], USERS + 1, 1, 1, SMALL, Silent())
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CannotCreate, match="other files"):
        run_demo(tmp_path, USERS, 1, 1, SMALL, Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_demo_says_what_the_truth_expects_of_its_model_arm(demo: tuple[Path, dict[str, object]]) -> None:
    out, summary = demo
    judged = evaluate_world(out / "world", Path(str(summary["run"])))
    assert judged["users"]["judged"] > 0
    assert judged["within_2h"] == summary["expected_opens_in_2h"]
    assert judged["within_24h"] == summary["expected_opens_in_24h"]
