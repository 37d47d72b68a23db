"""Distances to the k nearest: a naive twin, and where there are too few."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks import _distances
from attacks._distances import distances, k_nearest, nearest
from privfed.records import Records


def points(n: int, seed: int, width: int = 4) -> Records:
    generator = torch.Generator().manual_seed(seed)
    return Records(torch.randn(n, width, generator=generator), torch.randint(3, (n,), generator=generator))


@pytest.mark.parametrize("same_label", [False, True])
def test_k_nearest_is_a_sort_of_all_distances(same_label: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_distances, "_PAIRS", 30)
    a, b = points(11, 0), points(7, 1)
    got = k_nearest(a, b, 4, same_label)
    for i in range(11):
        rivals = [j for j in range(7) if not same_label or a.labels[i] == b.labels[j]]
        wanted = sorted(float((a.inputs[i] - b.inputs[j]).norm()) for j in rivals)[:4]
        np.testing.assert_allclose(got[i], wanted + [np.nan] * (4 - len(wanted)), rtol=1e-5)
    np.testing.assert_allclose(got[:, 0], nearest(a, b, same_label))


def test_fewer_others_than_asked_for_leave_unknowns() -> None:
    got = k_nearest(points(3, 0), points(2, 1), 4)
    np.testing.assert_array_equal(np.isnan(got), [[False, False, True, True]] * 3)
    assert np.isnan(k_nearest(points(3, 0), points(0, 1), 2)).all()
    assert k_nearest(points(0, 0), points(2, 1), 2).shape == (0, 2)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected inputs of shape \(4,\), got inputs=\(5,\)"):
        list(distances(points(2, 0), points(2, 0, width=5)))
