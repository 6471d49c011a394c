import json
from pathlib import Path

import pytest

from sto_bench import limits, machine, suite
from sto_bench.cases import CASES, HEADLINE, TINY, Case, select
from sto_bench.clock import measured_mhz
from sto_bench.contest import Outcome
from sto_bench.records import Record, make_records, read, replace_cases

OURS = Outcome("bitslice", True, "ok", "", 1000, 2, 0.5, [100.0, 120.0, 80.0], 90.0, 0.0)
PEER = Outcome("xgboost", False, "ok", "", 10, 1, 0.1, [10.0, 10.0, 10.0], 80.0, 0.0)
GONE = Outcome("ydf", False, "skipped", "ydf cannot be imported")
BROKEN = Outcome("lightgbm", False, "failed", "MemoryError: no room")


def records(case: str = TINY) -> list[Record]:
    return make_records(CASES[case], [OURS, PEER, GONE, BROKEN], threads=2)


def test_a_contest_gives_three_lines_for_each_that_ran_and_one_for_each_that_did_not() -> None:
    found = records()
    assert [(r.impl, r.metric) for r in found] == [
        *((name, metric) for name in ("bitslice", "xgboost") for metric in suite_metrics()),
        ("ydf", "users_per_s"),
        ("lightgbm", "users_per_s"),
    ]
    first = found[0]
    assert (first.median, first.reps, first.ratio_to) == (100.0, 3, {"xgboost": 10.0})
    assert first.ratio_spread["xgboost"] == pytest.approx([8.8, 11.2])
    assert found[1].median == 100.0 * 24 * 8
    assert (found[2].median, found[2].unit) == (0.5, "s")


def suite_metrics() -> tuple[str, ...]:
    return "users_per_s", "user_slot_tree_per_s", "first_call_s"


def test_what_did_not_run_has_a_reason_and_no_number() -> None:
    for record in records()[-2:]:
        assert record.reason
        assert record.status in ("skipped", "failed")
        assert (record.median, record.q20, record.q80, record.reps) == (None, None, None, 0)


def test_records_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    replace_cases(path, records())
    assert read(path) == records_at(path)
    assert [r.impl for r in read(path)] == [r.impl for r in records()]
    assert "NaN" not in path.read_text()
    assert read(tmp_path / "absent.jsonl") == []


def records_at(path: Path) -> list[Record]:
    return [Record(**json.loads(line)) for line in path.read_text().splitlines()]


def test_a_case_measured_again_replaces_all_its_lines_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    replace_cases(path, records(HEADLINE))
    replace_cases(path, records(TINY))
    replace_cases(path, records(HEADLINE)[:3])
    assert sum(r.case == TINY for r in read(path)) == 8
    assert sum(r.case == HEADLINE for r in read(path)) == 3


@pytest.mark.parametrize("line", ["{", "[]", '{"case": "x"}'])
def test_a_line_that_is_no_measurement_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"results.jsonl:1"):
        read(path)


def test_every_line_carries_the_facts_of_machine_and_code() -> None:
    record = records()[0]
    assert record.cpu == machine.cpu_name()
    assert record.versions["numpy"]
    assert record.timestamp.endswith("+00:00")
    assert record.threads == 2


def test_a_cpu_becomes_a_file_name() -> None:
    assert machine.cpu_slug("AMD EPYC (family 25, model 17)") == "amd-epyc-family-25-model-17"


def test_peak_memory_is_of_what_ran_since_the_reset() -> None:
    machine.reset_peak()
    before = machine.peak_mib()
    bytearray(200 << 20)
    assert machine.peak_mib() > before + 150
    machine.reset_peak()
    assert machine.peak_mib() < before + 150 or not Path("/proc/self/clear_refs").exists()


def test_the_port_limit_counts_the_instructions_of_a_tree() -> None:
    assert limits.vector_ops(6) == 57 + 22 + 8 + 72
    assert limits.vector_loads(6) == 63 + 8 + 12 + 6
    case = Case("x", trees=500, depth=6)
    assert limits.port_limit_users_per_s(case, "Intel", 2000.0, 1) == pytest.approx(2e9 * 64 / (79.5 * 3 * 500))
    zen = limits.port_limit_users_per_s(case, "AMD EPYC (family 25, model 17)", 2000.0, 1)
    assert zen == pytest.approx(2e9 * 64 / (89 * 3 * 500))
    assert limits.limit_of(case, "xgboost", "Intel", 1) is None


def test_the_clock_is_that_of_a_processor() -> None:
    assert 500 < measured_mhz() < 8000


def test_cases_vary_one_thing_of_the_headline() -> None:
    assert next(case.name for case in select((), "default")) == HEADLINE
    assert {case.name for case in select((), "default")} < {case.name for case in select((), "full")}
    assert select((TINY, HEADLINE, TINY), "quick") == [CASES[TINY], CASES[HEADLINE]]
    with pytest.raises(ValueError, match=r"case must be one of .*; found t9000"):
        select(("t9000",), "quick")


def test_a_plan_refuses_names_that_it_does_not_know() -> None:
    assert suite.make_plan("quick", (TINY,), ("gather",), ("none",), 2, 0).cases == [CASES[TINY]]
    for impls, peers, text in ((("fast",), (), "impl must be one of"), ((), ("catboost",), "peer must be one of")):
        with pytest.raises(ValueError, match=text):
            suite.make_plan("quick", (), impls, peers, 2, 0)
