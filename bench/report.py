# SPDX-License-Identifier: LGPL-2.1-or-later
"""Numbers for people: medians, verdicts, and tables that Markdown takes, too."""

import math
import statistics


def median(values):
    return statistics.median(values)


def p95(values):
    return percentile(values, 0.95)


def percentile(values, share):
    """The smallest of the values that is not exceeded by this share of them."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def verdict(text, *conditions):
    """A goal, and whether it is met: all of the conditions have to be."""
    return f"{text}: {'met' if all(conditions) else 'NOT MET'}"


def number(value):
    """Three digits are as many as a benchmark has to say."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def table(title, columns, rows):
    """A title and a table, with the first column to the left and the others to the right, but for the goals."""
    cells = [list(columns)] + [[number(cell) for cell in row] for row in rows]
    cells = [row + [""] * (len(columns) - len(row)) for row in cells]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    left = [column in ("", "who", "goal", "what") for column in columns]
    lines = ["| " + " | ".join(cell.ljust(width) if to_left else cell.rjust(width)
                               for cell, width, to_left in zip(row, widths, left)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) if to_left else "-" * (width + 1) + ":"
                                   for width, to_left in zip(widths, left)) + "|")
    return "\n".join([f"### {title}", "", *lines, ""])
