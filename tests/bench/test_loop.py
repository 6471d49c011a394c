"""The closed loop: players by hand, people judged alike, going on where a run was stopped, tables and curves."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from sto_decisions import __main__ as command
from sto_decisions import cold, loop, loop_report, report
from sto_decisions.engine import SETTINGS, Setting
from sto_decisions.living_suites import LIVING
from sto_decisions.loop import Options
from sto_decisions.outcome import GROUPS, figures, grouped, groups_of, outcome_of, series
from sto_decisions.players import FIXED, LOOP, ORACLE, Player
from sto_decisions.records import Cell, Record, make_record, read
from sto_engine.simulate.living import LivingWorld

CELL = Cell("loop", "attention", "few", 3, 150)
SHORT = Options(campaigns=3, history_days=10, threads=1)


def played(cell: Cell, name: str, player: Player | None, options: Options = SHORT) -> Record:
    run = cold.run_player if cell.suite == "cold" else loop.run_player
    (record,) = run(cell, options, name, player)
    assert record.status == "ok", record.reason
    return record


def test_the_oracle_regrets_nothing() -> None:
    for world in ("drift", "send_hour"):
        record = played(Cell("loop", world, "few", 0, 200), ORACLE, None)
        assert series(record.values, "regret") == series(record.values, "cumulative_regret") == [0.0] * 3
        assert series(record.values, "captured_2h") == [100.0] * 3


def test_ten_o_clock_is_worth_what_the_truth_says_of_it() -> None:
    record, living = played(CELL, FIXED, LOOP[FIXED]), LivingWorld("attention", 150, 3, 10, 3)
    eligible = living.users["eligible"].to_numpy()
    lost = []
    for campaign in range(3):
        truth = living.truth(campaign)
        day_U24 = truth.p2_UH[eligible][:, truth.first_hour : truth.first_hour + 24]
        lost.append(1000 * (day_U24.max(axis=1) - day_U24[:, 10]).mean())
    assert series(record.values, "regret") == pytest.approx(lost, abs=1e-3)
    assert series(record.values, "cumulative_regret") == pytest.approx(np.cumsum(lost), abs=1e-3)
    assert series(record.values, "captured_2h") == [0.0] * 3
    assert record.judged == eligible.sum()


def test_what_is_sent_today_is_known_tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A player who mails at 10:00 until the last campaign has by then what each step made, and no more."""
    seen, ingest = [], loop.ingest

    def counted(paths: list[str], *rest: object, **more: object) -> object:
        seen.append(pl.read_parquet(paths[0])["campaign_id"].unique().to_list())
        return ingest(paths, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "ingest", counted)
    played(CELL, FIXED, LOOP[FIXED])
    first = LivingWorld("attention", 150, 3, 10, 3).campaign_id(0)
    assert seen == [[first], [first + 1], [first + 2]]


def test_until_there_is_enough_to_train_on_attention_decides() -> None:
    cell = Cell("cold", "attention", "new_account", 0, 60)
    short = Options(campaigns=2, history_days=7, threads=1)
    attention, boosted = (
        played(cell, name, Player(SETTINGS[name], retrained=1), short).values for name in ("attention", "boosted")
    )
    assert attention == boosted
    assert attention["captured_2h@1"] == 0  # nobody is known, so all get the control time


def test_who_begins_with_another_brand_s_model_does_not_begin_at_ten() -> None:
    cell = Cell("cold", "attention", "new_account", 0, 100)
    settings = ("train.trees=3", "train.min_rows=100")
    short = Options(campaigns=1, history_days=7, threads=1, settings=settings)
    record = played(cell, "boosted_prior", Player(SETTINGS["boosted"], has_prior=True), short)
    assert record.values["captured_2h@1"] != 0


def test_of_a_cold_start_only_those_without_a_history_are_judged() -> None:
    new, everyone = (
        played(Cell("cold", "attention", start, 0, 400), ORACLE, None, Options(1, 10)).judged for start in cold.STARTS
    )
    assert 0.4 * everyone < new < 0.6 * everyone


def test_who_fails_has_a_line_with_the_reason() -> None:
    broken = Player(Setting(("model.policy=none_such",)))
    (record,) = loop.run_player(CELL, SHORT, "ours:broken", broken)
    assert (record.status, record.values) == ("failed", {})
    assert "none_such" in record.reason


def test_a_player_must_mail_everybody_who_is_judged() -> None:
    living = LivingWorld("attention", 30, 0, 10, 1)
    happened = living.step(0, living.users[:20].select("user_id", send_at_ms=pl.lit(1_800_000_000_000)))
    with pytest.raises(RuntimeError, match="were not mailed"):
        outcome_of(living, 0, happened)


def two_players(more: float, seeds: int = 2) -> list[Record]:
    """Of 500 users a rival who captures half of each gain, and one with `more` of it, give or take a little luck."""
    records = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        group_U = groups_of(np.arange(500, dtype=np.uint64))
        gain_U = rng.uniform(0.1, 0.3, 500)
        for player, share in (("ours:attention", 0.5), ("ours:other", 0.5 + more)):
            ours_U = share * gain_U + rng.normal(0, 0.01, 500)
            sums = {"ours": ours_U, "gain": gain_U}
            values = {
                f"{name}_of_group@{g}": float(value)
                for name, values_U in sums.items()
                for g, value in enumerate(np.bincount(group_U, values_U, minlength=GROUPS))
            }
            records.append(make_record(Cell("loop", "attention", "few", seed, 500), player, {**values}))
    return records


def test_a_difference_is_paired_and_has_an_interval_over_users() -> None:
    found = loop_report.difference(two_players(0.2), "ours:other", "ours:attention")
    assert found is not None
    mean, low, high = found
    assert mean == pytest.approx(20, abs=1)
    assert low < 20 < high
    assert high - low == pytest.approx(2 * 1.96 * 100 * 2**0.5 * 0.01 / 0.2 / 1000**0.5, rel=0.35)
    assert loop_report.difference(two_players(0.2, 1)[:1], "ours:other", "ours:attention") is None


def test_groups_are_of_the_id_and_their_sums_are_the_whole() -> None:
    living = LivingWorld("attention", 300, 0, 10, 1)
    rows = living.users.select("user_id", send_at_ms=pl.lit(1_800_000_000_000))
    outcome = outcome_of(living, 0, living.step(0, rows))
    ids_U = living.users.filter("eligible")["user_id"].to_numpy()
    values = grouped([outcome, outcome], groups_of(ids_U))
    ours = [value or 0.0 for value in series(values, "ours_of_group")]
    assert len(ours) == GROUPS
    assert sum(ours) == pytest.approx(2 * outcome.ours_2h.sum(), abs=1e-3)
    assert groups_of(ids_U[:5]).tolist() == groups_of(ids_U)[:5].tolist()
    assert figures([outcome])["opened_24h@1"] == pytest.approx(1000 * outcome.opened_24h.mean(), abs=1e-3)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("loop") / "decisions.jsonl"
    assert command.main([*LINE, "--out", str(out)]) == 0
    return out


LINE = ["--quick", "--suites", "loop,cold", "--users", "80", "--campaigns", "2", "--players", f"{FIXED},{ORACLE}"]


def test_players_that_are_there_are_not_played_again(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [(r.suite, r.history, r.policy) for r in read(results)] == [
        *(("loop", "few", name) for name in (FIXED, ORACLE)),
        *(("cold", start, name) for start in cold.STARTS for name in (FIXED, ORACLE)),
    ]
    out = tmp_path / "d.jsonl"
    out.write_text("".join(results.read_text().splitlines(keepends=True)[:3]))
    ran: list[str] = []

    def play(cell: Cell, options: Options, living: LivingWorld, name: str, *rest: object) -> Record:
        ran.append(f"{cell.history} {name}")
        return make_record(cell, name, {}, threads=options.threads)

    monkeypatch.setattr(cold, "play", play)
    monkeypatch.setattr(loop, "play", play)
    command.main([*LINE, "--out", str(out)])
    assert ran == [f"newcomers {ORACLE}", f"new_account {FIXED}", f"new_account {ORACLE}"]


def test_the_loop_has_tables_and_curves(results: Path, tmp_path: Path) -> None:
    records = read(results)
    text = report.render(records)
    assert "| player | captured, 1 | regret | opened | less **attention** |" in text
    assert "| fixed_10 | 0 | " in text
    assert "| fixed_10 | 0 / 0 |" in text
    assert text.count("no evidence of lift") == 3
    document, chart = tmp_path / "doc.md", tmp_path / "decisions.svg"
    document.write_text(f"{report.BEGIN}\n{report.END}\n")
    line = ["--results", str(results), "--document", str(document), "--chart", str(chart)]
    assert report.main(line) == 0
    for name in ("loop", "newcomers", "new_account"):
        drawing = ElementTree.parse(tmp_path / f"decisions_{name}.svg")
        assert f"decisions_{name}.svg" in document.read_text()
        assert {"attention", FIXED} <= {node.text for node in drawing.iter() if node.tag.endswith("text")}
        assert any(node.tag.endswith("polyline") for node in drawing.iter())
    (tmp_path / "decisions_loop.svg").unlink()
    assert report.main([*line, "--check"]) == 1


def test_every_player_has_settings_that_parse() -> None:
    for suite in LIVING.values():
        for player in suite.players.values():
            assert player is None or player.setting.config().store.buckets == 4
