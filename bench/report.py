# SPDX-License-Identifier: LGPL-2.1-or-later
"""Numbers for people: medians, goals, and tables that Markdown takes, too."""

import math
import statistics

# These columns are words; all others are numbers, to the right.
WORDS = ["who", "what", "of", "goal", "wanted", "measured", "met", "to compare"]


def median(values):
    return statistics.median(values)


def p95(values):
    return percentile(values, 0.95)


def percentile(values, share):
    """The smallest of the values that is not exceeded by this share of them."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Goals:
    """What is wanted and what was measured, in the order in which it was. @compare: what else tells of the same."""

    def __init__(self):
        self.rows = []

    def at_most(self, what, measured, limit, unit, compare=""):
        self.add(what, f"at most {limit:g} {unit}", f"{number(measured)} {unit}", measured <= limit, compare)

    def at_least(self, what, measured, limit, unit, compare=""):
        self.add(what, f"at least {limit:g} {unit}", f"{number(measured)} {unit}", measured >= limit, compare)

    def none(self, what, measured, unit, compare=""):
        self.add(what, f"no {unit}", f"{number(measured)} {unit}", measured == 0, compare)

    def unknown(self, what, wanted, why):
        self.rows.append([what, wanted, "", "unknown", why])

    def add(self, what, wanted, measured, met, compare):
        self.rows.append([what, wanted, measured, "yes" if met else "NO", compare])

    def table(self):
        return table("Goals: wanted, measured, met", ["goal", "wanted", "measured", "met", "to compare"], self.rows)


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
    """A title and a table, with words to the left and numbers to the right."""
    cells = [list(columns)] + [[number(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    left = [column in WORDS for column in columns]
    lines = ["| " + " | ".join(cell.ljust(width) if to_left else cell.rjust(width)
                               for cell, width, to_left in zip(row, widths, left)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) if to_left else "-" * (width + 1) + ":"
                                   for width, to_left in zip(widths, left)) + "|")
    return "\n".join([f"### {title}", "", *lines, ""])
