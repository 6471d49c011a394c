"""How figures go over the campaigns: a panel a world, a line a player, in an SVG made of text."""

from collections.abc import Mapping, Sequence

from sto_decisions.svg import FAINT, OTHERS, drawing, line, text

PANEL_W, PANEL_H, LEFT, TOP, GAP, LEGEND_W, LEAST_W = 330, 260, 46, 60, 30, 170, 760
COLOURS = ("#1f6feb", "#cf222e", "#1a7f37", "#8250df", "#bf8700", "#0a7e8c", "#bc4c00", "#57606a", "#e85aad", "#24292f")
NOTE = "simulated worlds: what a policy does in them, no evidence of lift"
Curve = Sequence[tuple[float, float]]


def draw(title: str, panels: Mapping[str, Mapping[str, Curve]]) -> str:
    """`panels`: world -> player -> points (campaign, value), all panels on one scale."""
    players = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    points = [point for curves in panels.values() for curve in curves.values() for point in curve]
    scale = _Scale([x for x, _ in points], [y for _, y in points])
    parts = [text(8, 18, title, 13), text(8, 35, NOTE, 11, fill=OTHERS)]
    for place, (world, curves) in enumerate(panels.items()):
        left = LEFT + place * (PANEL_W + GAP + LEFT)
        parts += [text(left, TOP - 6, world, 12, weight="bold"), *scale.frame(left)]
        parts += [scale.curve(left, curve, _colour(players, name)) for name, curve in curves.items()]
    right = LEFT + len(panels) * (PANEL_W + GAP + LEFT) - LEFT
    for place, name in enumerate(players):
        y = TOP + 12 + 18 * place
        parts += [line(right, y - 4, right + 18, y - 4, _colour(players, name)), text(right + 24, y, name, 11)]
    return drawing(parts, max(right + LEGEND_W, LEAST_W), TOP + PANEL_H + 40)


def _colour(players: Sequence[str], name: str) -> str:
    return COLOURS[players.index(name) % len(COLOURS)]


class _Scale:
    """Places of values in a panel; the axes reach from the least to the most of all panels, and over zero."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.x = min(xs), max(xs)
        low, high = min(*ys, 0.0), max(*ys, 0.0)
        self.step = _round_step((high - low) / 5)
        bottom = self.step * (low // self.step)
        self.y = bottom, max(self.step * -(-high // self.step), bottom + self.step)

    def frame(self, left: int) -> list[str]:
        """Grid lines with their values, and the campaigns below."""
        parts = []
        for number in range(round((self.y[1] - self.y[0]) / self.step) + 1):
            value = self.y[0] + number * self.step
            at = self._down(value)
            parts += [line(left, at, left + PANEL_W, at, FAINT), text(left - 40, at + 4, f"{value:g}", 10)]
        for value in sorted({self.x[0], *range(5, int(self.x[1]) + 1, 5), self.x[1]}):
            parts.append(text(self._across(left, value) - 4, TOP + PANEL_H + 16, f"{value:g}", 10))
        return [*parts, text(left + PANEL_W // 2 - 30, TOP + PANEL_H + 32, "campaigns", 10, fill=OTHERS)]

    def curve(self, left: int, curve: Curve, colour: str) -> str:
        points = " ".join(f"{self._across(left, x)},{self._down(y)}" for x, y in curve)
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'

    def _across(self, left: int, x: float) -> int:
        low, high = self.x
        return left + round((x - low) / max(high - low, 1) * PANEL_W)

    def _down(self, y: float) -> int:
        low, high = self.y
        return TOP + PANEL_H - round((y - low) / (high - low) * PANEL_H)


def _round_step(step: float) -> float:
    """The next of 1, 2, 5, 10, 20 ..."""
    size = 1.0
    while True:
        for factor in (1, 2, 5):
            if factor * size >= step:
                return factor * size
        size *= 10
