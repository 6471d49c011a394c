"""A whole benchmark run: for each case its world, its truth, its contest, its lines of results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sto_bench.cases import Case, select
from sto_bench.contest import Contestant, Watch
from sto_bench.ours import our_contestant
from sto_bench.peers import registry
from sto_bench.records import Record, make_records, red_gates, warnings
from sto_bench.runner import Rules, contest
from sto_bench.verify import ask_xgboost
from sto_bench.worlds import World, make_world
from sto_kernels import margins

__all__ = ["Plan", "make_plan", "red_gates", "run", "summary", "warnings"]

NO_PEERS = "none"
IMPLS = tuple(name for name in margins.IMPLS if name != "auto")
RULES = {"quick": Rules(rounds=5, target_s=0.3), "default": Rules(), "full": Rules()}


@dataclass(frozen=True)
class Plan:
    """What to run: cases, and for each the implementations and peers named here or else its own."""

    cases: Sequence[Case]
    impls: tuple[str, ...]
    peers: tuple[str, ...]
    threads: int
    seed: int
    rules: Rules


def make_plan(
    tier: str, cases: tuple[str, ...], impls: tuple[str, ...], peers: tuple[str, ...], threads: int, seed: int
) -> Plan:
    """The plan of a tier (quick, default, full), or of the cases, implementations and peers that are named.

    Raises ValueError for a name that is not known; "none" as a peer means no peers.
    """
    for what, names, known in (("impl", impls, IMPLS), ("peer", peers, (*registry.NAMES, NO_PEERS))):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"{what} must be one of {', '.join(known)}; found {', '.join(unknown)}")
    return Plan(select(cases, tier), impls, peers, threads, seed, RULES[tier])


def run(plan: Plan, watch: Watch, keep: Callable[[list[Record]], None]) -> list[Record]:
    """Run the plan; `keep` is given the records of each case as soon as it is done."""
    found: list[Record] = []
    watch.start("cases", len(plan.cases))
    for case in plan.cases:
        records = run_case(case, plan, watch)
        keep(records)
        found += records
        watch.advance("cases")
    return found


def run_case(case: Case, plan: Plan, watch: Watch) -> list[Record]:
    """One case: everything is made before the first clock starts."""
    watch.info("case_started", case=case.name)
    world = make_world(case, plan.seed, plan.threads)
    outcomes = contest(contestants(world, plan), case.users, plan.rules, watch)
    for outcome in outcomes:
        facts = {"case": case.name, "scorer": outcome.name}
        if outcome.status == "skipped":
            watch.info("skipped", **facts, reason=outcome.reason)
        elif outcome.status != "ok":
            watch.warn(outcome.status, **facts, reason=outcome.reason)
    return make_records(case, outcomes, plan.threads)


def contestants(world: World, plan: Plan) -> list[Contestant]:
    """Ours first, then the peers that are not there already."""
    impls = plan.impls or world.case.impls
    peers = [name for name in plan.peers or world.case.peers if name not in (*impls, NO_PEERS)]
    oracle = ask_xgboost(world, plan.threads)
    ours = [our_contestant(world, oracle, impl, plan.threads) for impl in dict.fromkeys(impls)]
    return [*ours, *(registry.peer_contestant(world, oracle, name, plan.threads) for name in dict.fromkeys(peers))]


def summary(records: Sequence[Record]) -> dict[str, dict[str, str]]:
    """For people: by case, users/s of each contestant, or why there is none."""
    found: dict[str, dict[str, str]] = {}
    for r in records:
        if r.metric == "users_per_s":
            found.setdefault(r.case, {})[r.impl] = _cell(r)
    return found


def _cell(r: Record) -> str:
    if r.median is None or r.q20 is None or r.q80 is None:
        return f"{r.status}: {r.reason}"
    ratios = ", ".join(f"{value:.3g} x {name}" for name, value in r.ratio_to.items())
    limit = f"; {r.median / r.port_limit:.0%} of the port limit" if r.port_limit else ""
    return f"{r.median:,.0f} users/s ({r.q20:,.0f}-{r.q80:,.0f}){'; ' + ratios if ratios else ''}{limit}"
