"""What cleaning on read makes of agents, floods, dead addresses, tests and those who do not consent."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from histories import CONFIG, ORIGIN, Row, before, decide, frame_of, known, mail, people, store_of
from sto_engine.config import Config, load_config
from sto_engine.history.agents import KINDS, agent_kinds, by_machine
from sto_engine.history.rules import are_tests, rules_of
from sto_engine.ingest.store import Store
from sto_engine.models.counts import MOST_ACTS, voice
from sto_engine.models.registry import make_policy
from sto_kernels.journal import FLOOD, HUMAN, PREFETCH, Rules

GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
APPLE = "Mozilla/5.0"
AGENTS = {
    "person": [
        IPHONE,
        "Mozilla/5.0 (Linux; Android 10; CUBOT NOTE 20) AppleWebKit/537.36 Chrome/120.0 Mobile Safari/537.36",
        "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17328; Pro)",
        "Thunderbird/115.0",
        "",
    ],
    "proxy": [GMAIL, "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"],
    "prefetch": [APPLE, " mozilla/5.0 "],
    "scanner": [
        "Barracuda Sentinel (EE)",
        "Mozilla/5.0 (compatible; Mimecast URL Protect)",
        "Mozilla/5.0 (Windows NT 10.0) Proofpoint TAP",
        "Microsoft SafeLinks",
    ],
    "bot": [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/534+ (KHTML, like Gecko) BingPreview/1.0b",
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        "facebookexternalhit/1.1",
        "curl/8.4.0",
        "python-requests/2.31",
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_agents_are_known_for_what_they_are(kind: str) -> None:
    assert agent_kinds(pl.Series(AGENTS[kind])).to_list() == [kind] * len(AGENTS[kind])


@pytest.mark.parametrize(("proxies", "machines"), [(False, [False, True, False]), (True, [True, True, False])])
def test_an_image_proxy_is_a_person_unless_the_settings_say_otherwise(proxies: bool, machines: list[bool]) -> None:
    assert by_machine(pl.Series([GMAIL, APPLE, None]), proxies).to_list() == machines


@pytest.mark.parametrize("agents", [[], [None, None]])
def test_without_agents_nobody_is_a_machine(agents: list[None]) -> None:
    assert by_machine(pl.Series(agents, dtype=pl.String), True).to_list() == [False] * len(agents)


def acts_of(folder: Path, config: Config, flag: bool | None, agent: str | None, kind: str = "open") -> int:
    """Human acts of one who opened one mail once, an hour after the send."""
    sent = before(9)
    rows = frame_of([Row(1, "send", sent), Row(1, kind, sent + timedelta(hours=1))]).with_columns(
        is_machine_open=pl.Series([None, flag], dtype=pl.Boolean), user_agent=pl.Series([None, agent], dtype=pl.String)
    )
    return len(known(store_of(rows, folder), config=config).cleaned.utc_A)


@pytest.mark.parametrize(
    ("flag", "agent", "kind", "acts"),
    [
        (None, None, "open", 1),
        (None, IPHONE, "open", 1),
        (None, APPLE, "open", 0),
        (False, APPLE, "open", 1),
        (True, IPHONE, "open", 0),
        (None, "Barracuda Sentinel (EE)", "click", 0),
        (True, IPHONE, "click", 1),
    ],
)
def test_the_senders_flag_of_an_open_wins_over_the_agent(
    tmp_path: Path, flag: bool | None, agent: str | None, kind: str, acts: int
) -> None:
    assert acts_of(tmp_path, CONFIG, flag, agent, kind) == acts


@pytest.mark.parametrize(
    ("setting", "flag", "agent", "acts"),
    [
        ('clean.skip=["agents"]', None, APPLE, 1),
        ('clean.skip=["flags"]', True, IPHONE, 1),
        ("clean.image_proxies=machine", None, GMAIL, 0),
    ],
)
def test_rules_of_machines_can_be_left_out(
    tmp_path: Path, setting: str, flag: bool | None, agent: str, acts: int
) -> None:
    assert acts_of(tmp_path, load_config(None, [setting]), flag, agent) == acts


def test_settings_that_say_nothing_are_the_recipes() -> None:
    assert rules_of(CONFIG.clean) == Rules()


def test_every_rule_of_the_walk_can_be_left_out() -> None:
    names = ["duplicates", "prefetch", "scanner", "fast_clicks", "flood", "invalid", "bounces", "shifts"]
    for name in names:
        found = rules_of(load_config(None, [f'clean.skip=["{name}"]']).clean)
        changed = [field for field in Rules._fields if getattr(found, field) != getattr(Rules(), field)]
        assert len(changed) == 1, name


def test_campaigns_that_call_themselves_tests_are_told_from_tests_of_an_idea() -> None:
    names = pl.Series(["test", "QA", "Test_14", "seedlist 3", "spring-ab-test", "testimonials", "latest", "cmp_test"])
    assert are_tests(names, CONFIG.clean).tolist() == [True] * 4 + [False] * 4
    mine = load_config(None, ['clean.test_campaigns=["cmp_t?st", "a.c*"]']).clean
    assert are_tests(pl.Series(["cmp_test", "cmp_tst", "a.c", "abc"]), mine).tolist() == [True, False, True, False]
    assert not are_tests(pl.Series([1, 2], dtype=pl.UInt64), CONFIG.clean).any()


def test_a_test_campaign_does_not_exist_for_history(tmp_path: Path) -> None:
    sent = before(9)
    rows = frame_of([Row(u, kind, sent + timedelta(hours=h)) for u in (1, 2) for kind, h in (("send", 0), ("open", 1))])
    names = pl.Series(["test-1", "test-1", "spring", "spring"])
    store = store_of(rows.with_columns(campaign_id=names), tmp_path)
    found = known(store).cleaned
    assert (len(found.utc_S), len(found.utc_A)) == (1, 1)
    kept = known(store, config=load_config(None, ['clean.skip=["tests"]'])).cleaned
    assert (len(kept.utc_S), len(kept.utc_A)) == (2, 2)


def priors(store: Store, config: Config = CONFIG) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    policy = make_policy(config, None)
    return policy.reduce([policy.sums(known(store, b, config), store.buckets) for b in range(store.buckets)])


def assert_same_priors(store: Store, other: Store, policy: str = "attention") -> None:
    config = load_config(None, [f"model.policy={policy}"])
    one, two = priors(store, config), priors(other, config)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def crowd(users: int, seed: int = 0) -> list[Row]:
    """Mail of 40 days to people who open some of it at hours of their own."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(1, users + 1):
        wait = float(rng.uniform(0.1, 12))
        rows += [r for day in range(1, 40, 2) for r in mail(user, before(day, 9), wait if rng.random() < 0.4 else None)]
    return rows


def flood(user: int, per_day: int = 400) -> list[Row]:
    opened = [before(day, hour * 24 / per_day) for day in range(1, 30, 3) for hour in range(per_day)]
    return [Row(user, "open", at, 7) for at in opened] + mail(user, before(21, 9), 1)


@pytest.mark.parametrize("policy", ["attention", "histogram"])
def test_a_recipient_with_most_of_all_opens_changes_nothing_for_the_others(tmp_path: Path, policy: str) -> None:
    rows, machine = crowd(80), 1000
    without, with_ = store_of(rows, tmp_path / "a"), store_of([*rows, *flood(machine)], tmp_path / "b")
    found = known(with_)
    assert found.cleaned.machine_U[found.users["user_id"].to_numpy() == machine].tolist() == [FLOOD]
    assert_same_priors(without, with_, policy)
    config = load_config(None, [f"model.policy={policy}"])
    others = pl.col("user_id") != machine
    assert decide(without, config).equals(decide(with_, config).filter(others))


def test_a_recipient_below_the_flood_counts_for_a_bounded_number_of_acts() -> None:
    assert voice(np.array([0.0, 1.0, MOST_ACTS, 4 * MOST_ACTS])).tolist() == [1.0, 1.0, 1.0, 0.25]


@pytest.mark.parametrize(
    "columns",
    [
        {"address_status": "trap"},
        {"address_status": "disposable"},
        {"address_status": "invalid"},
        {"consent_profiling": False},
    ],
)
@pytest.mark.parametrize("policy", ["attention", "histogram"])
def test_bad_addresses_and_who_does_not_consent_teach_nobody(
    tmp_path: Path, columns: dict[str, object], policy: str
) -> None:
    rows, more = crowd(60), crowd(20, seed=1)
    late = [Row(r.user + 500, r.kind, r.at + timedelta(hours=7), r.campaign) for r in more]
    everyone = people(range(1, 61)).with_columns(pl.lit(None, pl.Series([*columns.values()]).dtype).alias(*columns))
    bad = people(range(501, 521), **columns)
    without = store_of(rows, tmp_path / "a", everyone)
    with_ = store_of([*rows, *late], tmp_path / "b", pl.concat([everyone, bad]))
    assert_same_priors(without, with_, policy)


def bounced(user: int, days: float, kind: str) -> pl.DataFrame:
    return frame_of([Row(user, "bounce", before(days), 99)]).with_columns(bounce_type=pl.lit(kind))


@pytest.mark.parametrize(
    ("kind", "days", "signup_days", "dead"),
    [
        ("hard", 5, None, True),
        ("Hard", 5, None, True),
        ("soft", 5, None, False),
        ("hard", 5, 2, False),
        ("hard", 5, 9, True),
    ],
)
def test_a_hard_bounce_makes_an_address_dead_until_a_later_sign_up(
    tmp_path: Path, kind: str, days: float, signup_days: float | None, dead: bool
) -> None:
    rows = pl.concat([frame_of(mail(1, before(9), 1)), bounced(1, days, kind)], how="diagonal")
    signed = None if signup_days is None else ORIGIN - timedelta(days=signup_days)
    frame = people([1]).with_columns(signup_ts=pl.Series([signed], dtype=pl.Datetime("ms", "UTC")))
    store = store_of(rows, tmp_path, frame)
    assert known(store).bad_U.tolist() == [dead]
    assert known(store, at=before(days)).bad_U.tolist() == [False]
    assert not known(store, config=load_config(None, ['clean.skip=["dead"]'])).bad_U.any()


def test_machines_by_agent_prefetch_for_nobody(tmp_path: Path) -> None:
    sends = [row for day in range(1, 9) for row in mail(1, before(day, 9), 0.01)]
    agents = pl.Series([APPLE if r.kind == "open" else None for r in sends], dtype=pl.String)
    rows = frame_of(sends).with_columns(pl.lit(None, pl.Boolean).alias("is_machine_open"), user_agent=agents)
    store = store_of(rows, tmp_path)
    assert known(store).cleaned.machine_U.tolist() == [HUMAN]
    unseen = load_config(None, ['clean.skip=["agents"]'])
    assert known(store, config=unseen).cleaned.machine_U.tolist() == [PREFETCH]
