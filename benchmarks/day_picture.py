"""A day drawn as SVG: plots over its hours, what was out of order shaded behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT = 900, 130, 60
Bar = tuple[float, float, float]


@dataclass(frozen=True)
class Plot:
    """One of the plots: bars as (hour, how high, opacity); `unit` stands behind the highest one in the title."""

    title: str
    bars: Sequence[Bar]
    unit: str = ""


@dataclass(frozen=True)
class Shade:
    """From which hour to which something was out of order."""

    begin: float
    end: float
    name: str


def draw(plots: Sequence[Plot], hours: float, shades: Sequence[Shade] = ()) -> str:
    """The plots under each other."""
    foot = 16 * len(shades) + 10 if shades else 0
    tall = len(plots) * (HEIGHT + 50) + foot
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{tall}" '
             'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']  # fmt: skip
    scale = (WIDTH - LEFT - 20) / hours
    for number, plot in enumerate(plots):
        top, most = 30 + number * (HEIGHT + 50), max((y for _, y, _ in plot.bars), default=1) or 1
        parts.append(f'<text x="{LEFT}" y="{top - 8}">{plot.title} (most: {most:.0f}{plot.unit})</text>')
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - 20}" height="{HEIGHT}" fill="#f4f4f4"/>')
        for mark, shade in enumerate(shades, start=1):
            at, wide = LEFT + shade.begin * scale, max(2.0, (shade.end - shade.begin) * scale)
            box = f'x="{at:.1f}" y="{top}" width="{wide:.1f}" height="{HEIGHT}"'
            parts.append(f'<rect {box} fill="#f2c6b4" fill-opacity="0.7"/>')
            parts.append(f'<text x="{at + 1:.1f}" y="{top + 11}" font-size="10">{mark}</text>')
        parts.append('<g fill="#33658a">')
        for x, y, strong in plot.bars:
            at, high = LEFT + x * scale, y / most * HEIGHT
            opacity = "" if strong == 1.0 else f' fill-opacity="{strong}"'
            parts.append(f'<rect x="{at:.1f}" y="{top + HEIGHT - high:.1f}" width="2" height="{high:.1f}"{opacity}/>')
        parts.append("</g>")
        parts += [
            f'<text x="{LEFT + hour * scale:.0f}" y="{top + HEIGHT + 14}">{hour}h</text>'
            for hour in range(0, int(hours) + 1, max(1, int(hours) // 12))
        ]
    under = len(plots) * (HEIGHT + 50) + 10
    parts += [
        f'<text x="{LEFT}" y="{under + 16 * (mark - 1)}">{mark}: {shade.name}</text>'
        for mark, shade in enumerate(shades, start=1)
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"
