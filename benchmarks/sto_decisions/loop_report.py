"""Tables of the closed loop: captured lift as campaigns go by, regret, and what a player has over `attention`."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from sto_decisions.engine import PREFIX
from sto_decisions.outcome import series
from sto_decisions.records import Record
from sto_decisions.tables import living_facts, missing, number, policies_of, shown, table

AFTER = (1, 5, 10, 20, 30)
WEEK = 7
RIVAL = PREFIX + "attention"
DRAWS = 2_000
HEAD = """#### The closed loop

![cumulative regret by world and player](../results/decisions_loop.svg)

{campaigns} campaigns, one a day, each learnt from before the next. Captured: % of the oracle's lift over 10:00, opens
within 2 h by the truth of the day, over the week of campaigns that ends with this one (a weekend has little to gain).
Regret: opens within 2 h that everybody's best hours would have had more, all campaigns, per 1,000 recipients; opened:
those that were drawn. Less {rival}: captured in all campaigns after the tenth by the player less by {rival}, in
points, with a 95 % interval over users. {facts}"""


def loop(records: Sequence[Record]) -> list[str]:
    """A table a world: what a player captured as campaigns went by, his regret, and what he has over `attention`."""
    mine = [r for r in records if r.suite == "loop"]
    if not mine:
        return []
    campaigns = max(len(series(r.values, "regret")) for r in mine)
    parts = [HEAD.format(campaigns=campaigns, rival=shown(RIVAL), facts=living_facts(mine))]
    after = [n for n in AFTER if n <= campaigns]
    names = [*(f"captured, {n}" for n in after), "regret", "opened", f"less {shown(RIVAL)}"]
    for world in dict.fromkeys(r.world for r in mine):
        of_one = [r for r in mine if r.world == world]
        rows = [[shown(p), *_loop_row(of_one, p, after)] for p in policies_of(of_one)]
        parts += [f"World `{world}`:", table(["player", *names], rows), *missing(of_one)]
    return parts


def _loop_row(records: Sequence[Record], player: str, after: Sequence[int]) -> list[str]:
    mine = [r for r in records if r.policy == player and r.status == "ok"]
    if not mine:
        return ["-"] * (len(after) + 3)
    captured = [number(fmean(captured_to(r, n) for r in mine)) for n in after]
    regret = fmean(sum(defined(r, "regret")) for r in mine)
    opened = fmean(sum(defined(r, "opened_2h")) for r in mine)
    return [*captured, number(regret), number(opened), _difference(records, player)]


def captured_to(record: Record, campaign: int) -> float:
    """In %, over the week of campaigns that ends with this one: ratio of sums, since a weekend has little to gain."""
    week = slice(max(0, campaign - WEEK), campaign)
    ours, fixed, best = (sum(defined(record, f"{name}_2h")[week]) for name in ("ours", "fixed", "best"))
    return 100 * (ours - fixed) / (best - fixed) if best > fixed else float("nan")


def _difference(records: Sequence[Record], player: str) -> str:
    found = difference(records, player, RIVAL) if player != RIVAL else None
    return "" if found is None else f"{found[0]:+.1f} ({found[1]:+.1f} to {found[2]:+.1f})"


def difference(records: Sequence[Record], player: str, rival: str) -> tuple[float, float, float] | None:
    """Captured by a player less captured by a rival, in points, with a 95 % interval: groups of users drawn again.

    Over the seeds that both have; None where there are none or too few campaigns.
    """
    one, other = (
        {r.seed: r for r in records if r.policy == p and r.status == "ok" and "ours_of_group@0" in r.values}
        for p in (player, rival)
    )
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None
    more_G = np.concatenate([_groups(one[s], "ours") - _groups(other[s], "ours") for s in seeds])
    gain_G = np.concatenate([_groups(one[s], "gain") for s in seeds])
    drawn_DG = np.random.default_rng(0).integers(0, len(more_G), (DRAWS, len(more_G)))
    points_D = 100 * more_G[drawn_DG].sum(axis=1) / gain_G[drawn_DG].sum(axis=1)
    low, high = np.quantile(points_D, [0.025, 0.975]).tolist()
    return float(100 * more_G.sum() / gain_G.sum()), low, high


def _groups(record: Record, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(defined(record, f"{name}_of_group"))


def defined(record: Record, name: str) -> list[float]:
    """A series whose figures are all defined."""
    return [value for value in series(record.values, name) if value is not None]
