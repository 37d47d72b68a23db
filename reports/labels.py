"""Places direct labels beside the marks of a chart so that they cover as little as possible."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from reports.axes import Box

Cross = tuple[float, float, float, float, float, float]
"""Centre x and y, then the ends of the interval in x and in y."""
Spot = tuple[float, float, str]
"""Where a text stands and its SVG text-anchor."""

CHARACTER, ASCENT, DESCENT = 7.3, 10, 3
OUTSIDE = 10.0  # a label cut by the frame is worse than one that covers a line
FAR = 1.5  # between two free places the nearer one


def place_labels(
    crosses: Sequence[Cross], labels: Sequence[str], frame: Box, taken: Iterable[Box] = ()
) -> list[Spot]:
    """A position for each label, where it covers least of the crosses, of `taken` and of other labels."""
    occupied = [*taken, *(box for cross in crosses for box in drawn(cross))]
    spots: list[Spot] = []
    for cross, label in zip(crosses, labels, strict=True):
        spot = min(_spots(cross), key=lambda s, c=cross, t=label: _cost(s, c, t, frame, occupied))  # type: ignore[misc]
        occupied.append(label_box(spot, label))
        spots.append(spot)
    return spots


def label_box(spot: Spot, label: str) -> Box:
    """The rectangle a label covers, from an average width of its characters."""
    x, y, anchor = spot
    width = CHARACTER * len(label)
    left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    return Box(left, y - ASCENT, left + width, y + DESCENT)


def overlap(a: Box, b: Box) -> float:
    """The area two rectangles share."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    return max(0.0, width) * max(0.0, height)


def drawn(cross: Cross) -> list[Box]:
    """What a cross covers: its marker and its two intervals."""
    x, y, x0, x1, y0, y1 = cross
    return [
        Box(x - 6, y - 6, x + 6, y + 6),
        Box(min(x0, x1), y - 2, max(x0, x1), y + 2),
        Box(x - 2, min(y0, y1), x + 2, max(y0, y1)),
    ]


def _spots(cross: Cross) -> list[Spot]:
    x, y, x0, x1, y0, y1 = cross
    sides = [(x + 9, "start"), (x - 9, "end")]
    rows = (-8, 16, -22, 30, -36, 44, -50, 58, -64, 72)
    beside = [(px, y + dy, anchor) for dy in rows for px, anchor in sides]
    ends = [(max(x0, x1) + 5, y + 4, "start"), (min(x0, x1) - 5, y + 4, "end")]
    tips = [(x, min(y0, y1) - 6, "middle"), (x, max(y0, y1) + 14, "middle")]
    return [(round(px, 1), round(py, 1), anchor) for px, py, anchor in (*beside, *ends, *tips)]


def _cost(spot: Spot, cross: Cross, label: str, frame: Box, occupied: Iterable[Box]) -> float:
    box = label_box(spot, label)
    outside = (box.right - box.left) * (box.bottom - box.top) - overlap(box, frame)
    across = max(box.left - cross[0], cross[0] - box.right, 0.0)
    down = max(box.top - cross[1], cross[1] - box.bottom, 0.0)
    covered = sum(overlap(box, other) for other in occupied)
    return OUTSIDE * outside + covered + FAR * math.hypot(across, down)
