"""Tables of cold starts, and the curves of all suites of senders who go on."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from sto_decisions import curves
from sto_decisions.loop_report import defined
from sto_decisions.outcome import series
from sto_decisions.players import ORACLE
from sto_decisions.records import Record
from sto_decisions.tables import living_facts, missing, number, policies_of, shown, table

SEEN = (0, 1, 3, 5, 10)
STARTS = {
    "newcomers": "newcomers of a sender whose other recipients have a history",
    "new_account": "a new account, where nobody has a history",
}
REGRET = "cumulative regret per 1,000 recipients: opens within 2 h that the best hours would have had more"
LIFT = "% of the oracle's lift over 10:00 captured after so many campaigns"


def cold(records: Sequence[Record]) -> list[str]:
    """A table for each cold start: players down, worlds across, captured after so many campaigns."""
    parts = []
    for start in dict.fromkeys(r.history for r in records if r.suite == "cold"):
        mine = [r for r in records if r.suite == "cold" and r.history == start]
        worlds = list(dict.fromkeys(r.world for r in mine))
        seen = ", ".join(str(n) for n in SEEN)
        head = f"#### Cold start: {STARTS[start]}\n\n![captured lift](../results/decisions_{start}.svg)\n\n"
        head += f"% of the oracle's lift over 10:00 that was captured after {seen} campaigns, one every other day; "
        head += f"opens within 2 h by the truth. {living_facts(mine)}"
        rows = [
            [shown(p), *(_cell([r for r in mine if (r.policy, r.world) == (p, w)]) for w in worlds)]
            for p in policies_of(mine)
        ]
        parts += [head, table(["player", *worlds], rows), *missing(mine)]
    return parts


def _cell(records: Sequence[Record]) -> str:
    """Means over seeds, of each campaign that is shown."""
    mine = [series(r.values, "captured_2h") for r in records if r.status == "ok"]
    shown_n = [n for n in SEEN if mine and n < len(mine[0])]
    return " / ".join(number(fmean(v for one in mine if (v := one[n]) is not None)) for n in shown_n) or "-"


def charts(records: Sequence[Record]) -> dict[str, str]:
    """What is drawn, by the end of the file's name."""
    mine = [r for r in records if r.status == "ok"]
    of_loop = _panels([r for r in mine if r.suite == "loop"], _regret)
    found = {"loop": curves.draw(REGRET, of_loop)} if of_loop else {}
    for start, words in STARTS.items():
        panels = _panels([r for r in mine if (r.suite, r.history) == ("cold", start)], _captured)
        if panels:
            found[start] = curves.draw(f"{LIFT}: {words}", panels)
    return found


def _regret(record: Record) -> curves.Curve:
    return list(enumerate(defined(record, "cumulative_regret"), 1))


def _captured(record: Record) -> curves.Curve:
    """At the campaigns of the table: between them lie weekends, where there is little to gain or lose."""
    values = series(record.values, "captured_2h")
    return [(n, value) for n in SEEN if n < len(values) and (value := values[n]) is not None]


def _panels(
    records: Sequence[Record], points: Callable[[Record], curves.Curve]
) -> Mapping[str, Mapping[str, curves.Curve]]:
    """World -> player -> his curve, the mean over seeds; the oracle's is a straight line and left out."""
    panels: dict[str, dict[str, curves.Curve]] = {}
    for world in dict.fromkeys(r.world for r in records):
        panels[world] = {}
        for player in policies_of([r for r in records if r.world == world and r.policy != ORACLE]):
            mine = [points(r) for r in records if (r.world, r.policy) == (world, player)]
            panels[world][player] = [(same[0][0], fmean(y for _, y in same)) for same in zip(*mine, strict=False)]
    return panels
