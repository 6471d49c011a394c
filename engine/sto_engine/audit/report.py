"""From what was counted and priced to the report of `audit.run`, whose keys are a contract."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from sto_engine.audit import coverage
from sto_engine.audit.days import as_date
from sto_engine.audit.prices import Price
from sto_engine.audit.quarantine import quarantined
from sto_engine.audit.sample import Outlook, Sampled
from sto_engine.audit.tally import DROPS, Tally
from sto_engine.audit.verdict import check_all, reasons, told, verdict_of
from sto_engine.config import Config
from sto_engine.history.agents import KINDS
from sto_engine.ingest.store import Store
from sto_engine.tables import EVENT_TYPES, MACHINES

NAMED = 10  # campaigns that the report names
LARGE = 100  # a campaign of as many times test_recipients is a real one
_NULLS = ("tz_offset", "device_type", "campaign_type", "is_machine_open", "user_agent")
_UNSAFE_GAIN = 0.02
_ACTS_TO_SHARE = 1_000


@dataclass(frozen=True)
class Facts:
    """All that the report is written from."""

    store: Store
    config: Config
    day: date
    default: date
    plausible: date
    ahead: int
    total: Tally
    sampled: Sampled
    full: Outlook
    prices: Mapping[str, Price]

    @property
    def n(self) -> Mapping[str, int]:
        return self.total.counts

    @property
    def scale(self) -> float:
        """Users a user of the sample stands for."""
        return self.n["users"] / max(len(self.sampled.users), 1)


def write_report(facts: Facts) -> dict[str, Any]:
    """The whole report as plain JSON values."""
    kept_out = quarantined(facts.store)
    covered = _coverage(facts)
    shares = {**_shares(facts, sum(kept_out["events"].values())), "coverage": covered["share_of_day"]}
    checks = check_all(shares, facts.config.audit)
    return {
        "verdict": verdict_of(checks),
        "store": str(facts.store.path),
        "date": facts.day.isoformat(),
        "default_date": facts.default.isoformat(),
        "checks": told(checks),
        "events": _events(facts),
        "ingest": {
            **{f"quarantined:{rule}": n for rule, n in sorted(kept_out["events"].items())},
            **{f"recipients_quarantined:{rule}": n for rule, n in sorted(kept_out["recipients"].items())},
            **{f"nulled:{column}": n for column, n in sorted(_nulled(facts.store).items())},
            **{f"null:{name}": facts.n[f"null:{name}"] for name in _NULLS},
        },
        "rules": {**{name: facts.n[name] for name in DROPS}, "test_campaign_rows": facts.n["test_rows"]},
        "machines": _machines(facts),
        "machine_opens_by_provider": _providers(facts.total),
        "history": _history(facts),
        "addresses": _addresses(facts),
        "zones": {name: facts.n[f"zone:{name}"] for name in ("profile", "events_only", "none", "shifted")}
        | {name: facts.n[f"zone:{name}"] for name in ("comparable", "conflict")},
        "time": _time(facts),
        "campaigns": _campaigns(facts),
        "coverage": covered,
        "cost": {name: _cost(facts, price) for name, price in facts.prices.items()},
        "sample": _sample(facts),
        "reasons": reasons(checks),
        "warnings": [*reasons(checks), *_warnings(facts, covered)],
    }


def _nulled(store: Store) -> Counter[str]:
    """Values that ingest made null because they broke a rule, by column."""
    return sum((Counter(g.get("nulled", {})) for g in store.manifest["generations"]), Counter())


def share(part: float, whole: float) -> float | None:
    """part / whole, None of nothing."""
    return round(part / whole, 6) if whole else None


def _shares(facts: Facts, kept_out: int) -> dict[str, float | None]:
    n, opens = facts.n, sum(facts.total.opens.values())
    acts, exact = n["type:open"] + n["type:click"], _exact_duplicates(facts)
    rows, sends = n["events"] + exact, n["sends"]
    return {
        "machine_share": share(sum(facts.total.machine_opens.values()), opens),
        "dead_share": share(n["dead"], n["users"]),
        "duplicate_share": share(exact + n["duplicates"], rows),
        "orphan_share": share(n["acts_without_send"], acts) if sends else None,
        "early_share": share(n["acts_before_send"], acts),
        "zone_conflict_share": share(n["zone:conflict"], n["zone:comparable"]),
        "no_zone_share": share(n["zone:none"], n["users"]),
        "user_share": share(facts.total.most["human_acts"], n["human_acts"]) if _many_acts(facts) else None,
        "quarantine_share": share(kept_out, kept_out + rows),
        "future_share": share(facts.ahead, n["events"]),
    }


def _many_acts(facts: Facts) -> bool:
    return facts.n["human_acts"] >= _ACTS_TO_SHARE


def _exact_duplicates(facts: Facts) -> int:
    """Rows equal in every key, those that a compaction has dropped included."""
    merged = sum(int(g.get("duplicates", 0)) for g in facts.store.manifest["generations"])
    return facts.n["rows"] - facts.n["events"] + merged


def _events(facts: Facts) -> dict[str, Any]:
    by_type = {name: facts.n[f"type:{name}"] for name in EVENT_TYPES}
    rest = {"window": facts.n["window"], "after_the_date": facts.n["events_later"]}
    return {"events": facts.n["events"], "exact_duplicates": _exact_duplicates(facts), **rest, **by_type}


def _machines(facts: Facts) -> dict[str, Any]:
    opens, machine = sum(facts.total.opens.values()), sum(facts.total.machine_opens.values())
    kinds = {name: facts.n[f"machine:{name}"] for name in MACHINES}
    agents = {f"opens_by_agent:{name}": facts.n[f"agent:{name}"] for name in KINDS if facts.n[f"agent:{name}"]}
    top = share(facts.total.most["opens"], opens)
    shares = {"share_of_opens": share(machine, opens), "share_of_opens_by_one_user": top}
    return {**kinds, "opens": opens, "machine_opens": machine, **shares, **agents}


def _providers(total: Tally) -> dict[str, Any]:
    return {
        name: {"opens": n, "machine": total.machine_opens[name], "share": share(total.machine_opens[name], n)}
        for name, n in sorted(total.opens.items(), key=lambda item: (-item[1], item[0]))
    }


def _history(facts: Facts) -> dict[str, Any]:
    names = ("below_history_as_it_came", "below_history_cleaned")
    flagged = facts.prices["flagged_opens"]
    return {
        "users": facts.n["users"],
        "with_events": facts.n["active"],
        "history_acts": facts.config.audit.history_acts,
        **{name: facts.n[name] for name in names},
        "slots_that_move_with_flagged_opens": round(flagged.moved * facts.scale),
    }


def _addresses(facts: Facts) -> dict[str, Any]:
    names = ("audience", "dead", "no_sign_of_life", "known_dead", "profiling_refused")
    reason = {f"not_mailed:{name}": n for name, n in sorted(facts.total.suppressed.items())}
    return {**{name: facts.n[name] for name in names}, "dead_share": share(facts.n["dead"], facts.n["users"]), **reason}


def _time(facts: Facts) -> dict[str, Any]:
    return {
        "first_day": as_date(min(facts.total.days)).isoformat(),
        "newest_day": as_date(max(facts.total.days)).isoformat(),
        "newest_plausible_date": facts.plausible.isoformat(),
        "events_far_ahead": facts.ahead,
    }


def _campaigns(facts: Facts) -> dict[str, Any]:
    """All campaigns of the window; `small`: promos to a handful where others go to many."""
    total, few = pl.concat(facts.total.campaigns), facts.config.audit.test_recipients
    by_id = total.group_by("campaign_id").agg(pl.col("recipients").sum(), pl.col("is_promo", "test").any())
    largest = int(by_id["recipients"].max() or 0)  # type: ignore[arg-type]
    is_small = pl.col("is_promo") & (pl.col("recipients") < few) & (largest >= LARGE * few) & ~pl.col("test")
    small, tests = by_id.filter(is_small), by_id.filter("test")
    says = pl.col("campaign_id").str.contains(r"(?i)(^|[^a-z])(test|qa|seed|seedlist|proof)([^a-z]|$)")
    named = by_id.filter(says & ~pl.col("test"))
    rare = small if 2 * len(small) < len(by_id) else small.clear()  # else that is how this sender works
    return {
        "campaigns": len(by_id),
        "largest": largest,
        "tests_left_out": len(tests),
        "small": len(rare),
        "named_like_tests": len(named),
        "look_like_tests": pl.concat([rare, named])
        .unique("campaign_id")
        .sort("campaign_id")["campaign_id"][:NAMED]
        .to_list(),
    }


def _coverage(facts: Facts) -> dict[str, Any]:
    hours = facts.total.send_hours
    found = coverage.gains(facts.sampled, facts.full, hours)
    scaled = {name: round(value * facts.scale, 3) for name, value in found.items()}
    if not facts.n["sends"]:
        scaled = dict.fromkeys(scaled)  # type: ignore[assignment]
    opened = facts.n["opened_soon"] + facts.n["opened_later"]
    return {
        **coverage.hours(hours),
        "opened_2h_or_later": facts.n["opened_later"],
        "opened_2h_or_later_share": share(facts.n["opened_later"], opened),
        **{f"expected_opens_{name}" if name in ("control", "best") else name: n for name, n in scaled.items()},
        **{name: round(value, 4) for name, value in coverage.spread(facts.sampled, facts.full).items()},
    }


def _cost(facts: Facts, price: Price) -> dict[str, Any]:
    opens = round(price.opens * facts.scale, 3) if facts.n["sends"] else None
    return {"opens": opens, "share": round(price.share, 6), "moved": round(price.moved * facts.scale)}


def _sample(facts: Facts) -> dict[str, Any]:
    mailed = int(facts.sampled.mailed_U.sum())
    return {"users": len(facts.sampled.users), "mailed": mailed, "scale": round(facts.scale, 6)}


def _warnings(facts: Facts, covered: Mapping[str, Any]) -> list[str]:
    found = []
    if facts.ahead:
        found.append(
            f"{facts.ahead} events lie far ahead of all others: by itself score would take {facts.default} and see no "
            f"history; mend their timestamps and pass --date {facts.plausible} until then"
        )
    if facts.n["machine:flood"]:
        top = _machines(facts)["share_of_opens_by_one_user"]
        found.append(
            f"recipients who act more than a person can, and therefore count for nothing: {facts.n['machine:flood']}; "
            f"the busiest of all recipients holds {top:.1%} of opens"
        )
    like_tests = _campaigns(facts)["look_like_tests"]
    if like_tests:
        found.append(
            f"campaigns {', '.join(like_tests)} look like tests: name them in clean.test_campaigns if they are"
        )
    gain, unverified = covered["gain"], covered["unverified_gain"]
    if facts.n["sends"] and unverified > _UNSAFE_GAIN * covered["expected_opens_best"]:
        found.append(
            f"{unverified:,.0f} of the {gain:,.0f} opens that the engine expects to gain a campaign lie at hours that "
            f"hardly any mail was sent at ({covered['busiest_share']:.0%} left at {covered['busiest_hour']}:00 local): "
            "nothing in this history can confirm them; set experiment.random_share, and read the gain from its arm"
        )
    return found
