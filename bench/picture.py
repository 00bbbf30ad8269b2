# SPDX-License-Identifier: LGPL-2.1-or-later
"""The picture of docs/performance.md: how long a cycle takes, and how that grows with what is attached."""

import math
from xml.sax.saxutils import escape

WIDTH, ROW, LEFT = 760, 17, 250
OURS, OTHERS, AXIS, TEXT = "#2a6fb0", "#b8b8b8", "#dddddd", "#333333"


def picture(bars, lines):
    """@bars: for each title, {who: ms}. @lines: for each of who, {attached: ms}. All on logarithmic scales."""
    parts, top = [], 30
    for title, values in bars.items():
        drawn, top = bar_chart(title, values, top)
        parts += drawn
    if lines:
        drawn, top = line_chart("One more cycle (ms), by how many images are attached", lines, top)
        parts += drawn
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" '
            'font-family="sans-serif" font-size="12">')
    return "\n".join([head, f'<rect width="{WIDTH}" height="{top}" fill="white"/>', *parts, "</svg>", ""])


def text(x, y, content, anchor="start", size=12, fill=TEXT):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">{escape(content)}</text>'


def line(x1, y1, x2, y2, stroke, width=1):
    return f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="{stroke}" stroke-width="{width}"/>'


def colour(who):
    return OURS if who.startswith("loopmount") else OTHERS


class Scale:
    """From the decade below the smallest value to the one above the largest."""

    def __init__(self, values, begin, end):
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self.begin, self.end = begin, end

    def __call__(self, value):
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def decades(self):
        return [10 ** power for power in range(self.low, self.high + 1)]


def bar_chart(title, values, top):
    scale = Scale(values.values(), LEFT, WIDTH - 60)
    bottom = top + 14 + ROW * len(values)
    parts = [text(10, top, title, size=14)]
    for decade in scale.decades():
        parts.append(line(scale(decade), top + 10, scale(decade), bottom, AXIS))
        parts.append(text(scale(decade), bottom + 13, f"{decade:g} ms", "middle", 10))
    for i, (who, value) in enumerate(values.items()):
        y = top + 14 + ROW * i
        parts.append(text(LEFT - 8, y + 11, who, "end"))
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{scale(value) - LEFT:.0f}" height="{ROW - 4}" fill="{colour(who)}"/>')
        parts.append(text(scale(value) + 5, y + 11, f"{value:.3g}", size=11))
    return parts, bottom + 45


def line_chart(title, lines, top):
    """The steps on the horizontal axis are as wide as each other, whatever the numbers."""
    counts = sorted({count for values in lines.values() for count in values})
    scale = Scale([value for values in lines.values() for value in values.values()], top + 240, top + 20)
    step = (WIDTH - 200 - 60) / max(1, len(counts) - 1)
    parts = [text(10, top, title, size=14)]
    for decade in scale.decades():
        parts.append(line(60, scale(decade), WIDTH - 200, scale(decade), AXIS))
        parts.append(text(54, scale(decade) + 4, f"{decade:g}", "end", 10))
    for i, count in enumerate(counts):
        parts.append(text(60 + i * step, top + 256, str(count), "middle", 10))
    ends = {}
    for who, values in lines.items():
        points = [(60 + counts.index(count) * step, scale(value)) for count, value in sorted(values.items())]
        for (x1, y1), (x2, y2) in zip(points, points[1:]):
            parts.append(line(x1, y1, x2, y2, colour(who), 3 if colour(who) == OURS else 2))
        ends[who] = points[-1]
    last = math.inf
    for who, (x, y) in sorted(ends.items(), key=lambda end: -end[1][1]):
        last = min(y + 4, last - 13)
        parts.append(text(x + 8, last, who))
    return parts, top + 285


# ---- flames ----

FLAME_ROW, FLAME_LEAST = 16, 0.003
SHADES = ["#f4c27a", "#f0b06a", "#ec9e5c", "#f6cf8f"]


def flames(title, stacks):
    """@stacks: {(outermost function, ..., innermost one): how often}. Wide is what was often found; up is inwards."""
    tree = merged(stacks)
    boxes, depth = [], 0
    for x, level, width, name in placed(tree, 0, 0):
        if width >= FLAME_LEAST:
            boxes.append((x, level, width, name))
            depth = max(depth, level + 1)
    height = 30 + depth * FLAME_ROW + 10
    parts = [text(10, 20, title, size=14)]
    for x, level, width, name in boxes:
        parts.append(flame(10 + x * (WIDTH - 20), height - 10 - (level + 1) * FLAME_ROW, width, name))
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">')
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="white"/>', *parts, "</svg>", ""])


def merged(stacks):
    """A tree of {name: [share of all, {name: ...}]}."""
    total, tree = sum(stacks.values()), {}
    for stack, count in stacks.items():
        branch = tree
        for name in stack:
            node = branch.setdefault(name, [0, {}])
            node[0] += count / total
            branch = node[1]
    return tree


def placed(tree, x, level):
    for name, (width, inner) in sorted(tree.items()):
        yield x, level, width, name
        yield from placed(inner, x, level + 1)
        x += width


def flame(x, y, share, name):
    """A browser shows the title where the name has no room."""
    width = share * (WIDTH - 20)
    letters = int(width / 6.5)
    shown = name if len(name) <= letters else name[:letters - 1] + "…" if letters > 3 else ""
    return (f'<g><title>{escape(name)}: {100 * share:.1f} %</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" '
            f'height="{FLAME_ROW - 1}" fill="{SHADES[sum(map(ord, name)) % len(SHADES)]}"/>'
            f'{text(x + 2, y + 11, shown, size=10) if shown else ""}</g>')
