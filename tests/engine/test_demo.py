from datetime import date
from pathlib import Path

import polars as pl
import pytest

from sto_engine.config import load_config
from sto_engine.demo import expected_opens, run_demo
from sto_engine.errors import CannotCreate
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


def test_expected_opens_are_the_sums_of_the_truth_at_the_true_local_hour(tmp_path: Path) -> None:
    """Two of the model arm: one sent at 19 in the right zone, one at 19 by a profile two hours behind his true zone."""
    p19 = [0.1] * 24
    p19[10], p19[12], p19[19], p19[21] = 0.2, 0.3, 0.8, 0.5
    truth = {"user_id": [1, 2, 3], "true_offset": [60, 120, 0], "p2h": [p19, p19, [1.0] * 24]}
    schema = {"user_id": pl.UInt64, "true_offset": pl.Int16, "p2h": pl.Array(pl.Float32, 24)}
    pl.DataFrame(truth, schema=schema).write_parquet(tmp_path / "truth.parquet")
    sent = {"user_id": [1, 2, 3], "arm": ["model", "model", "control"], "slot": [19] * 3, "tz_offset": [60, 0, 0]}
    (tmp_path / "assignments").mkdir()
    schema = {"user_id": pl.UInt64, "arm": pl.String, "slot": pl.UInt8, "tz_offset": pl.Int16}
    pl.DataFrame(sent, schema=schema).write_parquet(tmp_path / "assignments" / "part-0000.parquet")
    found = expected_opens(tmp_path, tmp_path / "truth.parquet")
    ours, fixed, best = 0.8 + 0.5, 0.2 + 0.3, 0.8 + 0.8
    assert found == {
        "recipients": 2,
        "model": pytest.approx(ours),
        "fixed_10": pytest.approx(fixed),
        "best_possible": pytest.approx(best),
        "captured_percent": pytest.approx(100 * (ours - fixed) / (best - fixed), abs=0.05),
    }
