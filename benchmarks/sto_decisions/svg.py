"""Pieces of a drawing made of text: no plotting library."""

from collections.abc import Sequence
from html import escape

INK, FAINT, OTHERS = "#24292f", "#d0d7de", "#8b949e"


def drawing(parts: Sequence[str], width: int, height: int) -> str:
    """The parts on white."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def line(x1: int, y1: int, x2: int, y2: int, stroke: str = FAINT) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{stroke}"/>'


def text(x: int, y: int, words: str, size: int, fill: str = INK, weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}" font-weight="{weight}">{escape(words)}</text>'
