"""Pictures of boxes and arrows as SVG, the same bytes each time, with nothing but Python: the site needs no network.

`layered` finds a place for every box by itself; `placed` is told where they are.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise

__all__ = ["layered", "placed"]

HEIGHT = 26  # of a box
LETTER = 7.4  # width of one
ROW = 66  # from row to row
GAP = 22  # between boxes of a row
MARGIN = 12
SWEEPS = 24  # down and up through the rows, until fewer lines cross
LINE = 12  # of a label
WRAP = 27  # letters of a label's line

STYLE = """\
text { font: 13px sans-serif; text-anchor: middle; fill: #222 }
.box { fill: #eef2f7; stroke: #56708f }
.arrow { fill: none; stroke: #56708f; marker-end: url(#head) }
.label { font-size: 10.5px; fill: #444; stroke: #fff; stroke-width: 4px; paint-order: stroke }"""

Point = tuple[float, float]


def svg(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """A whole picture. Its ground is white, whatever page it stands on."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
            f' viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{STYLE}\n</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"'
            ' orient="auto"><path d="M0 0 8 4 0 8z" fill="#56708f"/></marker></defs>',
            '<rect width="100%" height="100%" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def box(name: str, x: float, y: float) -> str:
    """A box around a name; (x, y) is its middle."""
    wide = width(name)
    left, top = x - wide / 2, y - HEIGHT / 2
    return (
        f'<rect class="box" x="{left:.0f}" y="{top:.0f}" width="{wide:.0f}" height="{HEIGHT}" rx="4"/>'
        f'<text x="{x:.0f}" y="{y + 4.5:.0f}">{escape(name)}</text>'
    )


def width(name: str) -> float:
    """Of a name's box."""
    return round(len(name) * LETTER) + 16


# ---- rows that are found --------------------------------------------------------------------------------------


def layered(graph: Mapping[str, Sequence[str]], bottom: Iterable[str], title: str) -> str:
    """What leads to what, from the top down.

    Args:
        graph: a name to those that its arrows lead to; without a cycle.
        bottom: names of the lowest row.
        title: of the picture, for those who cannot see it.
    """
    rows, lines = _rows(graph, set(bottom))
    _sort(rows, lines)
    at = _across(rows, lines)
    left = min(at[name] - half(name) for name in at)
    right = max(at[name] + half(name) for name in at)
    where = {
        name: (at[name] - left + MARGIN, MARGIN + HEIGHT / 2 + level * ROW)
        for level, row in enumerate(rows)
        for name in row
    }
    parts = []
    for way in lines:
        (x, y), *more = [where[name] for name in way]
        y += HEIGHT / 2
        path = f"M{x:.0f} {y:.0f}"
        for number, (to, down) in enumerate(more):
            end = down - HEIGHT / 2 if number == len(more) - 1 else down
            middle = (y + end) / 2
            path += f" C{x:.0f} {middle:.0f} {to:.0f} {middle:.0f} {to:.0f} {end:.0f}"
            x, y = to, end
        parts.append(f'<path class="arrow" d="{path}"/>')
    parts += [box(name, *where[name]) for row in rows for name in row if isinstance(name, str)]
    return svg(right - left + 2 * MARGIN, (len(rows) - 1) * ROW + HEIGHT + 2 * MARGIN, title, parts)


Name = str | tuple[str, str, int]  # a box, or where an arrow passes a row: (from, to, row)


def half(name: Name) -> float:
    """Half of the room that it takes in its row."""
    return width(name) / 2 if isinstance(name, str) else 4


def _rows(graph: Mapping[str, Sequence[str]], bottom: set[str]) -> tuple[list[list[Name]], list[list[Name]]]:
    """The rows, each name as high as its arrows let it be; and every arrow as the names that it passes."""
    names = list(dict.fromkeys([*graph, *(target for targets in graph.values() for target in targets)]))
    level = dict.fromkeys(names, 0)
    for _ in names:  # the longest way has no more steps than this
        for name, targets in graph.items():
            for target in targets:
                level[target] = max(level[target], level[name] + 1)
    lowest = max(level.values())
    level |= dict.fromkeys(bottom & set(names), lowest)
    rows: list[list[Name]] = [[] for _ in range(lowest + 1)]
    for name in names:
        rows[level[name]].append(name)
    lines = []
    for name, targets in graph.items():
        for target in targets:
            passed: list[Name] = [(name, target, row) for row in range(level[name] + 1, level[target])]
            for row, point in enumerate(passed, level[name] + 1):
                rows[row].append(point)
            lines.append([name, *passed, target])
    return rows, lines


def _neighbours(lines: list[list[Name]]) -> tuple[dict[Name, list[Name]], dict[Name, list[Name]]]:
    above: dict[Name, list[Name]] = {}
    below: dict[Name, list[Name]] = {}
    for way in lines:
        for upper, lower in pairwise(way):
            below.setdefault(upper, []).append(lower)
            above.setdefault(lower, []).append(upper)
    return above, below


def _sort(rows: list[list[Name]], lines: list[list[Name]]) -> None:
    """Puts each row into an order in which few arrows cross: by the mean place of the neighbours, to and fro."""
    above, below = _neighbours(lines)

    def crossings() -> int:
        count = 0
        for upper, lower in pairwise(rows):
            place = {name: number for number, name in enumerate(lower)}
            ends = [at for name in upper for at in sorted(place[target] for target in below.get(name, ()))]
            count += sum(a > b for number, a in enumerate(ends) for b in ends[number + 1 :])
        return count

    best, found = crossings(), [list(row) for row in rows]
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        order = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
        for number in order:
            fixed = rows[number - 1 if down else number + 1]
            place = {name: at for at, name in enumerate(fixed)}
            near = above if down else below
            mean = {
                name: sum(place[other] for other in near[name]) / len(near[name])
                if near.get(name)
                else float(at)
                for at, name in enumerate(rows[number])
            }
            rows[number].sort(key=mean.__getitem__)
        if crossings() < best:
            best, found = crossings(), [list(row) for row in rows]
    rows[:] = found


def _across(rows: list[list[Name]], lines: list[list[Name]]) -> dict[Name, float]:
    """Where the middle of each name lies: near its neighbours, in the row's order, and no closer than the gap."""
    above, below = _neighbours(lines)

    def apart(a: Name, b: Name) -> float:
        return half(a) + half(b) + GAP

    at: dict[Name, float] = {}
    for row in rows:
        for before, name in zip([None, *row], row, strict=False):
            at[name] = 0.0 if before is None else at[before] + apart(before, name)
        middle = (at[row[0]] + at[row[-1]]) / 2
        at |= {name: at[name] - middle for name in row}
    for _ in range(60):
        for row in [*rows, *reversed(rows)]:
            wanted = {
                name: sum(at[other] for other in near) / len(near)
                if (near := [*above.get(name, ()), *below.get(name, ())])
                else at[name]
                for name in row
            }
            # From the left nobody is pushed further than needed, from the right neither: the mean keeps both honest.
            from_left, from_right = dict(wanted), dict(wanted)
            for before, name in pairwise(row):
                from_left[name] = max(wanted[name], from_left[before] + apart(before, name))
            for name, after in zip(row[-2::-1], row[:0:-1], strict=False):
                from_right[name] = min(wanted[name], from_right[after] - apart(name, after))
            at |= {name: (from_left[name] + from_right[name]) / 2 for name in row}
    return at


# ---- places that are given ------------------------------------------------------------------------------------


def placed(places: Mapping[str, Point], arrows: Iterable[tuple[str, str, str]], title: str) -> str:
    """Boxes where they are said to be, and labelled arrows between them.

    Args:
        places: the middle of each box; what follows a space in a name is not shown, so that one may stand twice.
        arrows: (from, to, label).
        title: of the picture, for those who cannot see it.
    """
    lines, labels = [], []
    for source, target, text in arrows:
        a, b = places[source], places[target]
        start, end = _edge(source, a, b), _edge(target, b, a)
        lines.append(f'<path class="arrow" d="M{start[0]:.0f} {start[1]:.0f} L{end[0]:.0f} {end[1]:.0f}"/>')
        words = textwrap.wrap(text, WRAP)
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - (len(words) - 1) * LINE / 2 + 4
        labels += [
            f'<text class="label" x="{x:.0f}" y="{y + number * LINE:.0f}">{escape(word)}</text>'
            for number, word in enumerate(words)
        ]
    boxes = [box(name.split(" ")[0], *place) for name, place in places.items()]
    right = max(x for x, y in places.values()) + WRAP * 3 + MARGIN  # a label may be wider than the box
    low = max(y for x, y in places.values()) + HEIGHT / 2 + MARGIN
    return svg(right, low, title, [*lines, *boxes, *labels])


def _edge(name: str, middle: Point, towards: Point) -> Point:
    """Where a line from the middle of a box leaves it."""
    across, down = towards[0] - middle[0], towards[1] - middle[1]
    half, tall = width(name.split(" ")[0]) / 2, HEIGHT / 2
    scale = min(half / abs(across) if across else 1e9, tall / abs(down) if down else 1e9)
    return middle[0] + across * scale, middle[1] + down * scale
