"""The captured lift of every policy in every simulated world, as bars in an SVG made of text: no plotting library."""

from collections.abc import Sequence
from statistics import fmean

from sto_decisions.engine import PREFIX
from sto_decisions.records import Record
from sto_decisions.svg import OTHERS, drawing, line, text

PANEL_W, BAR_H, GAP, NAME_W, HEAD_H, TOP_H = 210, 15, 5, 150, 24, 46
LOW, HIGH = -40.0, 100.0
COLUMNS = 4
OURS = "#1f6feb"
METRIC = "captured_percent_2h"
TITLE = "% of the oracle's lift over 10:00 local time (opens within 2 h), mean of histories and seeds"
NOTE = "simulated worlds: what a policy does in them, no evidence of lift"


def draw(records: Sequence[Record]) -> str:
    """One panel a world, one bar a policy: the mean over histories and seeds of what it captured within two hours."""
    mine = [r for r in records if r.suite == "world" and r.status == "ok" and r.values[METRIC] is not None]
    worlds = list(dict.fromkeys(r.world for r in mine))
    policies = [p for p in dict.fromkeys(r.policy for r in mine) if p != "oracle"]
    panel_h = HEAD_H + len(policies) * (BAR_H + GAP) + GAP
    rows = -(-len(worlds) // COLUMNS)
    width = NAME_W + min(COLUMNS, max(1, len(worlds))) * PANEL_W
    parts = [text(8, 18, TITLE, 13), text(8, 35, NOTE, 11, fill=OTHERS)]
    for number, world in enumerate(worlds):
        x, y = NAME_W + number % COLUMNS * PANEL_W, TOP_H + number // COLUMNS * panel_h
        if number % COLUMNS == 0:
            parts += [text(8, _bar_y(y, i) + BAR_H - 3, p, 11) for i, p in enumerate(policies)]
        parts += _panel(world, [r for r in mine if r.world == world], policies, x, y)
    return drawing(parts, width, TOP_H + rows * panel_h)


def _panel(world: str, records: Sequence[Record], policies: Sequence[str], x: int, y: int) -> list[str]:
    zero = x + _across(0)
    parts = [text(zero, y + 15, world, 12, weight="bold"), line(zero, y + HEAD_H, zero, _bar_y(y, len(policies)))]
    for number, policy in enumerate(policies):
        found = [value for r in records if r.policy == policy and (value := r.values[METRIC]) is not None]
        if found:
            parts += _bar(policy, fmean(found), x, _bar_y(y, number))
    return parts


def _bar(policy: str, value: float, x: int, y: int) -> list[str]:
    """A bar from zero, cut at the edge of the panel; the figure beside it is the true one."""
    zero, end = x + _across(0), x + _across(max(LOW, min(HIGH, value)))
    fill = OURS if policy.startswith(PREFIX) else OTHERS
    rect = f'<rect x="{min(zero, end)}" y="{y}" width="{abs(end - zero)}" height="{BAR_H}" fill="{fill}"/>'
    return [rect, text(max(zero, end) + 4, y + BAR_H - 3, f"{value:.0f}", 10)]


def _across(value: float) -> int:
    return round((value - LOW) / (HIGH - LOW) * (PANEL_W - 36))


def _bar_y(y: int, number: int) -> int:
    return y + HEAD_H + number * (BAR_H + GAP)
