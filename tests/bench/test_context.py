"""The ablation of types and days off: small senders in which the answer is known to be better than leaving it out."""

from pathlib import Path

from sto_decisions.context import CASES, make_sender


def captured(case: str, folder: Path, users: int) -> dict[tuple[str, str], float]:
    world, run = CASES[case]
    lines = run(make_sender(folder, world, 1, users), ("attention",))
    return {(line["arm"], line.get("scored_on", "")): line["captured_percent_2h"] for line in lines}


def test_weekends_of_the_country_pay_where_they_are_not_saturday_and_sunday(tmp_path: Path) -> None:
    found = captured("weekends", tmp_path, 1_000)
    assert found["country", "Fri"] > found["same", "Fri"] + 10
    assert found["country", "Sun"] > found["same", "Sun"]


def test_triggers_are_better_served_by_what_was_learnt_of_triggers(tmp_path: Path) -> None:
    found = captured("types", tmp_path, 1_000)
    assert found["learnt trigger, scored trigger", ""] > found["learnt promo, scored promo", ""]
