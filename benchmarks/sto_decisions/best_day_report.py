"""The table of the best day: what a random split says of a choice, what later mail says, and what is true."""

from collections.abc import Sequence
from statistics import fmean

from sto_decisions.records import Record
from sto_decisions.tables import living_facts, missing, number, policies_of, shown, table

WORDS = (
    "Click rate of mails that went out on the day a policy names for their recipient, over that of mails on any day "
    "(in brackets: on the best common day), less 1, in %; customers above the value threshold of a simulated CDP of "
    "5,849 campaigns. *Random split*: rows of the same weeks dealt at random to learn from and to judge by, features "
    "of the whole time, as articles do it. *Out of time*: learnt before, judged on the month after. ±: half of the 95 "
    "% interval of one seed (bootstrap over users or campaigns, the wider). *True*: what the choice is worth by the "
    "probabilities that the clicks were drawn from."
)


def best_day(records: Sequence[Record]) -> list[str]:
    """Policies down, both ways to judge them across, means over seeds."""
    mine = [r for r in records if r.suite == "best_day"]
    if not mine:
        return []
    rows = []
    for policy in policies_of(mine):
        found = [r for r in mine if (r.policy, r.status) == (policy, "ok")]
        if found:
            rows.append([shown(policy), *(cell for name in ("split", "late") for cell in _cells(found, name))])
    names = ("policy", "random split says", "true", "out of time says", "true")
    return [f"#### The best day\n\n{WORDS} {living_facts(mine)}", table(names, rows), *missing(mine)]


def _cells(records: Sequence[Record], name: str) -> tuple[str, str]:
    """What was measured and what is true, over any day and over the best common day."""
    any_, common, true, true_common = (
        _mean(records, f"{name}_{key}") for key in ("any", "common", "any_true", "common_true")
    )
    low, high = (_mean(records, f"{name}_any_{end}") for end in ("low", "high"))
    half = None if low is None or high is None else (high - low) / 2
    return f"{number(any_)} ± {number(half)} ({number(common)})", f"{number(true)} ({number(true_common)})"


def _mean(records: Sequence[Record], name: str) -> float | None:
    values = [value for r in records if (value := r.values.get(name)) is not None]
    return fmean(values) if values else None
