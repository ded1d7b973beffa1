from __future__ import annotations

import pytest
from error_cases import analysis

from smidgen.analysis.label_noise_chart import label_noise_chart, wasserstein_chart


def test_bars_are_exact_and_noisy_ap():
    noise = analysis().label_noise
    assert noise is not None
    shown = [one for one in noise.by_size if one.objects]
    picture = label_noise_chart(noise)
    heights = [bar.get_height() for bar in picture.figure.axes[0].patches]
    assert heights == pytest.approx([one.exact for one in shown] + [one.mean for one in shown])
    assert picture.data == noise.to_json()


def test_bars_are_ap_under_both_measures():
    comparison = analysis().wasserstein
    shown = [one for one in comparison.by_size if one.objects]
    picture = wasserstein_chart(comparison)
    heights = [bar.get_height() for bar in picture.figure.axes[0].patches]
    assert heights[: 2 * len(shown)] == pytest.approx([one.iou for one in shown] + [one.wasserstein for one in shown])
    assert "C = 12.8 px" in picture.figure.get_suptitle() and picture.data == comparison.to_json()
