"""Who is not mailed, from files written for the case."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from sto_engine.config import load_config
from sto_engine.errors import UsageError
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from support import table

DAY = date(2026, 4, 1)


def run(folder: Path, people: pl.DataFrame, events: list[tuple[int, str, str | None, int]]) -> dict[int, list[str]]:
    """Outcome of every row: its arm-independent reason of suppression, or "mailed"."""
    people.with_columns(pl.col("user_id").cast(pl.UInt64)).write_parquet(folder / "r.parquet")
    frame = pl.DataFrame(
        {
            "user_id": pl.Series([e[0] for e in events], dtype=pl.UInt64),
            "campaign_id": pl.Series([1] * len(events), dtype=pl.UInt64),
            "event_type": pl.Series([e[1] for e in events], dtype=pl.String),
            "bounce_type": pl.Series([e[2] for e in events], dtype=pl.String),
            "event_ts": pl.Series(
                [datetime(2026, 3, e[3], tzinfo=UTC) for e in events], dtype=pl.Datetime("ms", "UTC")
            ),
        }
    )
    frame.write_parquet(folder / "e.parquet")
    config = load_config(None, ["store.buckets=2", "ingest.max_bad_share=0.9"])
    ingest([str(folder / "e.parquet")], folder / "s", folder / "r.parquet", config, Silent())
    result = run_score(ScoreRequest(folder / "s", folder / "o", date=DAY), config, Silent())
    assert result.run_dir is not None
    counts = result.summary["counts"]
    assert counts["audience"] == len(people) == counts["assigned"] + counts["suppressed"] + counts["quarantined"]
    outcome: dict[int, list[str]] = {}
    for user in table(result.run_dir, "assignments")["user_id"]:
        outcome.setdefault(user, []).append("mailed")
    for user, reason in table(result.run_dir, "suppressed").iter_rows():
        outcome.setdefault(user, []).append(reason)
    return outcome


def test_consent_address_and_what_users_did_stop_mail(tmp_path: Path) -> None:
    people = pl.DataFrame(
        {
            "user_id": [1, 2, 3, 4, 5, 6, 7, 8],
            "consent": [True, False, None, True, True, True, True, True],
            "address_status": ["valid", "valid", None, "trap", "unknown", "valid", "valid", "valid"],
            "signup_ts": [None] * 7 + [datetime(2026, 3, 20, tzinfo=UTC)],
        },
        schema_overrides={"signup_ts": pl.Datetime("ms", "UTC")},
    )
    events = [
        (1, "send", None, 2),
        (5, "bounce", "soft", 3),
        (6, "bounce", "Hard", 3),
        (7, "complaint", None, 3),
        (8, "unsubscribe", None, 3),
        (3, "unsubscribe", None, 31),
    ]
    assert run(tmp_path, people, events) == {
        1: ["mailed"],
        2: ["no_consent"],
        3: ["unsubscribed"],
        4: ["invalid_address"],
        5: ["mailed"],
        6: ["hard_bounce"],
        7: ["complaint"],
        8: ["mailed"],
    }


def test_of_duplicate_recipients_the_first_wins_and_null_ids_are_counted(tmp_path: Path) -> None:
    people = pl.DataFrame({"user_id": [1, 2, 1, None, 2, 2], "consent": [True, False, False, True, True, True]})
    assert run(tmp_path, people, [(1, "send", None, 2)]) == {
        1: ["mailed", "duplicate"],
        2: ["no_consent", "duplicate", "duplicate"],
    }


def test_recipients_without_any_event_get_the_control_time(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": [3, 4]}, schema={"user_id": pl.Int64}).write_parquet(tmp_path / "r.parquet")
    config = load_config(None)
    ingest([], tmp_path / "s", tmp_path / "r.parquet", config, Silent())
    with pytest.raises(UsageError, match="--date"):
        run_score(ScoreRequest(tmp_path / "s", tmp_path / "o"), config, Silent())
    result = run_score(ScoreRequest(tmp_path / "s", tmp_path / "o", date=DAY), config, Silent())
    assert result.run_dir is not None
    rows = table(result.run_dir, "assignments")
    assert rows["slot"].to_list() == [10, 10]
    assert set(rows["reason"]) <= {"fallback", "control"}
    assert result.summary["warnings"]
