"""Small panels of lines over time, one below the other, as one SVG that needs nothing else."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 110, 70, 26, 44  # pixels of a panel, and around it
COLOURS = ("#2463a8", "#b3541e", "#3d7d40")


class Panel(NamedTuple):
    """One panel: its lines have one unit."""

    title: str
    unit: str
    lines: Mapping[str, Sequence[tuple[float, float]]]  # name -> (seconds, value)


def svg(title: str, panels: Sequence[Panel]) -> str:
    """The whole picture."""
    height = TOP + len(panels) * (HEIGHT + GAP) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height}" font-family="sans-serif" '
        f'font-size="11"><title>{escape(title)}</title><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, TOP + number * (HEIGHT + GAP))
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, top: float) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    end_s = max((at_s for at_s, _ in points), default=1.0) or 1.0
    most = _rounded(max((value for _, value in points), default=1.0))
    parts = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{escape(panel.title)}</text>']
    for share in (0, 0.5, 1):
        y = top + HEIGHT * (1 - share)
        parts.append(f'<path d="M{LEFT} {y}h{WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{most * share:g} {panel.unit}</text>')
    for tenth in range(0, 11, 2):
        x, minute = LEFT + WIDTH * tenth / 10, end_s * tenth / 600
        parts.append(f'<text x="{x}" y="{top + HEIGHT + 14}" text-anchor="middle">{minute:.3g} min</text>')
    for colour, line in zip(COLOURS, panel.lines.values(), strict=False):
        path = " ".join(f"{LEFT + WIDTH * s / end_s:.1f},{top + HEIGHT * (1 - v / most):.1f}" for s, v in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
    x = LEFT + WIDTH
    for colour, name in reversed(list(zip(COLOURS, panel.lines, strict=False))):
        parts.append(f'<text x="{x}" y="{top - 8}" text-anchor="end" fill="{colour}">{escape(name)}</text>')
        x -= 7 * len(name) + 14
    return parts


def _rounded(most: float) -> float:
    """The end of an axis: the next of 1, 2, 5, 10."""
    step = 1e-3
    while step < 1e12:
        for factor in (1, 2, 5):
            if most <= step * factor:
                return step * factor
        step *= 10
    return most
