from __future__ import annotations

from reports.coverage import coverage
from reports.html import render
from tests.reports.example import example


def test_what_nobody_tried_is_not_hidden_behind_what_does_not_apply() -> None:
    """FedAvg has no images, so the attack does not apply there; on FedDGM it does and was left out."""
    (table, _) = coverage(example())
    line = next(line for line in table.lines if line.attack == "loss")
    spot = line.spots[table.places.index(("outsider with images", "synthetic images"))]
    assert spot.worst is None
    assert [cell.status for cell in spot.others] == ["not tested", "not tested", "not applicable"]
    matrix = render(example()).split('<table class="matrix">')[1].split("</table>")[0]
    assert matrix.count('class="untested"') == 2


def test_every_cell_stands_in_the_table_of_its_arm() -> None:
    shown = [cell for table in coverage(example()) for _, cells in table.arms for cell in cells]
    assert sorted(map(repr, shown)) == sorted(map(repr, example().cells))
