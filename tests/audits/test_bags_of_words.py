"""Sentences are alike by their words, whatever the order; images place by place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audits.bags_of_words import alike
from audits.reconstruction_measures import l2


def test_the_order_of_words_does_not_matter() -> None:
    text = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    shuffled = text[:, [4, 2, 0, 1, 3]]
    assert np.diag(alike(shuffled, text)).max() < 1e-6
    assert alike(shuffled, text)[0, 1] == pytest.approx(
        float((text[0].sum(0) - text[1].sum(0)).norm()), rel=1e-5
    )


def test_padding_changes_nothing() -> None:
    text = torch.zeros(1, 5, 4)
    text[0, :2] = 1.0
    moved = torch.zeros(1, 5, 4)
    moved[0, 3:] = 1.0
    assert alike(text, moved)[0, 0] == 0.0


def test_images_are_compared_pixel_by_pixel() -> None:
    images = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(alike(images[:2], images), l2(images[:2], images))


def test_sentences_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        alike(torch.zeros(1, 5, 4), torch.zeros(1, 6, 4))
