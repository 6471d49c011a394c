"""What the tables of a report are made of: names, figures, facts of the measurement."""

from collections.abc import Sequence

from sto_decisions.engine import PREFIX
from sto_decisions.records import Record

NO_EVIDENCE = "These worlds are invented: the figures show what a policy does in them and are no evidence of lift."


def facts(records: Sequence[Record]) -> str:
    """Machine, revision and day; each of them once, however many there are."""
    cpus = ", ".join(sorted({r.cpu for r in records}))
    revisions = ", ".join(sorted({r.git_revision or "?" for r in records}))
    days = sorted({r.timestamp[:10] for r in records})
    return f"{cpus}, revision {revisions}, {days[0]}{f' to {days[-1]}' if len(days) > 1 else ''}."


def living_facts(records: Sequence[Record]) -> str:
    """Those of senders who go on: their sizes and seeds besides."""
    users, seeds = ", ".join(f"{n:,}" for n in sorted({r.users for r in records})), sorted({r.seed for r in records})
    return f"{users} recipients a world, mean of seeds {', '.join(map(str, seeds))}. {facts(records)} {NO_EVIDENCE}"


def missing(records: Sequence[Record]) -> list[str]:
    """A line for each policy that has no figure, and why."""
    reasons = dict.fromkeys((r.policy, r.status, r.reason) for r in records if r.status != "ok")
    return [f"{shown(p)} {status}: {' '.join(why.split())}" for p, status, why in reasons]


def policies_of(records: Sequence[Record]) -> list[str]:
    """In the order in which they were measured."""
    return list(dict.fromkeys(r.policy for r in records))


def shown(policy: str) -> str:
    """A policy of the engine in bold."""
    return f"**{policy.removeprefix(PREFIX)}**" if policy.startswith(PREFIX) else policy


def number(value: float | None, digits: int = 0) -> str:
    """A dash for none, and no minus before a zero."""
    text = "-" if value is None else f"{value:.{digits}f}"
    return text.removeprefix("-") if value is not None and float(text) == 0 else text


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
